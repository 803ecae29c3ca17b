"""The benchmark: that it measures and tells truly what it did. How fast anything is, is not for tests to say."""

import json
import math
import os
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

from qtrl_hpc.bench import peaks, peers, processes, subjects
from qtrl_hpc.bench.__main__ import SECTIONS, command, main
from qtrl_hpc.bench.measure import in_turn
from qtrl_hpc.bench.report import report_paths
from qtrl_hpc.bench.rows import MeasurementError, Row, measured
from qtrl_hpc.errors import UserError
from qtrl_hpc.launcher import LAUNCHER_VARIABLES
from qtrl_hpc.quantum.ansatz import Ansatz

CHEAP = ["aer", "mapping", "action"]
FIELDS = {
    "name": str, "what": str, "figure": float, "unit": str, "low": float, "high": float, "repetitions": int,
    "reach": str | None, "reached": bool | None, "note": str, "others": float,
}  # fmt: skip


@pytest.fixture(autouse=True)
def unlaunched(monkeypatch):
    for size, rank in LAUNCHER_VARIABLES.values():
        monkeypatch.delenv(size, raising=False)
        monkeypatch.delenv(rank, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A run of the cheap sections: the finished process and the folder of its report."""
    folder = tmp_path_factory.mktemp("bench") / "reports"
    arguments = ["--quick", "--json", "--only", *CHEAP, "--output", str(folder)]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("OMPI_", "PMI", "SLURM_"))}
    done = subprocess.run(
        [sys.executable, "-m", "qtrl_hpc.bench", *arguments], capture_output=True, text=True, env=environ, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done, folder


def test_json_has_every_field_and_finite_figures(reported):
    report = json.loads(reported[0].stdout)
    assert set(report) == {"format", "format_version", "command", "quick", "machine", "rows", "seconds"}
    assert (report["format"], report["format_version"], report["quick"]) == ("qtrl_hpc-bench", 1, True)
    names = [row["name"] for row in report["rows"]]
    assert names == ["aer", "aer.overhead", "mapping.tuned", "mapping.qtrl", "action", "action.step"]
    for row in report["rows"]:
        assert set(row) == set(FIELDS)
        assert all(isinstance(row[name], kind) for name, kind in FIELDS.items())
        assert all(math.isfinite(row[name]) and row[name] > 0 for name in ("figure", "low", "high"))
        assert row["low"] <= row["figure"] <= row["high"]
        assert row["repetitions"] > 1


def test_json_names_the_machine(reported):
    machine = json.loads(reported[0].stdout)["machine"]
    for name in ("date", "git revision", "cpu", "cores", "caches", "threads", "load average at start", "versions"):
        assert machine[name] or machine[name] == 0.0
    assert set(machine["peers"]) == set(peers.PACKAGES)


def test_progress_without_a_terminal_is_a_line_a_section(reported):
    lines = reported[0].stderr.splitlines()
    assert lines[:3] == ["1/3 aer", "2/3 mapping", "3/3 action"]


def test_report_is_written_in_both_forms(reported):
    done, folder = reported
    markdown, data = sorted(folder.iterdir(), reverse=True)
    assert json.loads(data.read_text()) == json.loads(done.stdout)
    text = markdown.read_text()
    assert text.startswith(f"# Benchmark, {markdown.stem}\n")
    assert all(f"| {row['name']} |" in text for row in json.loads(done.stdout)["rows"])


def test_table_shows_every_row(capfd):
    assert command(["--quick", "--only", "mapping"]) == 0
    out, _ = capfd.readouterr()
    assert "mapping.tuned" in out
    assert "mapping.qtrl" in out
    assert "load average at start" in out


def test_report_of_the_same_day_is_not_overwritten(tmp_path):
    (tmp_path / "2026-01-02.json").touch()
    with pytest.raises(UserError, match=r"^--output: got .* holds 2026-01-02.json already, expected"):
        report_paths(tmp_path, "2026-01-02")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^--output: got .*file, which cannot be written to"):
        report_paths(tmp_path / "file", "2026-01-02")


def test_every_section_is_explained():
    text = (Path(__file__).parents[1] / "docs/benchmarks/README.md").read_text()
    assert [name for name in SECTIONS if f"| `{name}" not in text] == []


def test_unknown_name_is_refused_with_the_list(capfd):
    assert main(["--only", "mapping", "speed"]) == 2
    assert capfd.readouterr().err == f"error: --only: got 'speed', expected some of {', '.join(SECTIONS)}\n"


def test_under_a_launcher_it_is_refused(monkeypatch, capfd):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "1")
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    assert main(["--only", "mapping"]) == 2
    assert capfd.readouterr().err.startswith("error: qtrl_hpc.bench: got started by a launcher")


def test_section_that_fails_is_told_and_does_not_stop_the_others(monkeypatch, capfd):
    def fail(quick, say):
        raise MeasurementError("no such thing")

    monkeypatch.setitem(SECTIONS, "aer", fail)
    assert command(["--quick", "--json", "--only", "aer", "mapping"]) == 1
    out, err = capfd.readouterr()
    rows = json.loads(out)["rows"]
    assert [row["figure"] is None for row in rows] == [True, False, False]
    assert rows[0]["note"] == "no such thing"
    assert "aer: no such thing" in err


def test_absent_peers_are_said_to_be_absent(monkeypatch):
    for module in ("pennylane", "torchquantum"):
        monkeypatch.setitem(sys.modules, module, None)  # what Python itself keeps of a module that is not there
    subject = subjects.circuit(2, 1)
    for peer in peers.PEERS:
        gradient, note = peers.ready(peer, subject, np.zeros(subject.ansatz.num_angles))
        assert gradient is None
        assert note.startswith("not installed (")
        assert peer.install in note


@pytest.mark.parametrize("peer", peers.PEERS, ids=lambda peer: peer.name)
def test_peer_computes_our_gradient(peer):
    pytest.importorskip(peer.name)
    subject = subjects.circuit(3, 2)
    gradient, note = peers.ready(peer, subject, subjects.simulation(subject).both())
    assert gradient is not None, note


def test_peer_whose_gradient_is_another_is_not_timed():
    wrong = peers.Peer("wrong", "", 1e-9, lambda subject: lambda: np.ones(subject.ansatz.num_angles), "")
    subject = subjects.circuit(2, 1)
    gradient, note = peers.ready(wrong, subject, np.zeros(subject.ansatz.num_angles))
    assert gradient is None
    assert note == "its gradient differs from ours by 1.0e+00, expected at most 1e-09"


def test_nominal_work_by_hand_at_two_qubits():
    # Two U3 on 2 pairs each, two controlled-U3 on 1 pair each: 6 pairs. Forward 28 each; backward 28 + 28 + 32.
    work = peaks.nominal_work(Ansatz(num_qubits=2, num_layers=1))
    assert (work.forward, work.backward, work.total) == (168, 528, 696)


def test_nominal_work_of_the_papers_circuit_is_28_megaflop():
    assert round(peaks.nominal_work(subjects.circuit().ansatz).total / 1e6) == 28


def test_peak_loop_does_the_work_that_is_counted():
    x, u, v = np.linspace(-1.0, 1.0, 16), 0.9, 0.1
    chains = np.array([x, x + u, x + v, x - u, x - v, x * u, x * v, x * x])
    for _ in range(peaks.DEPTH):
        chains = chains * u + v
    values = x.copy()
    peaks.multiply_add(values, u, v)
    np.testing.assert_allclose(values, chains.sum(axis=0), rtol=1e-12)
    assert 2 * len(chains) * peaks.DEPTH + 7 + 7 == peaks.FLOP_A_NUMBER


def test_calls_are_timed_in_turn():
    order = []
    taken = in_turn({name: lambda name=name: order.append(name) or sum(range(10**6)) for name in "ab"}, rounds=2)
    assert {name: values.shape for name, values in taken.items()} == {"a": (2,), "b": (2,)}
    assert "".join(name for name, _ in groupby(order)) == "ababab"  # a quick call is repeated within its turn


def test_row_tells_median_spread_and_whether_it_reaches_its_aim():
    row = measured("n", "w", [1.0, 2.0, 4.0], "x", at_most=2.0)
    assert row == Row(
        name="n", what="w", figure=2.0, unit="x", low=1.2, high=3.6, repetitions=3, reach="≤ 2 x", reached=True
    )  # fmt: skip
    assert measured("n", "w", [1.0, 2.0, 4.0], "x", at_least=3.0).reached is False
    assert measured("n", "w", [1.0], "x").reached is None


def test_failed_process_is_told_by_its_own_words():
    with pytest.raises(MeasurementError, match=r"^qtrl_hpc.train ended with 2: error: --layers: got 0"):
        processes.run("train", "--layers=0")


@pytest.mark.mpi
def test_replay_plays_the_same_episodes(monkeypatch):
    for name in ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe")
    monkeypatch.setenv("PRTE_MCA_hwloc_default_binding_policy", "none")
    flags = ["--qpu=statevector", "--layers=1", "--max-episode-steps=5", "--updates=20"]
    blocks = json.loads(processes.run("bench.replay", *flags, ranks=2).splitlines()[-1])
    assert np.array(blocks).shape == (20, 2)
    assert (np.array(blocks) > 0).all()
