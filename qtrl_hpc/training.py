"""One training from its configuration to its last checkpoint, on the ranks of a world."""

import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

import qtrl_hpc
from qtrl_hpc import jit
from qtrl_hpc.agents import Agents
from qtrl_hpc.checkpoint import NEWEST, TrainingState
from qtrl_hpc.cli import TrainOptions
from qtrl_hpc.config import Config
from qtrl_hpc.distributed import AgreedError, RanksLostError, World
from qtrl_hpc.environment import make_environment, policy_spec
from qtrl_hpc.episode import RunningEpisodes, check_plays
from qtrl_hpc.errors import TrainingError, UserError, WriteError, one_line
from qtrl_hpc.factory import describe
from qtrl_hpc.fleet import Fleet
from qtrl_hpc.fleet_factory import describe_measurement, make_fleet
from qtrl_hpc.generator import Theta
from qtrl_hpc.monitoring import make_monitor
from qtrl_hpc.recorder import Recorder
from qtrl_hpc.run_directory import InUseError, RunDirectory
from qtrl_hpc.status import Status, say_failed
from qtrl_hpc.stop import StopRequest
from qtrl_hpc.stopwatch import Stopwatch
from qtrl_hpc.survival import Survive
from qtrl_hpc.trackers import check_installed
from qtrl_hpc.updates import Run, initial_state, run_updates, running_episodes, save
from qtrl_hpc.watchdog import Watchdog, forget_signs

SECONDS_TO_TAKE_OVER = 5.0
SECONDS_TO_FINISH = 60.0

Listener = Callable[[dict[str, Any]], None]


def _same_command(run_dir: Path) -> str:
    return f"the same command with --run-dir {shlex.quote(str(run_dir))} --resume"


class Audience(NamedTuple):
    """Who is told of a training on rank 0."""

    listeners: Sequence[Listener] = ()
    """Each is called with every update's metrics."""
    quiet: bool = False
    """Whether to say nothing else of how it goes."""
    again: Callable[[Path], str] = _same_command
    """What goes on with a run that was stopped, for people."""


PEOPLE = Audience()


class Ending(NamedTuple):
    """How a training ended, the same on every rank but for ``why``, which rank 0 knows."""

    state: TrainingState
    done: bool
    why: str | None
    """What stopped it before its end."""


def train(
    world: World, options: TrainOptions, stop: StopRequest, audience: Audience = PEOPLE, *, watch: bool = True
) -> Ending:
    """Train from the start, or from the newest checkpoint. Collective: all ranks.

    Args:
        world: of the run.
        options: the same on every rank.
        stop: whether this rank was asked to stop.
        audience: who is told.
        watch: end the process where nothing goes on for ``progress_timeout``.

    Raises:
        AgreedError: the options do not fit the environment, the run directory or its checkpoint.
        TrainingError: a gradient is not finite, or the ranks no longer agree.
        UserError: on this rank alone, code of the user's own returns something else than it must.
        WriteError: on this rank alone, a file of the run cannot be written.
    """
    config, run_dir, stopwatch = options.config, options.run_dir, Stopwatch()
    tolerant = config.on_agent_failure == "continue"
    watchdog = Watchdog(stopwatch, world.rank, config.progress_timeout if watch else None, spare=tolerant)
    with ExitStack() as held, watchdog, ExitStack() as records:
        # What is not finite is looked for, and named, by run_updates: NumPy need not warn of it.
        held.enter_context(np.errstate(over="ignore", invalid="ignore"))
        held.enter_context(threadpool_limits(config.threads))
        run, fleet_of = _prepare(world, config, stop, stopwatch, held)
        directory = world.agree(lambda: _hold(options, held) if world.rank == 0 else None)
        state, running = world.agree(lambda: _starting_point(run, options, directory))
        with _noting_failure(run_dir, world):
            watch_over = partial(watchdog.meet, run_dir)
            world.agree(lambda: watch_over(world.members))
            state = _begin(run, options, directory, state, running, audience)
            record = partial(_record, run, options, directory, records, audience)
            run.recorder = world.agree(lambda: record(state.update) if directory else None)
            if not options.resume:
                save(run, state, running_episodes(run))
            if tolerant:
                world.tolerate()  # from here on there is a checkpoint, whoever dies
            state = run_updates(run, state, Survive(fleet_of, record, watch_over) if tolerant else None)
            records.close()
            world.patience = SECONDS_TO_FINISH  # nobody watches any more
            return _end(run, options, state, audience)


