"""Train a policy whose weights a quantum circuit generates: ``mpirun -n 8 python -m qtrl_hpc.train``."""

import os
import sys
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
from threadpoolctl import threadpool_limits

import qtrl_hpc
from qtrl_hpc import jit
from qtrl_hpc.agents import Agents
from qtrl_hpc.checkpoint import Checkpoint, TrainingState
from qtrl_hpc.cli import TrainOptions, asks_for_help, parse_train, print_train_help
from qtrl_hpc.config import Config
from qtrl_hpc.contribution import Total, pack
from qtrl_hpc.distributed import World, launch
from qtrl_hpc.environment import Purpose, make_environment, policy_spec, seed_sequence
from qtrl_hpc.episode import RunningEpisodes
from qtrl_hpc.errors import EXIT_DONE, EXIT_STOPPED, TrainingError
from qtrl_hpc.factory import describe, measures
from qtrl_hpc.fleet import Fleet, Rows, as_fleet
from qtrl_hpc.fleet_factory import describe_measurement, make_fleet
from qtrl_hpc.generator import Generator, Theta
from qtrl_hpc.launcher import launched_rank
from qtrl_hpc.optimizer import OptimizerState, ascend
from qtrl_hpc.policy import PolicySpec
from qtrl_hpc.recorder import Recorder, RunLog
from qtrl_hpc.reinforce import Baseline
from qtrl_hpc.run_directory import RunDirectory
from qtrl_hpc.stop import StopRequest
from qtrl_hpc.stopwatch import COUNTS, PHASES, Stopwatch


def main(argv: list[str] | None = None) -> NoReturn:
    """Run the command on every rank; exit codes as in docs/architecture.md."""
    arguments = sys.argv[1:] if argv is None else argv
    if asks_for_help(arguments):
        if launched_rank(os.environ) == 0:
            print_train_help()
        sys.exit(EXIT_DONE)
    stop = StopRequest()
    launch(
        lambda: parse_train(arguments).to_json(),
        lambda world, text: train(world, TrainOptions.from_json(text), stop),
    )


def train(world: World, options: TrainOptions, stop: StopRequest) -> int:
    """Train from the start, or from the newest checkpoint. Collective: all ranks.

    Args:
        world: of the run.
        options: the same on every rank.
        stop: whether this rank was asked to stop.

    Returns:
        ``EXIT_DONE``, or ``EXIT_STOPPED`` where a signal stopped it with a checkpoint written.

    Raises:
        AgreedError: the options do not fit the environment, the run directory or its checkpoint.
        TrainingError: a gradient is not finite, or the ranks no longer agree.
    """
    config, stopwatch = options.config, Stopwatch()
    world.agree(jit.check_cache_folder)
    threadpool_limits(config.threads)
    environments = world.agree(lambda: [make_environment(config.env_id) for _ in range(config.agents_per_rank)])
    spec = world.agree(lambda: policy_spec(environments[0], config, config))
    first_agent, num_agents = world.rank * config.agents_per_rank, world.size * config.agents_per_rank
    fleet = world.agree(
        lambda: make_fleet(
            config,
            spec,
            stopwatch,
            first_agent=first_agent,
            num_agents=num_agents,
            node_rank=world.node_rank,
            add=lambda rows: world.sum(rows, ordered=config.reduction == "ordered"),
        )
    )
    agents = Agents(config, spec, environments, first_agent=first_agent)
    state = initial_state(fleet, config)
    directory = world.agree(lambda: RunDirectory(options.run_dir, resume=options.resume) if world.rank == 0 else None)
    state, running = world.agree(lambda: _starting_point(world, options, directory, spec, state))
    state = _same_everywhere(world, state)
    if config.steps_per_update is not None:
        running = _resume_episodes(world, agents, running or RunningEpisodes.none(num_agents))
    if directory:
        _introduce(world, options, directory, spec, state)
    _load_kernels(world, fleet, state.Theta)
    recorder = Recorder(directory, state.update, config.updates) if directory else None
    if recorder and not options.resume:
        recorder.checkpoint(_checkpoint(world, config, spec, fleet, state, running))
    # What is not finite is looked for, and named, by run_updates: NumPy need not warn of it.
    with recorder or nullcontext(), np.errstate(over="ignore", invalid="ignore"):
        state = run_updates(world, config, spec, fleet, agents, state, stop, stopwatch, recorder)
    done = state.update >= config.updates
    if recorder:
        command = f"the same command with --run-dir {options.run_dir} --resume"
        print(recorder.summary(state.update, None if done else command), flush=True)
    return EXIT_DONE if done else EXIT_STOPPED


