"""Run what has not been run yet: seeds are shared out over ranks, all agents of a run are on one."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from qtrl_hpc import updates
from qtrl_hpc.agents import Agents
from qtrl_hpc.checkpoint import Checkpoint
from qtrl_hpc.config import Config
from qtrl_hpc.distributed import World
from qtrl_hpc.environment import make_environment, policy_spec
from qtrl_hpc.errors import TrainingError
from qtrl_hpc.factory import make_generator
from qtrl_hpc.fleet import OneForAll
from qtrl_hpc.metrics import SECONDS_BETWEEN_LINES, clock, terminal
from qtrl_hpc.monitoring import Sight
from qtrl_hpc.reproduce.rewards import BLOCK, Rewards, Run, made_by, save_run
from qtrl_hpc.reproduce.variants import Variant
from qtrl_hpc.stop import StopRequest
from qtrl_hpc.stopwatch import Stopwatch


class Task(NamedTuple):
    """One run."""

    variant: Variant
    seed: int


class RewardLog:
    """Take the place of a run's recorder, and keep its rewards alone.

    Args:
        say: is told of each round.
    """

    def __init__(self, say: Callable[[int], None]) -> None:
        self._rows: list[tuple[float, int]] = []
        self._seconds: list[float] = []
        self._say, self._start = say, time.process_time()

    def update(self, row: dict[str, Any]) -> None:
        """Take note of one update's metrics."""
        self._rows.append((row["reward_mean"], row["steps"]))
        if row["update"] % BLOCK == 0:
            self._seconds.append(time.process_time() - self._start)
        self._say(row["update"])

    def seen(self, sight: Sight) -> None:
        """Do nothing: nobody looks at these policies before they are trained."""

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Do nothing: a run that was stopped is run again."""

    def run(self) -> Run:
        """Return what was noted."""
        rewards, steps = np.array(self._rows, np.float64).T
        if len(rewards) % BLOCK:
            self._seconds.append(time.process_time() - self._start)
        return Run(rewards=rewards.copy(), steps=steps.copy(), seconds=np.array(self._seconds))


def missing(variants: list[Variant], seeds: range, rewards: Rewards) -> list[Task]:
    """Return the runs still to be done, each once, seed after seed, the costly variants of a seed first."""
    unique = {(variant.key, variant.config.updates): variant for variant in variants}
    longest = sorted(unique.values(), key=lambda variant: variant.config.updates)
    by_key = {variant.key: variant for variant in longest}  # of two lengths the longer serves both
    ordered = sorted(by_key.values(), key=lambda variant: (-cost(variant), variant.key))
    return [Task(variant, seed) for seed in seeds for variant in ordered if rewards.find(variant, seed) is None]


def share(tasks: list[Task], size: int) -> list[list[Task]]:
    """Share tasks out over ranks, each task to the rank that has least to do so far."""
    shares: list[list[Task]] = [[] for _ in range(size)]
    loads = [0.0] * size
    for task in tasks:
        rank = loads.index(min(loads))
        shares[rank].append(task)
        loads[rank] += cost(task.variant)
    return shares


def cost(variant: Variant) -> float:
    """Return about how long a run takes, in arbitrary units: episodes, and a circuit an update."""
    circuit = 0.3 * variant.config.layers if variant.config.policy == "quantum" else 0.2
    return variant.config.updates * (variant.num_agents + circuit)


def run_tasks(tasks: list[Task], folder: Path, stop: StopRequest, *, visible: bool) -> None:
    """Run this rank's tasks, each saved when it is done; end early where a signal asks for it.

    Args:
        tasks: of this rank.
        folder: for the results.
        stop: whether this rank was asked to stop; the run in progress is then dropped.
        visible: show progress.
    """
    world, maker = World.alone(), made_by()
    with _Display(tasks, visible=visible) as display:
        for number, task in enumerate(tasks):
            try:
                run = run_one(world, task.variant.with_seed(task.seed), stop, partial(display.show, number))
            except TrainingError as error:  # of this rank alone: it must end the others too
                raise RuntimeError(f"{task.variant.label}, seed {task.seed}: {error}") from error
            if run is None:
                return
            save_run(folder, task.variant, task.seed, replace(run, made_by=maker))


def run_one(world: World, config: Config, stop: StopRequest, say: Callable[[int], None]) -> Run | None:
    """Train with all agents on this rank, a world of its own; return its rewards, or None where it was stopped."""
    stopwatch = Stopwatch()
    environments = [make_environment(config.env_id) for _ in range(config.agents_per_rank)]
    spec = policy_spec(environments[0], config, config)
    generator = make_generator(config, spec, stopwatch)
    agents = Agents(config, spec, environments, first_agent=0)
    state = updates.initial_state(generator, config)
    log = RewardLog(say)
    own = updates.Run(world, config, spec, OneForAll(generator), agents, stop, stopwatch, log)
    with np.errstate(over="ignore", invalid="ignore"):
        state = updates.run_updates(own, state)
    for env in environments:
        env.close()
    return log.run() if state.update == config.updates else None


class _Display:
    """Show which run a rank is at and the time left: a bar on a terminal, otherwise a line every few seconds."""

    def __init__(self, tasks: list[Task], *, visible: bool) -> None:
        self._tasks, self._visible = tasks, visible and bool(tasks)
        costs = [cost(task.variant) for task in tasks]
        self._before = np.concatenate([[0.0], np.cumsum(costs)])
        self._began = self._last = time.monotonic()
        self._bar: Progress | None = None
        if self._visible and (screen := terminal()):
            columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
            self._bar = Progress(*columns, console=Console(file=screen), refresh_per_second=2)
            self._task = self._bar.add_task("", total=float(self._before[-1]))

    def __enter__(self) -> "_Display":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, number: int, update: int) -> None:
        """Take note of an update of the task of that number."""
        now = time.monotonic()
        if not self._visible or (now - self._last < (0.2 if self._bar else SECONDS_BETWEEN_LINES)):
            return
        self._last = now
        task = self._tasks[number]
        done = self._before[number] + cost(task.variant) * update / task.variant.config.updates
        words = f"run {number + 1}/{len(self._tasks)}  {task.variant.label}, seed {task.seed}"
        if self._bar:
            self._bar.update(self._task, completed=done, description=words)
        else:
            left = (self._before[-1] - done) * (now - self._began) / done
            print(f"{words}, round {update}/{task.variant.config.updates}  {clock(left)} left", flush=True)
