"""Say what an update costs on many ranks: a model, what it is measured from, and how it fares on this machine.

    . jobs/env.sh
    python docs/scaling.py [--quick] [--patience SECONDS] [--save FILE.json] [--load FILE.json] [--picture FILE.png]

Prints the tables of docs/scaling.md; the picture needs the extra ``docs``. Starts itself again under mpirun.
"""

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from qtrl_hpc.agents import STATISTICS, Agents
from qtrl_hpc.bench import machine, processes
from qtrl_hpc.checkpoint import NEWEST, Checkpoint, TrainingState
from qtrl_hpc.contribution import pack
from qtrl_hpc.distributed import World
from qtrl_hpc.environment import make_environment
from qtrl_hpc.episode import Actor, Player
from qtrl_hpc.errors import EXIT_DONE
from qtrl_hpc.factory import make_generator
from qtrl_hpc.fleet import OneForAll
from qtrl_hpc.job import launch
from qtrl_hpc.optimizer import OptimizerState
from qtrl_hpc.stop import StopRequest
from qtrl_hpc.stopwatch import PHASES, Stopwatch
from qtrl_hpc.updates import Run, run_updates

STAGES = (0, 50, 150, 300, 1000)
"""Updates of the training whose policies are played."""
REFERENCE = ("--seed=0", "--agents-per-rank=4")
REFERENCE_RANKS = 2
WHOLE = None
STEPS, MORE_STEPS = 16, 64
"""S of ``--steps-per-update``; the second is not run, but made of windows of the first in a row."""
MEASURED_MODES = (WHOLE, STEPS)
MODES = (WHOLE, STEPS, MORE_STEPS)
AGENTS = (1, 4)
RANKS = (1, 2, 8, 64, 512, 4096)
VIRTUAL_RANKS = (8, 64, 512)
SAMPLE_SEED, VIRTUAL_SEED = 1_000_000, 2_000_000  # of agents that are in no run
BIN = 5e-6  # seconds: how finely the time of a window is told
WARM_UP = 5
BUSY = [PHASES.index(phase) for phase in ("circuit", "mapping", "episode", "gradient")]
STILL = 1e-12  # a learning rate with which Theta stays where it is
QUIET = 0.1  # cores that others may keep busy
TURNS_A_CHUNK = 128
SECONDS_AT_MOST = 1800.0
JOB = "--job"


# The model. Everything here is a pure function of numbers; tests/test_scaling_model.py has them by hand.


def probabilities(values: NDArray[np.float64], unit: float = 1.0) -> NDArray[np.float64]:
    """Return the empirical probability of each whole multiple of ``unit``, from 0 up."""
    counts = np.bincount(np.rint(np.asarray(values) / unit).astype(int))
    return counts / counts.sum()


def mean(pmf: NDArray[np.float64]) -> float:
    """Return the expected value of a number in 0, 1, … that has these probabilities."""
    return float(pmf @ np.arange(len(pmf)))


