"""The doctor under mpirun."""

import json
import sys

import pytest
from support import Job

pytestmark = pytest.mark.mpi
DOCTOR = [sys.executable, "-m", "qtrl_hpc.doctor"]
PMIX = ("PMIX_RANK", "PMIX_NAMESPACE", *(f"PMIX_SERVER_URI{version}" for version in ("2", "21", "3", "4", "41")))


def doctor(tmp_path, *flags, ranks=2, before=(), environ=None):
    job = Job([*before, *DOCTOR, *flags], tmp_path, ranks, environ or {})
    return job.wait(), job


def test_ranks_report_together(tmp_path):
    code, job = doctor(tmp_path, "--json", ranks=3, environ={"OMPI_MCA_mpi_yield_when_idle": "1"})
    found = json.loads(job.out)
    assert [facts["rank"] for facts in found["ranks"]] == [0, 1, 2]
    assert [facts["sees_folder"] for facts in found["ranks"]] == [None, True, True]
    assert [facts["locks"] for facts in found["ranks"]] == [True, True, True]
    assert all(facts["yields"] and facts["circuit_ms"] > 0 and not facts["ulfm_on"] for facts in found["ranks"])
    assert found["ranks"][0]["reduction_us"] > 0
    levels = {finding["topic"]: finding["level"] for finding in found["findings"]}
    assert levels["MPI"] == levels["PMIx"] == levels["same directory"] == levels["locks"] == "ok"
    assert code == (1 if found["hurts"] else 0)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".doctor")] == []
    assert job.processes() == []


def test_fault_tolerance_is_seen_by_every_rank(tmp_path):
    """What ``mpirun --with-ft ulfm`` sets."""
    _, job = doctor(tmp_path, "--json", environ={"OMPI_MCA_mpi_ft_enable": "1"})
    assert [facts["ulfm_on"] for facts in json.loads(job.out)["ranks"]] == [True, True]


def test_copies_of_rank_0_are_told_once(tmp_path):
    """Processes that mpirun started but MPI does not connect, as with a launcher of another MPI."""
    without = [word for name in PMIX for word in ("-u", name)]
    code, job = doctor(tmp_path, ranks=3, before=["env", *without])
    assert code == 1
    assert job.out.count("qtrl_hpc.doctor: 1 rank") == 1
    said = " ".join(job.out.split())
    assert "mpirun started 3 processes (OMPI_COMM_WORLD_SIZE), but mpi4py's MPI" in said
    assert "use the mpirun that belongs to that library" in said


def test_settings_that_differ_between_ranks(tmp_path):
    before = ["sh", "-c", 'OMP_NUM_THREADS=$((OMPI_COMM_WORLD_RANK + 1)) exec "$@"', "sh"]
    _, job = doctor(tmp_path, "--json", before=before)
    [alike] = [finding for finding in json.loads(job.out)["findings"] if finding["topic"] == "ranks alike"]
    assert alike["level"] == "mind"
    assert "OMP_NUM_THREADS: 1 on rank 0" in alike["text"]
    assert "2 on rank 1" in alike["text"]


def test_bad_flags_are_told_once(tmp_path):
    code, job = doctor(tmp_path, "--run-dir=")
    assert code == 2
    assert job.errors == ["error: argument --run-dir: got '', expected the name of a directory"]
