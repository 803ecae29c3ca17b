"""Where Slurm cannot be had, the tests that need one say why."""

import os
import shutil

import pytest
import slurm

pytestmark = pytest.mark.cluster


def test_without_slurm_a_user_who_is_not_root_is_told_what_is_missing(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(slurm.NoSlurmError, match=r"^no slurmctld, and only root with apt-get could install it$"):
        slurm.install()


def test_without_slurm_and_packages_root_is_told_what_apt_says(monkeypatch, tmp_path):
    apt = tmp_path / "apt-get"
    apt.write_text("#!/bin/sh\necho 'E: no network' >&2\nexit 100\n")
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    monkeypatch.setattr(shutil, "which", lambda name: str(apt) if name == "apt-get" else None)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(slurm.NoSlurmError, match=r"^apt-get cannot install slurm-wlm munge .*: E: no network$"):
        slurm.install()
