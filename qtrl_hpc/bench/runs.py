"""Figures of whole runs, each in processes of its own, most under mpirun."""

import json
import subprocess
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.bench import processes
from qtrl_hpc.bench.footprint import BYTES_A_AMPLITUDE, memory
from qtrl_hpc.bench.measure import wall_seconds
from qtrl_hpc.bench.rows import MeasurementError, Row, Say, measured
from qtrl_hpc.stopwatch import PHASES

RANKS = 2
AGENTS_PER_RANK = "--agents-per-rank=4"
QPUS = ("aer", "statevector")
# The first updates of a run load kernels and fill caches.
WARM_UP = 10
# 27 actions lead to the goal, so that every episode has exactly as many steps as it is allowed.
FIXED_STEPS = ("--env-id=MiniGrid-Empty-16x16-v0", "--max-episode-steps=26")
SMALL = (
    "--env-id=CartPole-v1",
    "--num-actions=2",
    "--policy-hidden-sizes=[8]",
    "--layers=1",
    "--qpu=statevector",
    "--max-episode-steps=20",
)
SETTLED = 500
QUBITS_OF_MEMORY = (18, 20)


def whole_run(quick: bool, say: Say) -> list[Row]:
    """Compare a run with the same run, episode by episode, whose policy needs no circuit."""
    updates, rows = 60 if quick else 1000, []
    for qpu in QPUS:
        say(f"{updates} updates, {qpu}")
        flags = (f"--qpu={qpu}", AGENTS_PER_RANK, f"--updates={updates}")
        blocks = np.array(processes.run_for_json("bench.replay", *flags, ranks=RANKS))
        quantum, classical = blocks.sum(axis=0).tolist()
        rows.append(
            measured(
                f"whole-run.{qpu}", f"{updates} updates, 8 agents on 2 ranks, over the same episodes without a circuit",
                blocks[:, 0] / blocks[:, 1], "x", figure=quantum / classical, at_most=2.0,
                note=f"{quantum:.1f} over {classical:.1f} s; spread over blocks of {updates // len(blocks)} updates",
            )
        )  # fmt: skip
    return rows


def efficiency(quick: bool, say: Say) -> list[Row]:
    """Compare an update of 2 ranks with one of 1 rank, every agent playing the same number of steps."""
    pairs, updates = (2, 30) if quick else (5, 150)
    taken = []
    for pair in range(pairs):
        say(f"pair {pair + 1} of {pairs}")
        flags = (*FIXED_STEPS, AGENTS_PER_RANK, f"--updates={updates}")
        taken.append([np.median(_column(processes.train(*flags, ranks=ranks), "seconds")) for ranks in (1, RANKS)])
    one, two = np.array(taken).T
    note = f"an update takes {1e3 * np.median(one):.3g} ms on 1 rank, {1e3 * np.median(two):.3g} ms on 2"
    what = "1 to 2 ranks, 4 agents each, fixed steps: time of an update on 1 over 2"
    return [measured("efficiency", what, 100 * one / two, "%", at_least=95.0, note=note)]


def reduction_share(quick: bool, say: Say) -> list[Row]:
    """Measure the one reduction's share of an update."""
    rows = processes.train(AGENTS_PER_RANK, f"--updates={40 if quick else 300}", ranks=RANKS)
    reduction, whole = _column(rows, "seconds_reduction"), _column(rows, "seconds")
    waiting = 100 * np.median(_column(rows, "seconds_waiting") / whole)
    note = (
        f"{1e6 * np.median(reduction):.0f} µs, waiting for the slower rank ({waiting:.0f} % of an update) not counted"
    )
    what = "the Allreduce's share of an update, 2 ranks"
    return [measured("allreduce", what, 100 * reduction / whole, "%", at_most=1.0, note=note)]