def run_updates(
    world: World,
    config: Config,
    spec: PolicySpec,
    generator: Generator | Fleet,
    agents: Agents,
    state: TrainingState,
    stop: StopRequest,
    stopwatch: Stopwatch,
    recorder: RunLog | None,
) -> TrainingState:
    """Make updates until they are done or a rank was asked to stop, or too few QPUs deliver. Collective: all ranks.

    Returns:
        The state after the last update, which a checkpoint holds.
    """
    fleet, num_agents = as_fleet(generator), world.size * config.agents_per_rank
    while state.update < config.updates:
        stopwatch.restart()
        theta = fleet(state.Theta, state.update)  # one circuit execution per update; one an agent where they measure
        with stopwatch("episode"):
            trajectories = agents.play(theta, state.update)
        with stopwatch("gradient"):
            d_theta, statistics = agents.reinforce(trajectories, theta, state.baseline, state.update)  # Eq. 1, 2
        d_Theta = fleet.pullback(d_theta)  # Eq. 3 and 4
        with stopwatch("waiting"):
            world.barrier()
        rows = _contribution(config, state, d_Theta, statistics, fleet, stopwatch, stop)
        with stopwatch("reduction"):
            total = Total(world.sum(rows, ordered=config.reduction == "ordered"))  # the one Allreduce
        _check_finite(world, rows, total, state.update)
        failures = world.gather_items(fleet.failures) if total["failed"] else {}
        if total["delivered"] < config.quorum * num_agents:
            return _stop_without_quorum(world, config, spec, fleet, agents, state, recorder, total, failures)
        state = step(state, total, config, num_agents=int(total["delivered"]))  # Eq. 5
        if not state.is_finite():
            raise TrainingError(f"update {state.update}: the step makes Theta overflow; try a smaller --learning-rate")
        stopping = total["stop"] > 0
        if recorder:
            recorder.update(_metrics_row(world, config, state, total, stopwatch, failures))
        if stopping or state.update % config.checkpoint_every == 0 or state.update == config.updates:
            running = agents.running() if config.steps_per_update is not None else None
            _save(world, config, spec, fleet, state, running, recorder)
        if stopping:
            break
    return state


def initial_state(generator: Generator | Fleet, config: Config) -> TrainingState:
    """Return the state before the first update, which the seed alone decides."""
    Theta_ = generator.initial(np.random.default_rng(seed_sequence(config.seed, Purpose.INITIAL)))
    return TrainingState(
        update=0, Theta=Theta_, optimizer=OptimizerState.zeros(Theta_.vector.size), baseline=Baseline()
    )


def step(state: TrainingState, total: Total, config: Config, num_agents: int) -> TrainingState:
    """Return the state after one update: Θ ← Θ + η·(1/N)·Σ_i ∇_Θ J_i (Eq. 5), or what the optimiser makes of that mean.

    Args:
        state: before.
        total: the sum over all agents.
        config: of the run.
        num_agents: N, those that delivered.
    """
    if config.gradient == "spsa" and config.spsa_alpha:
        config = replace(config, learning_rate=config.learning_rate * step_gain(config, state.update))
    vector, optimizer = ascend(state.Theta.vector, total.gradient / num_agents, state.optimizer, config)
    return TrainingState(
        update=state.update + 1,
        Theta=Theta(vector, state.Theta.num_angles),
        optimizer=optimizer,
        baseline=state.baseline.updated(
            total["steps"], total["return"], total["squared_return"], config.baseline_decay
        ),
    )


def step_gain(config: Config, update: int) -> float:
    """Return what SPSA's gain sequence makes of the learning rate: a_k/a_0 = ((A + 1)/(A + k + 1))^alpha."""
    return ((config.spsa_stability + 1.0) / (config.spsa_stability + update + 1.0)) ** config.spsa_alpha


def _contribution(
    config: Config,
    state: TrainingState,
    d_Theta: Rows,
    statistics: np.ndarray,
    fleet: Fleet,
    stopwatch: Stopwatch,
    stop: StopRequest,
) -> np.ndarray:
    """Return what this rank puts into the one reduction."""
    return pack(
        d_Theta,
        statistics,
        stopwatch,
        size=state.Theta.vector.size,
        agents=config.agents_per_rank,
        failed=len(fleet.failures),
        stop=stop.received is not None,
    )


def _save(
    world: World,
    config: Config,
    spec: PolicySpec,
    fleet: Fleet,
    state: TrainingState,
    running: RunningEpisodes | None,
    recorder: RunLog | None,
) -> None:
    """Write a checkpoint on rank 0, if ranks hold the same state; ``running`` is this rank's. Collective: all ranks."""
    world.check_same(state.digest(), f"the state after update {state.update}")
    if running is not None:
        running = RunningEpisodes(*map(world.gather_numbers, running))
    if recorder:
        recorder.checkpoint(_checkpoint(world, config, spec, fleet, state, running))