def check(world: World, config: Config, stop: StopRequest) -> None:
    """Refuse what a training would refuse before it touches its run directory. Collective: all ranks.

    Args:
        world: of the run.
        config: the same on every rank.
        stop: whether this rank was asked to stop.

    Raises:
        AgreedError: the environment, the circuit, a QPU or a module of the user's own is not there or does not fit.
    """
    with ExitStack() as held:
        _prepare(world, config, stop, Stopwatch(), held)


def _begin(
    run: Run,
    options: TrainOptions,
    directory: RunDirectory | None,
    state: TrainingState,
    running: RunningEpisodes,
    audience: Audience,
) -> TrainingState:
    """Bring all ranks to where rank 0 starts from, and return that state. Collective: all ranks."""
    state = _same_everywhere(run.world, state)
    _resume_episodes(run, running)
    if directory:
        _introduce(run, options, directory, state, quiet=audience.quiet)
    _load_kernels(run, state.Theta)
    return state


def _record(
    run: Run,
    options: TrainOptions,
    directory: RunDirectory | None,
    records: ExitStack,
    audience: Audience,
    update: int,
) -> Recorder:
    """Open the run's files, cut back to an update, on the rank that is rank 0 now."""
    if isinstance(run.recorder, Recorder):
        run.recorder.cut_back(update)
        return run.recorder
    own, config = directory or _take_over(options.run_dir), options.config
    status = Status(options.run_dir, config.updates, run.num_agents, update, run.left)
    recorder = Recorder(own, update, config, run.world.size, status, audience.listeners, audience.quiet)
    return records.enter_context(recorder)


def _end(run: Run, options: TrainOptions, state: TrainingState, audience: Audience) -> Ending:
    done = state.update >= options.config.updates
    if isinstance(run.recorder, Recorder):
        again = None if done else audience.again(options.run_dir)
        words = run.recorder.end(state.update, again, run.why)
        if not audience.quiet:
            print(words, flush=True)
    return Ending(state, done, None if done else run.why)


def _hold(options: TrainOptions, held: ExitStack) -> RunDirectory:
    """Return the run's directory, which is let go when the training is over."""
    directory = RunDirectory(options.run_dir, resume=options.resume)
    held.callback(directory.close)
    forget_signs(options.run_dir)
    return directory


def _prepare(
    world: World, config: Config, stop: StopRequest, stopwatch: Stopwatch, held: ExitStack
) -> tuple[Run, Callable[[list[int]], Fleet]]:
    """Return what this rank makes updates with, and what makes the fleet of other agents. Collective: all ranks."""
    if config.on_agent_failure == "continue":
        world.check_tolerant()
    elif config.adopt:
        raise AgreedError("--adopt: got True, expected false without --on-agent-failure continue")
    world.agree(jit.check_cache_folder)
    if ":" in config.env_id:  # a module of the user's own; before others are made, since some allow one at a time
        world.agree(lambda: check_plays(config) if world.rank == 0 else None)
    environments = world.agree(lambda: [make_environment(config.env_id) for _ in range(config.agents_per_rank)])
    for environment in environments:
        held.callback(environment.close)
    spec = world.agree(lambda: policy_spec(environments[0], config, config))
    agents = Agents(config, spec, environments, first_agent=world.rank * config.agents_per_rank)

    def fleet_of(numbers: list[int]) -> Fleet:
        return make_fleet(
            config,
            spec,
            stopwatch,
            agents=numbers,
            num_agents=world.began_with * config.agents_per_rank,
            node_rank=world.node_rank,
            node_size=world.node_size,
            add=lambda rows: run.counted_sum(rows),
            called_off=lambda: stop.presses(),
        )

    fleet = world.agree(lambda: fleet_of(agents.numbers))
    world.agree(lambda: check_installed(config))
    monitor = world.agree(lambda: make_monitor(config, spec, stopwatch.at))
    run = Run(world, config, spec, fleet, agents, stop, stopwatch, monitor=monitor)
    return run, fleet_of


