"""One update after another: the data path, readable as the paper's equations, and what an update leaves behind."""

import sys
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.agents import Agents
from qtrl_hpc.checkpoint import Checkpoint, TrainingState
from qtrl_hpc.config import BACKEND, Config
from qtrl_hpc.contribution import Total, pack
from qtrl_hpc.distributed import RanksLostError, World
from qtrl_hpc.environment import Purpose, seed_sequence
from qtrl_hpc.episode import RunningEpisodes
from qtrl_hpc.errors import TrainingError
from qtrl_hpc.factory import measures
from qtrl_hpc.fleet import Fleet
from qtrl_hpc.generator import Generator, Theta
from qtrl_hpc.monitoring import Monitor
from qtrl_hpc.optimizer import OptimizerState, ascend
from qtrl_hpc.policy import PolicySpec
from qtrl_hpc.recorder import RunLog
from qtrl_hpc.reinforce import Baseline
from qtrl_hpc.stop import BY_SIGNAL, StopRequest
from qtrl_hpc.stopwatch import COUNTS, PHASES, Stopwatch


@dataclass
class Run:
    """What one rank makes updates with. Ranks that are lost change it."""

    world: World
    config: Config
    spec: PolicySpec
    fleet: Fleet
    agents: Agents
    stop: StopRequest
    stopwatch: Stopwatch
    recorder: RunLog | None = None
    """Rank 0 alone has one."""
    monitor: Monitor | None = None
    """Every rank has one, or none; rank 0's looks."""
    left: list[dict[str, Any]] = field(default_factory=list)
    """Who was lost, and since which update."""
    row: dict[str, Any] = field(default_factory=dict)
    """The metrics of the last update, which another rank may have to write."""
    why: str | None = None
    """What stopped it before its end."""

    @property
    def num_agents(self) -> int:
        """Return N, with those that were lost on the way."""
        return self.world.began_with * self.config.agents_per_rank

    def sum(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Add the rows of all ranks by one Allreduce; each row is an agent's, or one is the sum of all of a rank's."""
        places = self.agents.numbers if self.config.reduction == "ordered" else None
        return self.world.sum(rows, places=places, count=self.num_agents)

    def counted_sum(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return that sum, if all ranks are in it."""
        counted = np.column_stack([rows, np.zeros(len(rows))])
        counted[0, -1] = 1.0
        total = self.sum(counted)
        self.world.check_count(total[-1])
        return total[:-1]


class Moment(NamedTuple):
    """Where a run was before an update: from here it can be made again."""

    state: TrainingState
    running: RunningEpisodes | None
    """This rank's, where agents' episodes go on from one update to the next."""
    numbers: list[int]
    """Of this rank's agents."""


class Survival(Protocol):
    """Bring a run back to work after ranks of it were lost."""

    def __call__(self, run: Run, past: list[Moment], loss: RanksLostError) -> TrainingState:
        """Return the state to go on from, having changed ``run``. Collective: all ranks that are left."""
        ...


def run_updates(run: Run, state: TrainingState, survive: Survival | None = None) -> TrainingState:
    """Make updates until they are done or a rank was asked to stop, or too few QPUs deliver. Collective: all ranks.

    Args:
        run: of this rank.
        state: to start from.
        survive: brings it back to work where ranks die; None: that is the run's end.

    Returns:
        The state after the last update, which a checkpoint holds.
    """
    past: deque[Moment] = deque(maxlen=2)  # no rank is further ahead of another than one update
    over = False
    while True:
        try:
            while not over and state.update < run.config.updates:
                goes_back = survive is not None or measures(run.config)
                past.append(Moment(state, running_episodes(run) if goes_back else None, run.agents.numbers))
                state, over = _update(run, past[-1])
                if state is not past[-1].state:
                    look(run, state)
                if over or state.update % run.config.checkpoint_every == 0 or state.update == run.config.updates:
                    save(run, state, past[-1].running if state is past[-1].state else running_episodes(run))
            run.stopwatch.at("agreement")
            run.world.settle()
            return state
        except RanksLostError as loss:
            if survive is None:
                raise
            state, over = survive(run, [*past, Moment(state, None, run.agents.numbers)], loss), False
            past.clear()


def _update(run: Run, before: Moment) -> tuple[TrainingState, bool]:
    """Make one update, and return the state after it and whether to stop then.

    Where too few QPUs deliver, or any fails when a stop is asked for, that is the state before it: a resumed run makes
    the update anew.
    """
    state = before.state
    total, failures = _sum_of_all_agents(run, state)
    if total["stop"] > 0 and total["failed"] > 0:  # a resumed run makes the update with those that were not waited for
        run.why = run.stop.why or BY_SIGNAL
        return state, True
    if total["delivered"] < run.config.quorum * run.num_agents:
        run.why = _no_quorum(run, state, total, failures)
        return state, True
    state = step(state, total, run.config, num_agents=int(total["delivered"]))  # Eq. 5
    if not state.is_finite():
        raise TrainingError(f"update {state.update}: the step makes Theta overflow; try a smaller --learning-rate")
    if run.recorder or run.world.tolerant:
        run.row = _metrics_row(run, state, total, failures)
    if run.recorder:
        run.recorder.update(run.row)
    if total["stop"] > 0:
        run.why = run.stop.why or BY_SIGNAL
        return state, True
    return state, False


def _sum_of_all_agents(run: Run, state: TrainingState) -> tuple[Total, dict[int, str]]:
    """Return what all agents make of a state, added up, and of those whose QPU failed, why. Collective: all ranks."""
    fleet, agents, stopwatch = run.fleet, run.agents, run.stopwatch
    stopwatch.restart()
    theta = fleet(state.Theta, state.update)  # one circuit execution per update; one an agent where they measure
    with stopwatch("episode"):
        trajectories = agents.play(theta, state.update)
    with stopwatch("gradient"):
        d_theta, statistics = agents.reinforce(trajectories, theta, state.baseline, state.update)  # Eq. 1, 2
    d_Theta = fleet.pullback(d_theta)  # Eq. 3 and 4
    with stopwatch("waiting"):
        run.world.barrier()
    rows = pack(
        d_Theta,
        statistics,
        stopwatch,
        size=state.Theta.vector.size,
        agents=len(agents.numbers),
        failed=len(fleet.failures),
        stop=run.stop.why is not None,
    )
    with stopwatch("reduction"):
        total = Total(run.sum(rows))  # the one Allreduce
    run.world.check_count(total["ranks"])
    _check_finite(run.world, rows, total, state.update)
    return total, run.world.gather_items(fleet.failures) if total["failed"] else {}


def running_episodes(run: Run) -> RunningEpisodes | None:
    """Return where this rank's agents are, if their episodes go on from one update to the next."""
    return None if run.config.steps_per_update is None else run.agents.running()


def look(run: Run, state: TrainingState) -> None:
    """Play the policy on rank 0 where it is the time to, while the others wait. Collective: all ranks."""
    if run.monitor is None or not run.monitor.is_due(state.update):
        return
    if run.recorder:
        run.stopwatch.at("the policy to look at")
        theta, _ = run.fleet.policy(state.Theta, state.update)
        run.recorder.seen(run.monitor.look(theta, state.update))
    run.stopwatch.at("agreement")
    run.world.barrier()
    run.stopwatch.at("an update")


def save(run: Run, state: TrainingState, running: RunningEpisodes | None) -> None:
    """Write a checkpoint on rank 0, if ranks hold the same state; ``running`` is this rank's. Collective: all ranks."""
    run.stopwatch.at("agreement")
    run.world.check_same(state.digest(), f"the state after update {state.update}")
    if running is not None:
        numbers = run.world.gather_numbers(np.array(run.agents.numbers, np.float64))
        running = RunningEpisodes(*map(run.world.gather_numbers, running))
        running = running.in_order(numbers, run.num_agents) if run.recorder else running
    if run.recorder:
        run.stopwatch.at("writing a checkpoint")
        run.recorder.checkpoint(_checkpoint(run, state, running))
    run.stopwatch.at("an update")


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
        config = replace(config, learning_rate=config.learning_rate * config.spsa_gain_at(state.update))
    vector, optimizer = ascend(state.Theta.vector, total.gradient / num_agents, state.optimizer, config)
    return TrainingState(
        update=state.update + 1,
        Theta=Theta(vector, state.Theta.num_angles),
        optimizer=optimizer,
        baseline=state.baseline.updated(
            total["steps"], total["return"], total["squared_return"], config.baseline_decay
        ),
    )


def _no_quorum(run: Run, state: TrainingState, total: Total, failures: dict[int, str]) -> str:
    reasons = [f"--qpu {run.config.qpu}"] if run.config.qpu.startswith(BACKEND) else []
    reasons += [f"agent {agent}: {reason}" for agent, reason in sorted(failures.items())]
    reasons += [f"rank {each['rank']}: {each['why']}" for each in run.left if not each["adopted"]]
    why = (
        f"update {state.update + 1} was delivered by {int(total['delivered'])} of {run.num_agents} agents, "
        f"expected at least --quorum {run.config.quorum:g} of them ({'; '.join(reasons)})"
    )
    if run.world.rank == 0:
        print(f"stopped: {why}", file=sys.stderr, flush=True)
    return why


def _check_finite(world: World, rows: np.ndarray, total: Total, update: int) -> None:
    if total["non_finite"] == 0:  # a reduced value: the same on every rank
        return
    culprits = world.gather_text("" if np.isfinite(rows).all() else f"rank {world.rank}")
    names = ", ".join(filter(None, culprits))
    raise TrainingError(
        f"update {update + 1}: the gradient or a reward of {names} is not finite; nothing was changed by it"
    )


def _metrics_row(run: Run, state: TrainingState, total: Total, failures: dict[int, str]) -> dict[str, Any]:
    """Return one line of ``metrics.jsonl``; seconds are means over ranks, of the reduction rank 0's."""
    measured = {
        "delivered": int(total["delivered"]),
        "qpu_failures": {str(agent): reason for agent, reason in sorted(failures.items())},
        **{name: int(total[name]) for name in COUNTS},
    }
    seconds = {f"seconds_{phase}": total[phase] / run.world.size for phase in PHASES[:-1]}
    gradient = total.gradient / total["delivered"]
    return {
        "update": state.update,
        "episodes": int(total["episodes"]),
        "steps": int(total["steps"]),
        "reward_mean": total.mean("reward", "episodes"),
        "episode_length_mean": total.mean("length", "episodes"),
        "entropy_mean": total.mean("entropy", "steps"),
        "grad_norm": float(np.linalg.norm(gradient)),
        **_quantum_metrics(run.fleet, Theta(gradient, state.Theta.num_angles)),
        "baseline": state.baseline.expected,
        **(measured if measures(run.config) else {}),
        **({"ranks": run.world.size, "left": _newly_left(run, state.update)} if run.world.tolerant else {}),
        "seconds": run.stopwatch.total,
        **seconds,
        "seconds_reduction": run.stopwatch.seconds["reduction"],
    }


def _quantum_metrics(fleet: Fleet, gradient: Theta) -> dict[str, float]:
    """Return how far the update's probabilities are spread, and the norms of both parts of ∂J/∂Θ.

    Where no circuit is trained there are neither; where no QPU of this rank has delivered, the norms alone.
    """
    if not gradient.num_angles:
        return {}
    spread = fleet.concentration()
    return {
        "grad_norm_phi": float(np.linalg.norm(gradient.phi)),
        "grad_norm_beta": float(np.linalg.norm(gradient.beta)),
        **(
            {"probability_entropy": spread.entropy, "participation_ratio": spread.participation_ratio} if spread else {}
        ),
    }


def _newly_left(run: Run, update: int) -> list[int]:
    """Return the ranks that were lost since the update before."""
    return [each["rank"] for each in run.left if each["update"] == update - 1]


def _checkpoint(run: Run, state: TrainingState, running: RunningEpisodes | None) -> Checkpoint:
    theta, source = run.fleet.policy(state.Theta, state.update)
    return Checkpoint(
        state=state,
        theta=theta,
        theta_source=source,
        config=run.config,
        policy_spec=run.spec,
        num_agents=run.num_agents,
        world_size=run.world.size,
        running=running,
    )