def _stop_without_quorum(
    world: World,
    config: Config,
    spec: PolicySpec,
    fleet: Fleet,
    agents: Agents,
    state: TrainingState,
    recorder: RunLog | None,
    total: Total,
    failures: dict[int, str],
) -> TrainingState:
    """Save the state as it was before an update that too few agents delivered, and say so. Collective: all ranks.

    A resumed run makes that update anew, so agents are saved where they were before it too.
    """
    running = agents.running_before() if config.steps_per_update is not None else None
    _save(world, config, spec, fleet, state, running, recorder)
    if world.rank == 0:
        num_agents = world.size * config.agents_per_rank
        reasons = "; ".join(f"agent {agent}: {reason}" for agent, reason in sorted(failures.items()))
        print(
            f"stopped: update {state.update + 1} was delivered by {int(total['delivered'])} of {num_agents} agents, "
            f"expected at least --quorum {config.quorum:g} of them ({reasons})",
            file=sys.stderr,
            flush=True,
        )
    return state


def _starting_point(
    world: World, options: TrainOptions, directory: RunDirectory | None, spec: PolicySpec, initial: TrainingState
) -> tuple[TrainingState, RunningEpisodes | None]:
    """Return rank 0's state and running episodes to start from, having marked the directory as a run.

    Other ranks return the initial state. Nothing runs at the start, nor ever without ``steps_per_update``.
    """
    if directory is None:
        return initial, None
    if not options.resume:
        directory.write_config(options.config)
        return initial, None
    num_agents = world.size * options.config.agents_per_rank
    checkpoint = directory.resume(
        options.config, num_agents=num_agents, world_size=world.size, spec=spec, initial=initial
    )
    return checkpoint.state, checkpoint.running


def _resume_episodes(world: World, agents: Agents, running: RunningEpisodes) -> RunningEpisodes:
    """Play all agents to where rank 0's ``running`` says they were, and return it. Collective: all ranks."""
    running = RunningEpisodes(*map(world.share, running))
    world.agree(lambda: agents.resume(running))
    return running


def _load_kernels(world: World, fleet: Fleet, Theta: Theta) -> None:
    """Let one rank compile kernels that are not on disk yet, and the others load them. Collective: all ranks."""

    def load() -> None:
        fleet.warm_up(Theta)

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


def _check_finite(world: World, rows: np.ndarray, total: Total, update: int) -> None:
    if total["non_finite"] == 0:  # a reduced value: the same on every rank
        return
    culprits = world.gather_text("" if np.isfinite(rows).all() else f"rank {world.rank}")
    names = ", ".join(filter(None, culprits))
    raise TrainingError(
        f"update {update + 1}: the gradient or a reward of {names} is not finite; nothing was changed by it"
    )


def _metrics_row(
    world: World,
    config: Config,
    state: TrainingState,
    total: Total,
    stopwatch: Stopwatch,
    failures: dict[int, str],
) -> dict[str, Any]:
    """Return one line of ``metrics.jsonl``; seconds are means over ranks, of the reduction rank 0's."""
    measured = {
        "delivered": int(total["delivered"]),
        "qpu_failures": {str(agent): reason for agent, reason in sorted(failures.items())},
        **{name: int(total[name]) for name in COUNTS},
    }
    seconds = {f"seconds_{phase}": total[phase] / world.size for phase in PHASES[:-1]}
    return {
        "update": state.update,
        "episodes": int(total["episodes"]),
        "steps": int(total["steps"]),
        "reward_mean": total.mean("reward", "episodes"),
        "episode_length_mean": total.mean("length", "episodes"),
        "entropy_mean": total.mean("entropy", "steps"),
        "grad_norm": float(np.linalg.norm(total.gradient)) / int(total["delivered"]),
        **(measured if measures(config) else {}),
        "seconds": stopwatch.total,
        **seconds,
        "seconds_reduction": stopwatch.seconds["reduction"],
    }


def _checkpoint(
    world: World,
    config: Config,
    spec: PolicySpec,
    fleet: Fleet,
    state: TrainingState,
    running: RunningEpisodes | None,
) -> Checkpoint:
    theta, source = fleet.policy(state.Theta, state.update)
    return Checkpoint(
        state=state,
        theta=theta,
        theta_source=source,
        config=config,
        policy_spec=spec,
        num_agents=world.size * config.agents_per_rank,
        world_size=world.size,
        running=running,
    )


def _introduce(
    world: World, options: TrainOptions, directory: RunDirectory, spec: PolicySpec, state: TrainingState
) -> None:
    config = options.config
    for warning in directory.warnings:
        print(f"warning: {warning}", file=sys.stderr, flush=True)
    num_agents = world.size * config.agents_per_rank
    lines = [
        f"agents    {num_agents} on {world.size} rank(s), {config.env_id}, {spec.num_actions} actions",
        *describe(config, spec, state.Theta.vector.size, world.node_rank).splitlines(),
        *describe_measurement(config, spec),
        f"run       {directory.path}, from update {state.update} to {config.updates}",
    ]
    print("\n  ".join([f"qtrl_hpc {qtrl_hpc.__version__}", *lines]), flush=True)


if __name__ == "__main__":
    main()