def _take_over(run_dir: Path) -> RunDirectory:
    """Return the directory that rank 0 held until it died."""
    deadline = time.monotonic() + SECONDS_TO_TAKE_OVER
    while True:
        try:
            return RunDirectory(run_dir, resume=True)
        except InUseError:  # until the system has cleared away the dead
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


@contextmanager
def _noting_failure(run_dir: Path, world: World) -> Iterator[None]:
    """Note in ``status.json`` of what a run fails, on the rank that fails; of what all know of, on rank 0."""
    try:
        yield
    except AgreedError:
        raise
    except (TrainingError, RanksLostError) as found:
        error = world.end_of(found) if isinstance(found, RanksLostError) else found
        if world.rank == 0:  # a rank that died may have said of what
            say_failed(run_dir, one_line(error), keep=error is not found)
        raise error from None
    except (UserError, WriteError) as error:
        say_failed(run_dir, f"rank {world.number}: {one_line(error)}")
        if isinstance(error, WriteError) and os.path.exists(run_dir / NEWEST):  # unlike Path's, this raises nothing
            error.advice = "; once it can, --resume goes on from the newest checkpoint"
        raise
    except KeyboardInterrupt:
        say_failed(run_dir, "interrupted", "stopped")
        raise
    except BaseException as error:
        say_failed(run_dir, f"rank {world.number}: {type(error).__name__}: {one_line(error)}")
        raise


def _starting_point(
    run: Run, options: TrainOptions, directory: RunDirectory | None
) -> tuple[TrainingState, RunningEpisodes]:
    """Return rank 0's state and running episodes to start from, having marked the directory as a run.

    Other ranks return the initial state. Nothing runs at the start, nor ever without ``steps_per_update``.
    """
    initial, nothing_runs = initial_state(run.fleet, run.config), RunningEpisodes.none(run.num_agents)
    if directory is None:
        return initial, nothing_runs
    if not options.resume:
        directory.write_config(options.config)
        return initial, nothing_runs
    checkpoint = directory.resume(
        options.config, num_agents=run.num_agents, world_size=run.world.size, spec=run.spec, initial=initial
    )
    return checkpoint.state, checkpoint.running or nothing_runs


def _resume_episodes(run: Run, running: RunningEpisodes) -> None:
    """Play all agents to where rank 0's ``running`` says they were. Collective: all ranks."""
    if run.config.steps_per_update is None:
        return
    running = RunningEpisodes(*map(run.world.share, running))
    run.world.agree(lambda: run.agents.resume(running.of(run.agents.numbers)))


def _load_kernels(run: Run, Theta: Theta) -> None:
    """Let one rank compile kernels that are not on disk yet, and the others load them. Collective: all ranks."""
    world = run.world

    def load() -> None:
        run.fleet.warm_up(Theta)

    if any(world.gather_text("" if jit.keeps_kernels() else "not kept")):
        if world.rank == 0:
            print(
                "warning: Numba finds no folder to keep machine code in, every start compiles the kernels anew: set "
                "NUMBA_CACHE_DIR to a folder that can be written to",
                file=sys.stderr,
                flush=True,
            )
        load()
    else:
        world.first_then_others(load)


def _same_everywhere(world: World, state: TrainingState) -> TrainingState:
    vector = state.to_vector()
    world.broadcast(vector)
    return TrainingState.from_vector(vector, state.Theta.num_angles)


def _introduce(run: Run, options: TrainOptions, directory: RunDirectory, state: TrainingState, *, quiet: bool) -> None:
    """Print what the directory warns of and, unless ``quiet``, what is about to be trained."""
    config, world = options.config, run.world
    for warning in directory.warnings:
        print(f"warning: {warning}", file=sys.stderr, flush=True)
    if quiet:
        return
    lines = [
        f"agents    {run.num_agents} on {world.size} rank(s), {config.env_id}, {run.spec.num_actions} actions",
        *describe(config, run.spec, state.Theta.vector.size, world.node_rank).splitlines(),
        *describe_measurement(config, run.spec),
        f"run       {directory.path}, from update {state.update} to {config.updates}",
    ]
    if "tensorboard" in config.trackers:
        lines.append(f"watch     tensorboard --logdir {shlex.quote(str(directory.path))}")
    print("\n  ".join([f"qtrl_hpc {qtrl_hpc.__version__}", *lines]), flush=True)