def sum_of(pmf: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return the probabilities of the sum of so many independent such numbers."""
    total = np.ones(1)
    for _ in range(count):
        total = np.convolve(total, pmf)
    return total


def expected_maximum(pmf: NDArray[np.float64], count: int) -> float:
    """Return the expected maximum of so many independent such numbers: Σ_x 1 − F(x)^count."""
    cumulative = np.minimum(np.cumsum(pmf), 1.0)
    return float((1.0 - cumulative[:-1] ** count).sum())


def fit_line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """Return (α, β) of y ≈ α + β·x by least squares of the relative error, as x spans orders of magnitude."""
    rows = np.column_stack([np.ones_like(x), x]) / y[:, None]
    alpha, beta = np.linalg.lstsq(rows, np.ones_like(y), rcond=None)[0]
    return float(alpha), float(beta)


@dataclass(frozen=True)
class Network:
    """What a message between two ranks costs, its sum included: α + β·bytes."""

    alpha: float
    """Seconds."""
    beta: float
    """Seconds a byte."""

    def allreduce(self, ranks: int, size: float) -> float:
        """Return the seconds of an Allreduce by recursive doubling: log2(R)·(α + β·size)."""
        return math.log2(ranks) * (self.alpha + self.beta * size)


@dataclass(frozen=True)
class Turn:
    """What one agent does in one update, in seconds: ``fixed`` + ``unit``·a random whole number."""

    pmf: NDArray[np.float64]
    unit: float
    fixed: float
    steps: float
    """Expected environment steps."""


@dataclass(frozen=True)
class Update:
    """One update, in seconds."""

    seconds: float
    waiting: float
    """Mean over ranks."""
    reduction: float
    steps: float
    """Expected environment steps of a rank."""


def predict(fixed: float, turn: Turn, agents: int, ranks: int, network: Network, size: float) -> Update:
    """Return an update of so many ranks.

    Args:
        fixed: seconds of everything on a rank that does not depend on steps: circuit, mapping, gradient, step.
        turn: of one agent.
        agents: a rank.
        ranks: R.
        network: between ranks.
        size: of the buffer of the one reduction, in bytes.
    """
    own = sum_of(turn.pmf, agents)
    # The barrier that tells waiting from reducing is taken for an Allreduce of nothing.
    waiting = turn.unit * (expected_maximum(own, ranks) - mean(own)) + network.allreduce(ranks, 0)
    reduction = network.allreduce(ranks, size)
    busy = fixed + agents * turn.fixed + turn.unit * mean(own)
    return Update(busy + waiting + reduction, waiting, reduction, agents * turn.steps)


# Measuring. What is measured is plain numbers and lists, kept as JSON.


def measure(quick: bool, patience: float) -> dict[str, Any]:
    """Train a reference run, play its policies, time the reduction and whole updates."""
    threadpool_limits(1)
    found: dict[str, Any] = {"quick": quick, "machine": machine.describe(), "others": {}}

    def watched(name: str, part: Callable[[], Any]) -> None:
        say(name)
        watch = machine.Watch()
        found[name] = part()
        found["others"][name] = watch.others()

    with tempfile.TemporaryDirectory(prefix="qtrl-scaling-") as folder:
        files = Path(folder)
        watched("reference", lambda: train_reference(files, quick))
        loaded = [Checkpoint.load(stage_file(files, stage)) for stage in STAGES]
        watched("played", lambda: [play(each, quick) for each in loaded])
        watched("virtual", lambda: [play_virtual_ranks(each, quick) for each in loaded])
        watched("allreduce", lambda: under_mpirun(2, "allreduce", files, quick, patience))
        for ranks in (1, 2):
            watched(f"updates on {ranks}", lambda ranks=ranks: under_mpirun(ranks, "updates", files, quick, patience))
    return found


def say(text: str) -> None:
    """Tell the person who waits."""
    print(f"… {text}", file=sys.stderr, flush=True)


def stage_file(files: Path, stage: int) -> Path:
    """Return where the checkpoint of a stage is kept."""
    return files / f"stage-{stage}.h5"


def train_reference(files: Path, quick: bool) -> list[dict[str, float]]:
    """Train as a user would, keep the checkpoint of every stage, and return the metrics.

    With ``quick`` training ends at once, so that all stages are of its first updates.
    """
    run = files / "reference"
    for number, stage in enumerate(STAGES[1:], 1):
        updates = 3 * number if quick else stage
        flags = (*REFERENCE, f"--updates={updates}", f"--run-dir={run}", *(["--resume"] if number > 1 else []))
        processes.run("train", *flags, "--checkpoint-every=100000", ranks=REFERENCE_RANKS)
        if number == 1:
            shutil.copy(run / f"checkpoint-{0:010d}.h5", stage_file(files, 0))
        shutil.copy(run / NEWEST, stage_file(files, stage))
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def quietest(part: Callable[[], Any], patience: float, world: World) -> tuple[float, Any]:
    """Measure until others kept quiet meanwhile, or patience is at an end. Collective: all ranks.

    Returns:
        The cores that others kept busy, and what was found, in the quietest attempt.
    """
    attempts, end = [], time.monotonic() + patience
    while True:
        watch = machine.Watch()
        result = part()
        # The other ranks are others to this one; they work or ask for messages all the time.
        others = max(0.0, watch.others() - (world.size - 1))
        others, now = world.share(np.array([others, time.monotonic()])).tolist()
        attempts.append((others, result))
        if others <= QUIET or now > end:
            return min(attempts, key=lambda attempt: attempt[0])


def play(checkpoint: Checkpoint, quick: bool) -> dict[str, list]:
    """Play one policy for so many seconds in either mode.

    Times are the CPU's, and of the quiet chunks alone, or of the quietest quarter.

    Returns:
        "lengths" of episodes, "timed" steps and seconds of some of them, "windows": seconds of each S steps in a row.
    """
    actor = Actor(checkpoint.theta, checkpoint.policy_spec)
    found: dict[str, list] = {}
    for mode, name, seconds in ((WHOLE, "timed", 15.0), (STEPS, "windows", 10.0)):
        player = new_player(checkpoint, SAMPLE_SEED, 0)
        timed_turn(player, actor, mode)  # fills caches
        chunks, end = [], time.perf_counter() + (1.0 if quick else seconds)
        while time.perf_counter() < end:
            watch = machine.Watch()
            turns = [timed_turn(player, actor, mode) for _ in range(TURNS_A_CHUNK)]
            chunks.append((watch.others(), turns))
        if mode is WHOLE:
            found["lengths"] = [length for _, turns in chunks for length, _ in turns]
        chunks.sort(key=lambda chunk: chunk[0])
        quiet = max(sum(others <= QUIET for others, _ in chunks), math.ceil(len(chunks) / 4))
        found[name] = [turn for _, turns in chunks[:quiet] for turn in turns]
    found["windows"] = [seconds for _, seconds in found["windows"]]
    return found


def play_virtual_ranks(checkpoint: Checkpoint, quick: bool) -> list[list[list[tuple[int, float]]]]:
    """Let agents, each with its own environment and random streams, play some updates, one agent after the other.

    Returns:
        For each of ``MEASURED_MODES``, steps and CPU seconds of each agent in each update, shape (agents, updates, 2).
    """
    actor = Actor(checkpoint.theta, checkpoint.policy_spec)
    found: list[list[list[tuple[int, float]]]] = []
    for mode in MEASURED_MODES:
        found.append([])
        for agent in range(max(VIRTUAL_RANKS)):
            player = new_player(checkpoint, VIRTUAL_SEED, agent)
            found[-1].append([timed_turn(player, actor, mode) for _ in range(1 if quick else 6)])
    return found


def new_player(checkpoint: Checkpoint, seed: int, agent: int) -> Player:
    """Return an agent with an environment of its own."""
    env = make_environment(checkpoint.config.env_id)
    return Player(env, checkpoint.policy_spec, seed=seed, agent=agent)


def timed_turn(player: Player, actor: Actor, mode: int | None) -> tuple[int, float]:
    """Let an agent play its part of one update; return its steps and the CPU seconds it took."""
    start = time.process_time()
    trajectory = player.play(actor, mode)
    return len(trajectory.actions), time.process_time() - start


def under_mpirun(ranks: int, job: str, files: Path, quick: bool, patience: float) -> Any:
    """Run a job of this script on so many ranks and return what its rank 0 found."""
    mpirun = shutil.which("mpirun", path=str(Path(sys.executable).parent)) or "mpirun"
    command = [mpirun, "-n", str(ranks), sys.executable, __file__, JOB, job, str(files), str(patience)]
    command += ["--quick"] if quick else []
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr, timeout=SECONDS_AT_MOST)
    return json.loads((files / f"{job}.json").read_text())


def run_job() -> None:
    """Be one of the ranks that ``under_mpirun`` started."""
    _, _, job, folder, patience, *flags = sys.argv
    jobs = {"allreduce": time_allreduce, "updates": time_updates}

    def command(world: World, _: str) -> int:
        threadpool_limits(1)
        found = jobs[job](world, Path(folder), bool(flags), float(patience))
        if world.rank == 0:
            Path(folder, f"{job}.json").write_text(json.dumps(found))
        return EXIT_DONE

    launch(lambda: "", command)


def time_allreduce(world: World, files: Path, quick: bool, patience: float) -> dict[str, Any]:
    """Time the one reduction with messages of 8 B to 1 MiB, and of a run's size. Collective: all ranks.

    Each is timed alone, from a barrier on, as in an update; the median counts.

    Returns:
        "bytes" and "seconds" of each size, and the "message" that a run sends, in bytes.
    """

    def median(size: int) -> float:
        rows, taken = np.ones((1, size // 8)), []
        for _ in range(50 if quick else 1000):
            world.barrier()
            start = time.perf_counter()
            world.sum(rows, places=None, count=len(rows))
            taken.append(time.perf_counter() - start)
        return float(np.median(taken))

    message = buffer_size(Checkpoint.load(stage_file(files, 0)))
    sizes = [8 * 2**power for power in range(18)] + [message]
    seconds = [quietest(lambda size=size: median(size), patience, world)[1] for size in sizes]
    return {"bytes": sizes, "seconds": seconds, "message": message}


def buffer_size(checkpoint: Checkpoint) -> int:
    """Return the bytes of the one reduction of this run."""
    vector = checkpoint.state.Theta.vector
    return pack([vector], np.zeros((1, len(STATISTICS))), Stopwatch(), size=vector.size, agents=1, stop=False).nbytes


class Rows:
    """Keep what a run's recorder is given, and write nothing."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def update(self, row: dict[str, Any]) -> None:
        """Keep one update's metrics."""
        self.rows.append(row)

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Write no file."""


class TwoClocks(Stopwatch):
    """Count the CPU's seconds too, update by update, so that others' work can be left out."""

    def __init__(self) -> None:
        super().__init__()
        self.cpu: list[list[float]] = []

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Count the time inside the ``with`` to ``phase``, one of ``PHASES``."""
        start = time.process_time()
        with super().__call__(phase):
            yield
        self.cpu[-1][PHASES.index(phase)] += time.process_time() - start

    def restart(self) -> None:
        """Begin another update."""
        super().restart()
        self.cpu.append([0.0] * len(PHASES))


def time_updates(world: World, files: Path, quick: bool, patience: float) -> list[dict[str, Any]]:
    """Make updates by the loop of training, Theta standing still at each stage. Collective: all ranks.

    Returns:
        For each stage, mode and number of agents a rank: the metrics of its updates, the CPU seconds of each phase,
        shape (ranks, updates, phases), and how many cores others kept busy.
    """
    updates, found = (10 if quick else 120) + WARM_UP, []
    for stage in STAGES:
        checkpoint = Checkpoint.load(stage_file(files, stage))
        for mode in MEASURED_MODES:
            for agents in AGENTS:

                def both(checkpoint=checkpoint, mode=mode, agents=agents) -> dict[str, Any]:
                    rows, cpu = still_updates(world, checkpoint, mode, agents, updates)
                    everyone = world.gather_numbers(np.array(cpu[-updates:]).ravel())
                    cpu = everyone.reshape(-1, updates, len(PHASES))
                    kept = slice(WARM_UP, -1)  # the last one has a checkpoint's work in it
                    return {"rows": rows[kept], "cpu": cpu[:, kept].tolist()}

                others, measured = quietest(both, patience, world)
                found.append({"stage": stage, "mode": mode, "agents": agents, "others": others, **measured})
    return found


def still_updates(
    world: World, checkpoint: Checkpoint, mode: int | None, agents: int, updates: int
) -> tuple[list[dict[str, Any]], list[list[float]]]:
    """Make so many updates at the Theta of a checkpoint. Collective: all ranks.

    Returns:
        The metrics of each, on rank 0, and this rank's CPU seconds by phase.
    """
    config = replace(
        checkpoint.config, agents_per_rank=agents, steps_per_update=mode, updates=updates, learning_rate=STILL
    )
    environments = [make_environment(config.env_id) for _ in range(agents)]
    stopwatch, recorder = TwoClocks(), Rows()
    stopwatch.restart()
    spec = checkpoint.policy_spec
    run_updates(
        Run(
            world,
            config,
            spec,
            OneForAll(make_generator(config, spec, stopwatch)),
            Agents(config, spec, environments, first_agent=world.rank * agents),
            StopRequest(),
            stopwatch,
            recorder,
        ),
        TrainingState(
            update=0,
            Theta=checkpoint.state.Theta,
            optimizer=OptimizerState.zeros(checkpoint.state.Theta.vector.size),
            baseline=checkpoint.state.baseline,
        ),
    )
    return recorder.rows, stopwatch.cpu


# From what was measured to the model.


@dataclass(frozen=True)
class Model:
    """The model's numbers."""

    fixed: dict[str, float]
    """Seconds of the parts of an update that do not depend on steps, by name."""
    reset: float
    """Seconds of an episode's beginning."""
    step: float
    """Seconds of an environment step, the policy's included."""
    gradient_step: float
    """Seconds that the gradient takes for each step."""
    network: Network
    message: int
    """Bytes of the one reduction."""
    turns: dict[tuple[int, int | None], Turn]
    """By stage and mode."""

    def update(self, stage: int, mode: int | None, agents: int, ranks: int) -> Update:
        """Predict an update."""
        turn = self.turns[stage, mode]
        return predict(sum(self.fixed.values()), turn, agents, ranks, self.network, self.message)


def make_model(found: dict[str, Any]) -> Model:
    """Take the model's numbers from what was measured."""
    played, reduction = found["played"], found["allreduce"]
    lengths, seconds = np.concatenate([each["timed"] for each in played]).T
    # The median of each length, for those that occurred often enough: what disturbs a few episodes does not count.
    often = [length for length, count in zip(*np.unique(lengths, return_counts=True), strict=True) if count >= 10]
    step, reset = np.polyfit(often, [np.median(seconds[lengths == length]) for length in often], 1).tolist()
    alone = found["updates on 1"]
    cpu = np.array([each["cpu"][0] for each in alone])  # runs, updates, phases
    fixed = {part: float(np.median(cpu[..., PHASES.index(part)])) for part in ("circuit", "mapping")}
    steps = [np.mean([row["steps"] for row in each["rows"]]) for each in alone]
    gradient_step, gradient_fixed = np.polyfit(steps, cpu[..., PHASES.index("gradient")].mean(axis=1), 1).tolist()
    fixed["gradient"] = gradient_fixed
    fixed["rest"] = float(np.median([rest(row) for each in alone for row in each["rows"]]))
    turns = {}
    for stage, each in zip(STAGES, played, strict=True):
        pmf = probabilities(each["lengths"])
        turns[stage, WHOLE] = Turn(pmf, step + gradient_step, reset, mean(pmf))
        for count in (STEPS, MORE_STEPS):
            windows = in_a_row(np.array(each["windows"]), count // STEPS)
            turns[stage, count] = Turn(probabilities(windows, BIN), BIN, count * gradient_step, count)
    network = Network(*fit_line(np.array(reduction["bytes"], float), np.array(reduction["seconds"])))
    return Model(fixed, reset, step, gradient_step, network, reduction["message"], turns)


def in_a_row(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return the sums of so many values in a row."""
    return values[: len(values) // count * count].reshape(-1, count).sum(axis=1)


def rest(row: dict[str, float]) -> float:
    """Return the seconds of an update that are in none of its phases: the step on Theta, and checks."""
    return row["seconds"] - sum(seconds for name, seconds in row.items() if name.startswith("seconds_"))


# Tables.


def report(found: dict[str, Any], model: Model) -> str:
    """Return all tables as Markdown."""
    parts = (machine_note, costs_table, lengths_table, windows_table, reduction_table, check_table, run_table)
    tables = [part(found, model) for part in (*parts, virtual_table)]
    return "\n\n".join([*tables, *(result_table(model, agents) for agents in AGENTS)])


def mode_name(mode: int | None) -> str:
    """Return what the tables call a mode."""
    return "whole episodes" if mode is WHOLE else f"{mode} steps"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def percent(part: float, whole: float) -> str:
    """Return a share."""
    return f"{round(100 * part / whole)} %"


def machine_note(found: dict[str, Any], model: Model) -> str:
    """Say what it was measured on, and how busy others kept it."""
    about = found["machine"]
    others = ", ".join(f"{name} {cores}" for name, cores in found["others"].items())
    return (
        f"{about['cpu']}, {about['cores']} cores, {about['date']}, load average {about['load average at start']}"
        f" at the start.\nCores that others kept busy: {others}."
    )


def costs_table(found: dict[str, Any], model: Model) -> str:
    """Show the parts of an update on one rank."""
    rows = [[f"{name}, a rank", f"{1e3 * seconds:.2f} ms"] for name, seconds in model.fixed.items()]
    rows += [
        ["begin an episode, an agent", f"{1e6 * model.reset:.0f} µs"],
        ["environment step with policy", f"{1e6 * model.step:.0f} µs"],
        ["gradient, for each step", f"{1e6 * model.gradient_step:.1f} µs"],
    ]
    return table(["part", "takes"], rows)


def lengths_table(found: dict[str, Any], model: Model) -> str:
    """Show the distribution of an episode's steps, and their expected maximum over ranks of one agent."""
    head = ["update", "episodes", "mean", "longest 1 %", "100 steps", *(f"R = {ranks}" for ranks in RANKS[1:])]
    rows = []
    for stage, played in zip(STAGES, found["played"], strict=True):
        lengths, pmf = np.array(played["lengths"]), model.turns[stage, WHOLE].pmf
        quantile, cut = np.quantile(lengths, 0.99, method="lower"), (lengths >= 100).mean()
        cells = [str(stage), str(len(lengths)), f"{lengths.mean():.2f}", f"{quantile:.0f}", f"{100 * cut:.2f} %"]
        rows.append(cells + [f"{expected_maximum(pmf, ranks):.1f}" for ranks in RANKS[1:]])
    return f"Steps of an episode, and the most of R\n\n{table(head, rows)}"


def windows_table(found: dict[str, Any], model: Model) -> str:
    """Show the distribution of the time of S steps, and its expected maximum over ranks of one agent."""
    head = ["update", "S", "windows", "mean", "spread", *(f"R = {ranks}" for ranks in RANKS[1:])]
    rows = []
    for count in (STEPS, MORE_STEPS):
        for stage, played in zip(STAGES, found["played"], strict=True):
            windows = 1e3 * in_a_row(np.array(played["windows"]), count // STEPS)
            cells = [str(stage), str(count), str(len(windows)), f"{windows.mean():.2f}", f"{windows.std():.2f}"]
            pmf = model.turns[stage, count].pmf
            rows.append(cells + [f"{1e3 * BIN * expected_maximum(pmf, ranks):.2f}" for ranks in RANKS[1:]])
    return f"Milliseconds of S steps, and the most of R\n\n{table(head, rows)}"


def reduction_table(found: dict[str, Any], model: Model) -> str:
    """Show the measured reduction and the line through it."""
    network, measured = model.network, found["allreduce"]
    pairs = sorted(zip(measured["bytes"], measured["seconds"], strict=True))
    rows = [
        [str(size), f"{1e6 * seconds:.1f}", f"{1e6 * network.allreduce(2, size):.1f}"]
        for size, seconds in pairs
        if size == model.message or math.log2(size / 8) % 3 == 0 or size == 2**20
    ]
    head = f"α = {1e6 * network.alpha:.1f} µs, β = {1e9 * network.beta:.3f} ns a byte ({1e-9 / network.beta:.1f} GB/s)"
    return f"{head}, m = {model.message} bytes\n\n{table(['bytes', 'measured, µs', 'α + β·m, µs'], rows)}"


def check_table(found: dict[str, Any], model: Model) -> str:
    """Compare predicted and measured updates on 1 and 2 ranks, Theta standing still."""
    rows = []
    for one, two in zip(found["updates on 1"], found["updates on 2"], strict=True):
        stage, mode, agents = (two[name] for name in ("stage", "mode", "agents"))
        cells = [str(stage), mode_name(mode), str(agents)]
        for ranks, each in ((1, one), (2, two)):
            seconds = np.array([row["seconds"] for row in each["rows"]])
            busy = np.array(each["cpu"])[..., BUSY].sum(axis=2)  # ranks, updates
            cells += [
                f"{1e3 * model.update(stage, mode, agents, ranks).seconds:.1f}",
                mean_and_error(1e3 * (busy.max(axis=0) + model.fixed["rest"])),
                f"{1e3 * np.mean(seconds):.1f}",
            ]
        waiting = np.array([row["seconds_waiting"] for row in two["rows"]])
        expected = model.update(stage, mode, agents, 2)
        by_cpu = busy.max(axis=0) - busy.mean(axis=0)
        cells += [f"{1e3 * expected.waiting:.2f}", mean_and_error(1e3 * by_cpu, 2), f"{1e3 * waiting.mean():.2f}"]
        cells += [percent(expected.waiting, expected.seconds), percent(waiting.sum(), seconds.sum())]
        rows.append([*cells, f"{one['others']:.1f}, {two['others']:.1f}"])
    head = ["update", "mode", "agents a rank", "1 rank, ms", "CPU", "clock", "2 ranks, ms", "CPU", "clock"]
    head += ["waiting, ms", "CPU", "clock", "share", "clock", "others, 1 rank, 2 ranks"]
    reduction = 1e6 * np.array([row["seconds_reduction"] for each in found["updates on 2"] for row in each["rows"]])
    return (
        "Theta standing still: predicted; by the CPU's clock, mean ± its standard error; by the wall's\n\n"
        f"{table(head, rows)}\n\n"
        f"The reduction in these updates: median {np.median(reduction):.0f} µs, "
        f"predicted {1e6 * model.network.allreduce(2, model.message):.0f} µs."
    )


def mean_and_error(values: NDArray[np.float64], digits: int = 1) -> str:
    """Return the mean and its standard error."""
    return f"{values.mean():.{digits}f} ± {values.std() / math.sqrt(len(values)):.{digits}f}"


def run_table(found: dict[str, Any], model: Model) -> str:
    """Compare with the reference run itself, in the updates around each stage."""
    rows = []
    for stage in STAGES:
        near = [row for row in found["reference"] if abs(row["update"] - stage) <= 25]
        # At every stage the run was stopped and resumed.
        near = [row for row in near if all(not 0 < row["update"] - start <= WARM_UP for start in STAGES)]
        if not near:
            continue
        expected = model.update(stage, WHOLE, 4, REFERENCE_RANKS)
        seconds, waiting = (np.array([row[name] for row in near]) for name in ("seconds", "seconds_waiting"))
        rows.append([
            f"{near[0]['update']}–{near[-1]['update']}",
            f"{1e3 * expected.seconds:.1f}", mean_and_error(1e3 * seconds), f"{1e3 * np.median(seconds):.1f}",
            percent(expected.waiting, expected.seconds), percent(waiting.sum(), seconds.sum()),
        ])  # fmt: skip
    head = ["updates", "predicted, ms", "measured, ms", "median", "waiting", "measured"]
    return f"The run itself, {' '.join(REFERENCE)}, {REFERENCE_RANKS} ranks\n\n" + table(head, rows)


def virtual_table(found: dict[str, Any], model: Model) -> str:
    """Compare the expected maximum with that of agents who have played one after the other."""
    rows = []
    for stage, played in zip(STAGES, found["virtual"], strict=True):
        for mode, turns in zip(MEASURED_MODES, played, strict=True):
            lengths, seconds = np.array(turns).T
            pmf = model.turns[stage, mode].pmf
            cells, in_time = [str(stage), mode_name(mode)], [str(stage), f"{mode_name(mode)}, ms"]
            for ranks in VIRTUAL_RANKS:
                most = expected_maximum(pmf, ranks)
                cells += [f"{most:.1f}", mean_and_error(lengths.reshape(-1, ranks).max(axis=1))]
                # The gradient is in neither.
                expected = model.reset + model.step * most if mode is WHOLE else BIN * most
                in_time += [f"{1e3 * expected:.2f}", mean_and_error(1e3 * seconds.reshape(-1, ranks).max(axis=1), 2)]
            rows += [cells, in_time] if mode is WHOLE else [in_time]
    head = ["update", "mode"]
    for ranks in VIRTUAL_RANKS:
        head += [f"R = {ranks}", "played"]
    return "The most of R virtual ranks with one agent, in steps and in time\n\n" + table(head, rows)


def result_table(model: Model, agents: int) -> str:
    """Show what the model says, by stage, mode and number of ranks."""
    rows = []
    for stage in STAGES:
        for mode in MODES:
            one = model.update(stage, mode, agents, 1)
            cells = [str(stage), mode_name(mode), f"{one.steps / one.seconds:.0f}", f"{1e3 * one.seconds:.1f}"]
            for ranks in RANKS[1:]:
                many = model.update(stage, mode, agents, ranks)
                waiting, efficiency = percent(many.waiting, many.seconds), percent(one.seconds, many.seconds)
                cells.append(f"{1e3 * many.seconds:.1f} · {waiting} · {efficiency}")
            rows.append(cells)
    head = ["update", "mode", "steps a second, R = 1", *(f"R = {ranks}" for ranks in RANKS)]
    return f"Agents a rank: {agents}. Milliseconds · waiting · efficiency\n\n" + table(head, rows)


def draw(model: Model, picture: Path) -> None:
    """Draw the efficiency by ranks, a panel a mode and a line a stage."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(MODES), figsize=(10.0, 3.6), sharey=True, layout="constrained")
    ranks = 2 ** np.arange(13)
    for axes, mode in zip(panels, MODES, strict=True):
        for number, stage in enumerate(STAGES):
            alone = model.update(stage, mode, 1, 1).seconds
            efficiency = [alone / model.update(stage, mode, 1, int(count)).seconds for count in ranks]
            axes.plot(ranks, efficiency, color=plt.cm.viridis(number / len(STAGES)), label=f"update {stage}")
        axes.set(title=mode_name(mode), xlabel="ranks of one agent", ylim=(0, 1.03))
        axes.set_xscale("log", base=2)
        axes.set_xticks(RANKS, list(map(str, RANKS)))
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("efficiency")
    panels[0].legend(loc="lower left", frameon=False)
    figure.savefig(picture, dpi=130)


def main() -> None:
    """Measure, or load what was measured, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a minute, to see that all of it runs")
    parser.add_argument("--patience", type=float, default=0.0, help="seconds to wait for others, for each figure")
    parser.add_argument("--save", type=Path, help="keep what was measured")
    parser.add_argument("--load", type=Path, help="measure nothing: use what --save has kept")
    parser.add_argument("--picture", type=Path, help="draw the efficiency")
    arguments = parser.parse_args()
    found = json.loads(arguments.load.read_text()) if arguments.load else measure(arguments.quick, arguments.patience)
    if arguments.save:
        arguments.save.write_text(json.dumps(found))
    model = make_model(found)
    print(report(found, model))
    if arguments.picture:
        draw(model, arguments.picture)


if __name__ == "__main__":
    run_job() if sys.argv[1:2] == [JOB] else main()