def update(quick: bool, say: Say) -> list[Row]:
    """Measure where the time of an update goes."""
    found = []
    for qpu in QPUS:
        say(qpu)
        rows = processes.train(AGENTS_PER_RANK, f"--qpu={qpu}", f"--updates={40 if quick else 300}", ranks=RANKS)
        for phase in ("", *PHASES):
            values = 1e3 * _column(rows, f"seconds_{phase}" if phase else "seconds")
            part = phase or "whole"
            what = f"an update, 8 agents on 2 ranks, {qpu}: {part}"
            found.append(measured(f"update.{qpu}.{part}", what, values, "ms"))
    return found


def startup(quick: bool, say: Say) -> list[Row]:
    """Time the help text and the way to the first update of 8 ranks."""
    say("--help")
    times = 3 if quick else 7
    helps = [wall_seconds(lambda: processes.run("train", "--help")) for _ in range(times + 1)][1:]
    ranks, times = (2, 1) if quick else (8, 3)
    firsts = []
    for number in range(times + 1):
        say(f"first update on {ranks} ranks" if number else "compiling the kernels, if they are not yet")
        firsts.append(processes.seconds_to_first_update(ranks=ranks))
    what = f"from mpirun -n {ranks} to the first update written, kernels compiled"
    return [
        measured("startup.help", "train --help", helps, "s", at_most=1.0),
        measured("startup.first-update", what, firsts[1:], "s", at_most=6.0),
    ]


def memory_use(quick: bool, say: Say) -> list[Row]:
    """Measure what a gradient of many qubits needs, and whether a long run grows."""
    say(f"a gradient on {QUBITS_OF_MEMORY[1]} qubits")
    small, large = (processes.run_for_json("bench.footprint", str(qubits)) for qubits in QUBITS_OF_MEMORY)
    unit = BYTES_A_AMPLITUDE * (2 ** QUBITS_OF_MEMORY[1] - 2 ** QUBITS_OF_MEMORY[0])
    constant = large - (large - small) / unit * BYTES_A_AMPLITUDE * 2 ** QUBITS_OF_MEMORY[1]
    updates = 800 if quick else 5000
    say(f"{updates} updates of a small run")
    resident = _resident_after(updates)
    grown = 100 * (resident[1:] / resident[0] - 1.0)
    return [
        measured(
            "memory.statevectors",
            "statevectors that circuit and gradient need beyond p, its cotangent and a constant, n = 18 to 20",
            (large - small) / unit, "ψ", at_most=2.05,
            note=f"{large / 2**20:.0f} MiB at n = 20, of which {constant / 2**20:.1f} MiB constant",
        ),
        measured(
            "memory.growth", f"resident memory over {updates} updates: most over that after {SETTLED}", grown, "%",
            figure=float(grown.max()), at_most=2.0, note=f"{resident[0] / 2**20:.0f} MiB after {SETTLED} updates",
        ),
    ]  # fmt: skip


def _column(rows: list[dict[str, float]], name: str) -> NDArray[np.float64]:
    return np.array([row[name] for row in rows[WARM_UP:]])


def _resident_after(updates: int) -> NDArray[np.float64]:
    """Return the resident bytes of a small run, looked at now and again, from update ``SETTLED`` on."""
    found: list[float] = []
    with (
        processes.run_dir() as path,
        processes.started("train", *SMALL, f"--updates={updates}", f"--run-dir={path}") as process,
    ):
        deadline = time.monotonic() + processes.SECONDS_AT_MOST
        while process.poll() is None and time.monotonic() < deadline:
            if _last_update(path / "metrics.jsonl") >= SETTLED:
                found += _resident(process)
            time.sleep(0.05)
        processes.finish(process, "train")
    if len(found) < 2:
        raise MeasurementError(f"the run of {updates} updates was over before its memory could be looked at")
    return np.array(found)


def _resident(process: subprocess.Popen[str]) -> list[float]:
    try:
        return [memory("VmRSS", process.pid)]
    except (OSError, RuntimeError):  # it has just ended
        return []


def _last_update(metrics: Path) -> int:
    if not metrics.exists():
        return 0
    with metrics.open("rb") as file:
        file.seek(max(0, metrics.stat().st_size - 4096))
        lines = file.read().split(b"\n")[:-1]
    return int(json.loads(lines[-1])["update"]) if lines else 0
