"""Figures of one process: circuit, gradient, mapping model, an action."""

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.bench import peaks, peers, subjects
from qtrl_hpc.bench.measure import in_turn, wall_seconds
from qtrl_hpc.bench.rows import MeasurementError, Row, Say, measured, missing

Times = dict[str, NDArray[np.float64]]
"""Of each call, CPU seconds in each round."""

PEER_AIMS = {"pennylane": 100.0, "torchquantum": 50.0}


def statevector(quick: bool, say: Say) -> list[Row]:
    """Time our circuit and gradient beside what the machine can do and what others take."""
    subject = subjects.circuit()
    ours = subjects.simulation(subject)
    expected, work = ours.both(), peaks.nominal_work(subject.ansatz)
    source = np.linspace(0.0, 1.0, 2 * subject.ansatz.num_amplitudes)
    target = np.empty_like(source)
    calls: dict[str, Callable[[], object]] = {
        "ours": ours.both,
        "forward": ours.forward,
        "arithmetic": lambda: peaks.multiply_add(source, 0.9, 0.1),
        "copy": lambda: peaks.copy(source, target),
    }
    notes = {}
    for peer in peers.PEERS:
        say(f"setting up {peer.name}")
        call, notes[peer.name] = peers.ready(peer, subject, expected)
        if call:
            calls[peer.name] = call
    say("timing in turn")
    taken = in_turn(calls, 5 if quick else 25)
    return _our_rows(taken, work, source) + _peer_rows(taken, notes)


def _our_rows(taken: Times, work: peaks.NominalWork, source: NDArray[np.float64]) -> list[Row]:
    flops = peaks.FLOP_A_NUMBER * source.size / taken["arithmetic"]
    return [
        measured(
            "statevector", "probabilities and adjoint pullback, statevector", 1e3 * taken["ours"], "ms",
            note=f"of which the probabilities {1e3 * np.median(taken['forward']):.3g} ms",
        ),
        measured(
            "statevector.roofline", "its time over its nominal work at peak arithmetic",
            taken["ours"] / (work.total / flops), "x", at_most=2.0,
            note=f"{work.total / 1e6:.1f} MFLOP ({work.forward / 1e6:.1f} forward, {work.backward / 1e6:.1f} back)",
        ),
        measured("statevector.peak", "multiply-adds, one thread, Numba", flops / 1e9, "GFLOP/s"),
        measured(
            "statevector.copy", "copying one statevector to another, read and written",
            2 * source.nbytes / taken["copy"] / 1e9, "GB/s", note=f"{source.nbytes / 2**10:.0f} KiB each",
        ),
    ]  # fmt: skip


def _peer_rows(taken: Times, notes: dict[str, str]) -> list[Row]:
    rows = []
    for peer in peers.PEERS:
        name, what = f"statevector.{peer.name}", f"{peer.title}, over ours"
        if peer.name in taken:
            note = f"{1e3 * np.median(taken[peer.name]):.4g} ms; {notes[peer.name]}"
            rows.append(
                measured(name, what, taken[peer.name] / taken["ours"], "x", at_least=PEER_AIMS[peer.name], note=note)
            )
        else:
            rows.append(missing(name, what, "x", notes[peer.name]))
    return rows


def aer(quick: bool, say: Say) -> list[Row]:
    """Compare what a run on Aer takes with what Aer says that its simulation took."""
    ours = subjects.simulation(subjects.circuit(), "aer")
    walls: list[float] = []
    with subjects.aer_seconds() as inside:
        for _ in range(50 if quick else 500):
            walls.append(wall_seconds(ours.forward))
    if len(inside) != len(walls):
        raise MeasurementError(f"Aer told its time {len(inside)} times in {len(walls)} runs")
    wall, own = np.array(walls[5:]), np.array(inside[5:])
    return [
        measured("aer", "probabilities, aer", 1e3 * wall, "ms", note=f"Aer's own {1e3 * np.median(own):.3g} ms"),
        measured("aer.overhead", "its time over Aer's own time_taken of the same run", wall / own, "x", at_most=1.3),
    ]


def mapping(quick: bool, say: Say) -> list[Row]:
    """Time the mapping model both ways."""
    taken = in_turn({preset: subjects.mapping_passes(preset) for preset in ("tuned", "qtrl")}, 10 if quick else 100)
    return [
        measured(f"mapping.{preset}", f"forward and pullback, preset {preset}", 1e3 * values, "ms", at_most=1.0)
        for preset, values in taken.items()
    ]


def action(quick: bool, say: Say) -> list[Row]:
    """Compare the policy's choice of an action, and our step of the environment, with MiniGrid's own step."""
    subject, rng = subjects.play(), np.random.default_rng(subjects.SEED)
    environments = (subject.bare, subject.env)
    for env in environments:
        observation, _ = env.reset(seed=subjects.SEED)
    steps_a_turn, turns = 200, 10 if quick else 100
    taken = np.empty((3, turns, steps_a_turn))  # acting, the bare step, our step
    for repetition in range(turns):
        for step in range(steps_a_turn):
            times = [time.perf_counter()]
            chosen = subject.act(observation, rng.random())
            times.append(time.perf_counter())
            for env in environments:
                observation, _, terminated, truncated, _ = env.step(chosen)
                times.append(time.perf_counter())
            taken[:, repetition, step] = np.diff(times)
            if terminated or truncated:
                for env in environments:
                    observation, _ = env.reset()
    acting, bare, ours = np.median(taken, axis=2)
    notes = [f"{1e6 * np.median(each):.1f} over {1e6 * np.median(bare):.1f} µs" for each in (acting, ours)]
    return [
        measured("action", "an action over MiniGrid's own step", 100 * acting / bare, "%", at_most=15.0, note=notes[0]),
        measured("action.step", "our step over MiniGrid's own", 100 * ours / bare, "%", note=notes[1]),
    ]


def growth(quick: bool, say: Say) -> list[Row]:
    """Time a gate's work on an amplitude while the circuit grows."""
    sizes = range(10, 17 if quick else 21)
    calls: dict[str, Callable[[], object]] = {}
    divisors = {}
    for n in sizes:
        subject = subjects.circuit(n)
        ours = subjects.simulation(subject)
        calls |= {f"forward {n}": ours.forward, f"both {n}": ours.both}
        divisors[n] = subject.ansatz.num_amplitudes * len(subject.ansatz.targets)
    say(f"{sizes[0]} to {sizes[-1]} qubits")
    taken = in_turn(calls, 3 if quick else 7)
    taken |= {f"adjoint {n}": taken[f"both {n}"] - taken[f"forward {n}"] for n in sizes}
    rows = []
    for way in ("forward", "adjoint"):
        each = np.array([taken[f"{way} {n}"] / divisors[n] for n in sizes])
        medians = np.median(each, axis=1)
        listed = ", ".join(f"{n}: {1e9 * median:.2f}" for n, median in zip(sizes, medians, strict=True))
        rows.append(
            measured(
                f"growth.{way}", f"{way}: time per amplitude and gate, n = {sizes[0]}…{sizes[-1]}, most over least",
                each.max(axis=0) / each.min(axis=0), "x", figure=float(medians.max() / medians.min()), at_most=2.0,
                note=f"ns at n = {listed}",
            )
        )  # fmt: skip
    return rows
