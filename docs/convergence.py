"""Measure what docs/theory.md states: averages over agents, bias, gradients along runs, a noisy QPU.

    python docs/convergence.py --output docs/images --document docs/theory.md
    python docs/convergence.py --quick --output FOLDER

Writes ``convergence.json`` and two pictures (extra ``docs``), prints the tables of docs/theory.md and puts them there.
Expectations are exact (docs/convergence_maths.py); agents are asked for samples beside them, never instead.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from convergence_maths import (
    SIGMA,
    Episodes,
    Estimate,
    ExpectedGradient,
    RoomEnv,
    Vector,
    cosine,
    curvature,
    explore,
    jackknife,
    mean_reward,
    norm_of_mean,
    objective_gradient,
    penalty_gradient,
    settled,
    slope,
    squared_mean,
    total_variance,
)
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from qtrl_hpc.agents import STATISTICS, Agents
from qtrl_hpc.checkpoint import TrainingState
from qtrl_hpc.cli import parse_train
from qtrl_hpc.config import Config, ReinforceConfig
from qtrl_hpc.distributed import World
from qtrl_hpc.environment import make_environment, policy_spec
from qtrl_hpc.errors import TrainingError
from qtrl_hpc.factory import make_generator, num_qubits_for
from qtrl_hpc.fleet import OneForAll
from qtrl_hpc.generator import Feature, Generator, QuantumGenerator, Theta
from qtrl_hpc.mapping import make_mapping
from qtrl_hpc.quantum.adjoint import AdjointGradient
from qtrl_hpc.quantum.ansatz import Ansatz
from qtrl_hpc.quantum.qpu import StatevectorQPU
from qtrl_hpc.reinforce import Baseline
from qtrl_hpc.stop import StopRequest
from qtrl_hpc.stopwatch import Stopwatch
from qtrl_hpc.updates import Run, initial_state, run_updates

AGENTS = 8  # of the runs
SGD_STEP = "0.003"  # of the run with --optimizer sgd
SGD = ("--optimizer", "sgd", "--learning-rate", SGD_STEP)
STEPS = ("0.003", "0.01", "0.03", "0.1")  # tried from the same start
SMOOTH = ("--preset", "paper", "--gamma", "1", "--time-reduction", "sum", "--policy-activation", "tanh")
"""The one recipe to which every assumption of docs/theory.md applies: an unbiased gradient of E[R], no kinks."""
SMOOTH_STEP = "0.0003"
SMOOTH_AGENTS = (1, 8)
EARNS = 0.1  # a run begins at the first seed whose initial policy earns as much
HALF = 0.75  # E[R] of what is called half-trained
SAMPLE_SEED = 3_000_000  # of agents that are in no run
STARTS = range(1000, 1060)  # as docs/initial_policies.py
VARIANTS = (
    ("--preset paper --gamma 1 --time-reduction sum", "E[R]"),
    ("--preset paper --gamma 1 --time-reduction sum --advantage baseline", "E[R]"),
    ("--preset paper --gamma 1", "E[R/|τ|]"),
    ("--preset paper --gamma 1 --advantage baseline", "E[R/|τ|]"),
    ("--preset paper --gamma 1 --advantage baseline", "E[(R − μ)/|τ|]"),
    ("--preset paper --gamma 1 --logit-penalty 0.005", "E[R/|τ|] − penalty"),
    ("--preset paper", "none"),
    ("--preset qtrl", "none"),
    ("--preset tuned --logit-penalty 0", "none"),
    ("--preset tuned", "none"),
)


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured."""

    numbers: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    episodes: int = 2048
    checkpoints: tuple[int, ...] = (0, 5, 10, 20, 40, 70, 100, 150, 200, 300, 400, 550, 700, 850, 1000)
    groups: int = 256
    shots: tuple[int, ...] = tuple(2**power for power in range(8, 21, 2))
    draws: int = 128
    noise: tuple[float, ...] = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
    turns: int = 20
    tries: int = 50
    smooth: int = 500


QUICK = Size(
    numbers=(1, 2, 4),
    episodes=64,
    checkpoints=(0, 10, 30),
    groups=16,
    shots=(2**14, 2**18),
    draws=8,
    noise=(0.01, 0.1),
    turns=3,
    tries=3,
    smooth=10,
)


# What is measured.


class Lab:
    """One recipe in one room: its configuration, policy, generator and environment.

    Args:
        flags: of ``qtrl_hpc.train``.
    """

    def __init__(self, *flags: str) -> None:
        # Whole episodes are what can be enumerated.
        config = parse_train([*flags, "--qpu", "statevector", "--steps-per-update", "null"]).config
        if not config.env_id.startswith("MiniGrid-Empty-") or "Random" in config.env_id:
            raise SystemExit(f"--env-id: got {config.env_id!r}, expected a MiniGrid-Empty room that is always the same")
        env = make_environment(config.env_id)
        self.spec = policy_spec(env, config, config)
        self.generator: Generator = make_generator(config, self.spec)
        self.room = explore(env, self.spec)
        self.env = RoomEnv(self.room, env, self.spec)
        if config.optimizer == "sgd":
            config = replace(config, learning_rate_half_life=None)  # the theorem's step is constant
        self.config = config
        self.num_angles = self.start(0).Theta.num_angles

    def start(self, seed: int) -> TrainingState:
        """Return the state before the first update."""
        return initial_state(self.generator, replace(self.config, seed=seed))

    def begin_alive(self) -> None:
        """Take the first seed whose initial policy earns something, and see that the room is the environment."""
        self.config = replace(
            self.config, seed=next(seed for seed in range(1000) if self.reward(self.start(seed).Theta.vector) >= EARNS)
        )
        theta = self.generator(self.start(self.config.seed).Theta)
        real, looked_up = (
            Agents(self.config, self.spec, [env] * 4, first_agent=0).play(theta, 0)
            for env in (make_environment(self.config.env_id), self.env)
        )
        for [one], [other] in zip(real, looked_up, strict=True):
            for name in ("obs", "actions", "rewards", "over"):
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name))

    def run(self, num_agents: int, updates: Iterable[int]) -> Iterator[TrainingState]:
        """Train, and yield the state after each of these numbers of updates."""
        config = replace(self.config, agents_per_rank=num_agents, checkpoint_every=10**9)
        agents = Agents(config, self.spec, [self.env] * num_agents, first_agent=0)
        state, world, clock = self.start(config.seed), World.connect(), Stopwatch()
        for update in updates:
            if update > state.update:
                until = replace(config, updates=update)
                fleet = OneForAll(self.generator)
                state = run_updates(Run(world, until, self.spec, fleet, agents, StopRequest(), clock), state)
            yield state

    def theta(self, vector: Vector) -> Vector:
        """Return theta of Theta."""
        return self.generator(Theta(vector, self.num_angles))

    def reward(self, vector: Vector) -> float:
        """Return E[R], exactly."""
        return mean_reward(self.room, self.theta(vector), self.spec)

    def gradient_of(self, vector: Vector, ending: Vector, cut: float = 0.0) -> Vector:
        """Return ∇_Theta of the mean of a number that an episode has, exactly."""
        d_theta = objective_gradient(self.room, self.theta(vector), self.spec, self.config, ending, cut)
        return self.generator.pullback(d_theta)

    def expected(
        self, baseline: Baseline, update: int, config: Config | None = None, generator: Generator | None = None
    ) -> Callable[[Vector], Vector]:
        """Return the function from Theta to E of what one agent brings to the average, shape (P + l,) both."""
        gradient = ExpectedGradient(self.room, self.spec, settled(config or self.config, update), baseline)
        generate = generator or self.generator
        return lambda vector: generate.pullback(gradient(generate(Theta(vector, self.num_angles))))

    def samples(
        self, vector: Vector, baseline: Baseline, *, agents: int, groups: int, stream: int, configs: list[Config]
    ) -> NDArray[np.float64]:
        """Return the mean of the gradients of so many agents, as a run has it, for so many groups of them.

        Args:
            vector: Theta.
            baseline: of the returns before.
            agents: N.
            groups: how many such means, of other episodes each.
            stream: other numbers give other episodes.
            configs: what is made of the episodes; all see the same.

        Returns:
            Shape (configs, groups, P + l).
        """
        theta = self.theta(vector)
        several = [
            Agents(
                replace(config, seed=SAMPLE_SEED + stream, reduction="allreduce"),
                self.spec,
                [self.env] * agents,
                first_agent=0,
            )
            for config in configs
        ]
        means = np.empty((len(configs), groups, vector.size))
        for group in range(groups):
            trajectories = several[0].play(theta, group)
            for row, each in zip(means, several, strict=True):
                [d_theta], _ = each.reinforce(trajectories, theta, baseline, 0)
                row[group] = self.generator.pullback(d_theta / agents)
        return means

    def settled_baseline(self, vector: Vector) -> Baseline:
        """Return what the running baseline tends to while Theta stands still, from episodes of its own."""
        theta = self.theta(vector)
        agents = Agents(replace(self.config, seed=SAMPLE_SEED - 1), self.spec, [self.env] * 128, first_agent=0)
        _, statistics = agents.reinforce(agents.play(theta, 0), theta, Baseline(), 0)
        total = dict(zip(STATISTICS, statistics.sum(axis=0), strict=True))
        return Baseline().updated(total["steps"], total["return"], total["squared_return"], 0.0)


class Stage(NamedTuple):
    """A Theta that stands still."""

    update: int
    vector: Vector
    reward: float
    baseline: Baseline


def measure(size: Size) -> dict[str, Any]:
    """Measure everything."""
    lab, found = Lab("--preset", "tuned"), {}
    lab.begin_alive()
    states, found["tuned"] = along_a_run(lab, size)
    sgd = Lab("--preset", "tuned", *SGD)
    sgd.begin_alive()
    _, found["sgd"] = along_a_run(sgd, size)
    stages = choose_stages(lab, states)
    found["seed"] = lab.config.seed
    found["states"] = len(lab.room.obs)
    found["averages"] = [averages(lab, stage, size) for stage in stages]
    found["variants"] = [variants(lab, stage, size) for stage in stages]
    without_kinks = Lab("--preset", "tuned", "--policy-activation", "tanh")
    without_kinks.begin_alive()
    start = stage_of(without_kinks, without_kinks.start(without_kinks.config.seed))
    found["shots"] = [shots(without_kinks, start, size), shots(lab, stages[1], size)]
    found["depolarised"] = depolarised(lab, stages[1], size)
    found["starts"] = {preset: starts(Lab("--preset", preset)) for preset in ("paper", "qtrl", "tuned")}
    found["steps"] = steps(size)
    found["smooth"] = smooth(size)
    return found


def choose_stages(lab: Lab, states: list[TrainingState]) -> list[Stage]:
    """Return the first state of a run, the one whose policy earns nearest to ``HALF``, and the last."""
    rewards = [lab.reward(state.Theta.vector) for state in states]
    half = int(np.argmin(np.abs(np.array(rewards) - HALF)))
    return [stage_of(lab, states[index]) for index in (0, half, len(states) - 1)]


def stage_of(lab: Lab, state: TrainingState) -> Stage:
    """Return a state of a run as a Theta that stands still."""
    vector = state.Theta.vector
    return Stage(state.update, vector, lab.reward(vector), lab.settled_baseline(vector))


def along_a_run(lab: Lab, size: Size) -> tuple[list[TrainingState], list[dict[str, Any]]]:
    """Return states of a run, and at each the gradient, exact and estimated from agents that are not in the run."""
    states, rows = [], []
    for state in lab.run(AGENTS, size.checkpoints):
        vector = state.Theta.vector
        expected = lab.expected(state.baseline, state.update)
        config = settled(lab.config, state.update)
        [drawn] = lab.samples(
            vector, state.baseline, agents=AGENTS, groups=size.groups, stream=state.update, configs=[config]
        )
        direction, variance = expected(vector), jackknife(drawn, total_variance)
        states.append(state)
        rows.append({
            "update": state.update,
            "reward": lab.reward(vector),
            "norm": float(np.linalg.norm(direction)),
            "angles": float(np.sum(direction[: lab.num_angles] ** 2) / np.sum(direction**2)),
            "reward_norm": float(np.linalg.norm(lab.gradient_of(vector, lab.room.rewards))),
            "squared_norm": jackknife(drawn, squared_mean),
            "variance": variance,
            "excess": squared_distance(drawn.mean(axis=0), direction) * len(drawn) / variance.value,
            "curvature": curvature(expected, vector, size.turns),
        })  # fmt: skip
    return states, rows


def squared_distance(one: Vector, other: Vector) -> float:
    """Return ‖one − other‖²."""
    return float((one - other) @ (one - other))


def averages(lab: Lab, stage: Stage, size: Size) -> dict[str, Any]:
    """Return tr Cov of the average over N agents, by N, and its slope."""
    found = []
    for number in size.numbers:
        [drawn] = lab.samples(
            stage.vector,
            stage.baseline,
            agents=number,
            groups=size.episodes // number,
            stream=number,
            configs=[settled(lab.config, stage.update)],
        )
        found.append(jackknife(drawn, total_variance))
    return {
        "stage": f"update {stage.update}",
        "reward": stage.reward,
        "variance": found,
        "slope": slope(np.array(size.numbers, float), found),
        "numbers": size.numbers,
    }


def variants(lab: Lab, stage: Stage, size: Size) -> dict[str, Any]:
    """Return what each variant of Eq. 2 estimates, exactly, and how far from it the mean over agents is."""
    configs = [settled(estimator(lab.config, flags.split()), stage.update) for flags, _ in VARIANTS]
    rewards, lengths = lab.room.rewards, np.arange(1.0, len(lab.room.rewards) + 1.0)
    baseline, horizon = stage.baseline, lengths[-1]
    of_reward, of_rate = lab.gradient_of(stage.vector, rewards), lab.gradient_of(stage.vector, rewards / lengths)
    targets = {
        "E[R]": of_reward,
        "E[R/|τ|]": of_rate,
        "E[(R − μ)/|τ|]": lab.gradient_of(
            stage.vector, (rewards - baseline.expected) / lengths, -baseline.expected / horizon
        ),
    }
    all_drawn = lab.samples(
        stage.vector, baseline, agents=AGENTS, groups=size.episodes // AGENTS, stream=0, configs=configs
    )
    rows = []
    for (flags, target), config, drawn in zip(VARIANTS, configs, all_drawn, strict=True):
        expected, mean = lab.expected(baseline, stage.update, config)(stage.vector), drawn.mean(axis=0)
        variance = jackknife(drawn, total_variance).value
        row = {
            "flags": flags,
            "of": target,
            "cosine": cosine(expected, of_reward),
            "excess": squared_distance(mean, expected) * len(drawn) / variance,
        }
        if target != "none":
            exact = targets.get(target)
            if exact is None:
                penalty = penalty_gradient(lab.room, lab.theta(stage.vector), lab.spec, config)
                exact = of_rate - lab.generator.pullback(penalty)
            if config.advantage == "baseline":
                zero, one = baseline.normalise(np.array([0.0, 1.0]), config.baseline_floor)
                exact = exact * (one - zero)
            off = expected - exact
            row["bias"] = float(np.linalg.norm(off) / np.linalg.norm(exact))
            if row["bias"] > 1e-3:
                along = (drawn - exact) @ (off / np.linalg.norm(off))
                row["errors"] = float(along.mean() / (along.std(ddof=1) / np.sqrt(len(along))))
        rows.append(row)
    return {"stage": f"update {stage.update}", "reward": stage.reward, "mean_return": baseline.expected, "rows": rows}


def estimator(config: Config, flags: list[str]) -> Config:
    """Return a configuration with another's way from an episode to its gradient."""
    other = parse_train(flags).config
    return replace(config, **{field.name: getattr(other, field.name) for field in fields(ReinforceConfig)})


class SetQPU:
    """A QPU whose probabilities are set from outside; the circuit behind it stays ideal.

    Args:
        ansatz: its circuit.
    """

    def __init__(self, ansatz: Ansatz) -> None:
        self.ansatz = ansatz
        self.found = np.zeros(ansatz.num_amplitudes)

    def probabilities(self, phi: Vector) -> Vector:
        """Return what was set."""
        return self.found


def noisy_generator(lab: Lab) -> tuple[SetQPU, QuantumGenerator, Callable[[Vector], Vector]]:
    """Return a QPU to set, the generator on it, and the ideal circuit's probabilities of phi.

    The derivative of p is that of the ideal circuit; all that depends on the value of p sees what the QPU found.
    """
    config, rows = lab.config, lab.spec.num_parameters
    ansatz = Ansatz(num_qubits=num_qubits_for(rows), num_layers=config.layers)
    qpu, ideal = SetQPU(ansatz), StatevectorQPU(ansatz)
    feature = Feature(a=config.feature_a, b=config.feature_b, c=config.feature_c)
    mapping = make_mapping(
        num_qubits=ansatz.num_qubits,
        num_rows=rows,
        hidden_sizes=config.mapping_hidden_sizes,
        activation=config.mapping_activation,
    )
    return qpu, QuantumGenerator(qpu, AdjointGradient(ideal), feature, mapping), ideal.probabilities


def shots(lab: Lab, stage: Stage, size: Size) -> dict[str, Any]:
    """Return the variance and the bias that p-hat = multinomial(S, p)/S brings to the expected gradient, by S.

    The part of the error that is linear in p-hat − p has mean 0 and is taken off before the bias is averaged: what is
    left has a spread of the order of the bias itself.
    """
    qpu, generator, ideal = noisy_generator(lab)
    expected = lab.expected(stage.baseline, stage.update, generator=generator)
    p = ideal(stage.vector[: lab.num_angles])
    p = p / p.sum()
    rng, small = np.random.default_rng(SAMPLE_SEED), 1e-3

    def gradient(probabilities: Vector) -> Vector:
        qpu.found = probabilities
        return expected(stage.vector)

    exact = gradient(p)
    variances, biases, angles, rewards = [], [], [], []
    num, norm = lab.num_angles, float(np.linalg.norm(exact))
    for count in size.shots:
        off, curved, earned = [], [], []
        for _ in range(size.draws):
            delta = rng.multinomial(count, p) / count - p
            off.append(gradient(p + delta) - exact)
            earned.append(mean_reward(lab.room, generator(Theta(stage.vector, lab.num_angles)), lab.spec))
            linear = (gradient(p + small * delta) - gradient(p - small * delta)) / (2.0 * small)
            curved.append(off[-1] - linear)
        variances.append(jackknife(np.array(off), total_variance))
        biases.append(jackknife(np.array(curved), norm_of_mean))
        angles.append(
            [
                jackknife(np.array(off)[:, :num], total_variance),
                jackknife(np.array(curved)[:, :num], norm_of_mean),
            ]
        )
        rewards.append(Estimate(float(np.mean(earned)), float(np.std(earned, ddof=1) / np.sqrt(len(earned)))))
    few = [index for index, count in enumerate(size.shots) if 2 * count >= p.size] or [0, 1]
    fitted = np.array(size.shots, float)[few]
    return {
        "policy": lab.spec.activation,
        "stage": f"update {stage.update}",
        "reward": stage.reward,
        "norm": norm,
        "norm_of_angles": float(np.linalg.norm(exact[:num])),
        "angles": angles,
        "shots": size.shots,
        "variance": variances,
        "bias": biases,
        "rewards": rewards,
        "fitted_from": size.shots[few[0]],
        "variance_slope": slope(fitted, [variances[index] for index in few]),
        "bias_slope": slope(fitted, [biases[index] for index in few]),
    }


def depolarised(lab: Lab, stage: Stage, size: Size) -> dict[str, Any]:
    """Return the bias that p ↦ (1 − r)·p + r/2ⁿ brings, by r, over what the ideal circuit gives."""
    qpu, generator, ideal = noisy_generator(lab)
    expected, num = lab.expected(stage.baseline, stage.update, generator=generator), lab.num_angles
    qpu.found = p = ideal(stage.vector[:num])
    exact = expected(stage.vector)
    rows = []
    for rate in size.noise:
        qpu.found = (1.0 - rate) * p + rate / p.size
        found = expected(stage.vector)
        rows.append({
            "rate": rate,
            "bias": float(np.linalg.norm(found - exact) / np.linalg.norm(exact)),
            "bias_of_angles": float(np.linalg.norm((found - exact)[:num]) / np.linalg.norm(exact[:num])),
            "reward": mean_reward(lab.room, generator(Theta(stage.vector, num)), lab.spec),
        })  # fmt: skip
    return {"stage": f"update {stage.update}", "rows": rows}


def starts(lab: Lab) -> list[dict[str, float]]:
    """Return of initial Theta, seed by seed, what the policy earns and how large the gradients are."""
    rows = []
    for seed in STARTS:
        vector = lab.start(seed).Theta.vector
        rows.append({
            "reward": lab.reward(vector),
            "reward_norm": float(np.linalg.norm(lab.gradient_of(vector, lab.room.rewards))),
            "norm": float(np.linalg.norm(lab.expected(Baseline(), 0)(vector))),
        })  # fmt: skip
    return rows


def steps(size: Size) -> list[dict[str, Any]]:
    """Try step sizes of plain gradient ascent: what the policy earns after a few updates, or when Theta overflowed."""
    rows = []
    for step in STEPS:
        lab = Lab("--preset", "tuned", "--optimizer", "sgd", "--learning-rate", step)
        lab.begin_alive()
        start = lab.start(lab.config.seed)
        row = {
            "step": float(step),
            "curvature": curvature(lab.expected(start.baseline, 0), start.Theta.vector, size.turns),
        }
        try:
            with np.errstate(all="ignore"):
                for state in lab.run(AGENTS, range(size.tries + 1)):
                    row |= {"update": state.update, "reward": lab.reward(state.Theta.vector)}
        except TrainingError:
            row["reward"] = None
        rows.append(row)
    return rows


def smooth(size: Size) -> list[dict[str, Any]]:
    """Follow the recipe that the theorem covers, and compare the mean of ‖∇J‖² with the bound."""
    lab = Lab(*SMOOTH, "--learning-rate", SMOOTH_STEP)
    lab.begin_alive()
    always = np.full((len(lab.room.obs), lab.spec.num_actions), 1.0 / lab.spec.num_actions)
    ends = Episodes(lab.room, always)
    best = max(
        reward for reward, length in zip(lab.room.rewards, np.eye(len(lab.room.rewards)), strict=True)
        if ends.expected(length, 0.0) > 0.0
    )  # fmt: skip
    rows = []
    for number in SMOOTH_AGENTS:
        squared, rewards, curvatures, variances = [], [], [], []
        for state in lab.run(number, range(size.smooth)):
            vector = state.Theta.vector
            squared.append(float(np.sum(lab.gradient_of(vector, lab.room.rewards) ** 2)))
            rewards.append(lab.reward(vector))
            if state.update % max(1, size.smooth // 20) == 0:
                curvatures.append(curvature(lambda at: lab.gradient_of(at, lab.room.rewards), vector, size.turns))
                [drawn] = lab.samples(
                    vector, state.baseline, agents=1, groups=size.groups, stream=state.update, configs=[lab.config]
                )
                variances.append(jackknife(drawn, total_variance).value)
        step, constant, variance = lab.config.learning_rate, max(curvatures), max(variances)
        rows.append({
            "agents": number,
            "seed": lab.config.seed,
            "step": step,
            "curvature": constant,
            "variance": variance,
            "first": rewards[0],
            "last": rewards[-1],
            "best": float(best),
            "updates": size.smooth,
            "squared_norm": float(np.mean(squared)),
            "last_squared_norm": float(np.mean(squared[-size.smooth // 10 :])),
            "bound_start": 2.0 * (best - rewards[0]) / (step * size.smooth),
            "bound_noise": step * constant * variance / number,
        })  # fmt: skip
    return rows


# What is shown. ``found`` may come from the JSON file, so estimates are pairs.


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def shown(estimate: tuple[float, float], scale: float = 1.0) -> str:
    """Return a number with its 95 % interval."""
    return str(Estimate(estimate[0] * scale, estimate[1] * scale))


def report(found: dict[str, Any]) -> dict[str, str]:
    """Return all tables by their names."""
    return {
        "averages": averages_table(found),
        "variants": "\n\n".join(map(variants_table, found["variants"])),
        "tuned": run_table(found["tuned"]),
        "sgd": run_table(found["sgd"]),
        "steps": steps_table(found["steps"]),
        "smooth": smooth_table(found["smooth"]),
        "shots": "\n\n".join(map(shots_table, found["shots"])),
        "depolarised": depolarised_table(found["depolarised"]),
        "starts": starts_table(found["starts"]),
    }


def fill_in(document: str, tables: dict[str, str]) -> str:
    """Return a document with each table between the comments that name it, in place of what stood there."""
    for name, text in tables.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, rest = document.split(begin)
        document = f"{before}{begin}\n\n{text}\n\n{end}{rest.split(end)[1]}"
    return document


def averages_table(found: dict[str, Any]) -> str:
    """Show the variance of the average over N agents."""
    numbers = found["averages"][0]["numbers"]
    head = ["Theta after", "E[R]", *(f"N = {number}" for number in numbers), "slope"]
    rows = [
        [each["stage"], f"{each['reward']:.3f}", *map(shown, each["variance"]), shown(each["slope"])]
        for each in found["averages"]
    ]
    return f"Seed {found['seed']}, {found['states']} states in the room.\n\n{table(head, rows)}"


def variants_table(stage: dict[str, Any]) -> str:
    """Show what the variants of Eq. 2 estimate at one Theta."""
    head = ["estimator", "said to be ∇ of", "off by", "in standard errors", "cosine to ∇E[R]", "mean of agents, excess"]
    rows = [
        [
            f"`{row['flags']}`",
            row["of"],
            "" if "bias" not in row else f"{row['bias']:.1e}" if row["bias"] < 1e-3 else f"{100 * row['bias']:.1f} %",
            f"{row['errors']:.0f}" if "errors" in row else "",
            f"{row['cosine']:.3f}",
            f"{row['excess']:.2f}",
        ]
        for row in stage["rows"]
    ]
    title = f"After {stage['stage']}, E[R] = {stage['reward']:.3f}, μ = {stage['mean_return']:.3f}"
    return f"{title}\n\n{table(head, rows)}"


def run_table(run: list[dict[str, Any]]) -> str:
    """Show the gradient along a run."""
    head = ["update", "E[R]", "‖h‖²", "from agents", "excess", "of φ", "‖∇E[R]‖", f"tr Cov, N = {AGENTS}"]
    head += ["N·tr Cov/‖h‖²", "1/L"]
    rows = [
        [
            str(row["update"]),
            f"{row['reward']:.3f}",
            f"{row['norm'] ** 2:.3g}",
            shown(row["squared_norm"]),
            f"{row['excess']:.2f}",
            f"{100 * row['angles']:.2g} %",
            f"{row['reward_norm']:.3g}",
            shown(row["variance"]),
            f"{AGENTS * row['variance'][0] / row['norm'] ** 2:.3g}",
            f"{1.0 / row['curvature']:.2g}",
        ]
        for row in run
    ]
    return table(head, rows)


def steps_table(tried: list[dict[str, Any]]) -> str:
    """Show what became of each step size."""
    rows = [
        [
            f"{row['step']:g}",
            f"{row['step'] * row['curvature']:.2f}",
            f"overflowed at update {row['update'] + 1}"
            if row["reward"] is None
            else f"E[R] = {row['reward']:.3f} after update {row['update']}",
        ]
        for row in tried
    ]
    return table(["η", "η·L at the start", "what became of it"], rows)


def shots_table(found: dict[str, Any]) -> str:
    """Show what shot noise adds, by the number of shots."""
    head = ["shots S", "tr Cov/‖h‖²", "bias/‖h‖", "of φ alone: tr Cov/‖h‖²", "bias/‖h‖", "E[R]"]
    norm, norm_of_angles = found["norm"], found["norm_of_angles"]
    rows = [
        [
            str(count),
            shown(variance, norm**-2),
            shown(bias, 1.0 / norm),
            shown(angles[0], norm_of_angles**-2),
            shown(angles[1], 1.0 / norm_of_angles),
            shown(reward),
        ]
        for count, variance, bias, angles, reward in zip(
            *(found[name] for name in ("shots", "variance", "bias", "angles", "rewards")), strict=True
        )
    ]
    slopes = (
        f"slopes from S = {found['fitted_from']} on: variance {shown(found['variance_slope'])}, "
        f"bias {shown(found['bias_slope'])}"
    )
    where = f"{found['policy']} policy after {found['stage']}, E[R] = {found['reward']:.3f}"
    return f"{where}, ‖h‖ of φ alone {norm_of_angles / norm:.1g} of the whole; {slopes}\n\n{table(head, rows)}"


def depolarised_table(found: dict[str, Any]) -> str:
    """Show what depolarised probabilities add, by the rate."""
    head = ["r", "‖b‖/‖h‖", "over r", "of φ alone: ‖b‖/‖h‖", "over r", "E[R]"]
    rows = [
        [
            f"{row['rate']:g}",
            f"{row['bias']:.3g}",
            f"{row['bias'] / row['rate']:.3g}",
            f"{row['bias_of_angles']:.3g}",
            f"{row['bias_of_angles'] / row['rate']:.3g}",
            f"{row['reward']:.3f}",
        ]
        for row in found["rows"]
    ]
    return f"After {found['stage']}\n\n{table(head, rows)}"


def starts_table(found: dict[str, Any]) -> str:
    """Show how many initial Theta are all but stationary."""
    head = [
        "preset",
        "of",
        "E[R] < 1e-6",
        "E[R] < 1e-3",
        "where E[R] < 1e-6: largest ‖∇E[R]‖",
        "largest ‖∇E[R]‖/E[R]",
        "smallest ‖h‖",
    ]
    rows = []
    for preset, starts_ in found.items():
        dead = [row for row in starts_ if row["reward"] < 1e-6]
        rows.append([
            f"`{preset}`",
            str(len(starts_)),
            str(len(dead)),
            str(sum(row["reward"] < 1e-3 for row in starts_)),
            f"{max((row['reward_norm'] for row in dead), default=0.0):.1e}",
            f"{max((row['reward_norm'] / row['reward'] for row in dead if row['reward']), default=0.0):.3g}",
            f"{min((row['norm'] for row in dead), default=0.0):.1e}",
        ])  # fmt: skip
    return table(head, rows)


def smooth_table(found: list[dict[str, Any]]) -> str:
    """Show the mean of ‖∇J‖² beside its bound."""
    head = ["N", "E[R], first and last", "L", "η·L", "σ²", "mean ‖∇J‖²", "last tenth", "bound", "of which noise"]
    rows = [
        [
            str(row["agents"]),
            f"{row['first']:.3f}, {row['last']:.3f}",
            f"{row['curvature']:.3g}",
            f"{row['step'] * row['curvature']:.2g}",
            f"{row['variance']:.3g}",
            f"{row['squared_norm']:.3g}",
            f"{row['last_squared_norm']:.3g}",
            f"{row['bound_start'] + row['bound_noise']:.3g}",
            f"{row['bound_noise']:.3g}",
        ]
        for row in found
    ]
    row = found[0]
    title = f"`{' '.join(SMOOTH)}`, η = {row['step']:g}, {row['updates']} updates, seed {row['seed']}"
    return f"{title}\n\n{table(head, rows)}"


def draw_noise(found: dict[str, Any], picture: Path) -> None:
    """Draw variance against agents, noise and bias against shots, bias against depolarisation."""
    import matplotlib.pyplot as plt

    figure, (first, second, third) = plt.subplots(1, 3, figsize=(10.0, 3.4), layout="constrained")
    numbers = np.array(found["averages"][0]["numbers"], float)
    for each in found["averages"]:
        values, errors = np.array(each["variance"]).T
        line = first.errorbar(numbers, values, SIGMA * errors, fmt="o", ms=4, capsize=2, label=each["stage"])
        first.plot(numbers, values[0] / numbers, color=line[0].get_color(), linewidth=0.8)
    first.set(xlabel="agents N", ylabel="tr Cov of the average")
    first.set_xscale("log", base=2)
    first.set_xticks(numbers, [f"{number:.0f}" for number in numbers])
    first.legend(frameon=False, title="lines: 1/N through the first", fontsize=8, title_fontsize=8)
    for shots_, fill in zip(found["shots"], ("full", "none"), strict=True):
        count = np.array(shots_["shots"], float)
        for name, scale, color, label in (("variance", 2, "C0", "tr Cov/‖h‖²"), ("bias", 1, "C1", "bias/‖h‖")):
            values, errors = np.array(shots_[name]).T / shots_["norm"] ** scale
            low = np.minimum(SIGMA * errors, 0.9 * np.abs(values))  # a logarithm has no 0
            second.errorbar(
                count, values, [low, SIGMA * errors], fmt="o", ms=4, capsize=2, color=color, fillstyle=fill,
                label=label if fill == "full" else None,
            )  # fmt: skip
            if fill == "full":
                second.plot(count, values[-1] * count[-1] / count, color=color, linewidth=0.8)
    second.set(xlabel="shots S", xscale="log")
    second.legend(
        frameon=False, title="full: tanh, open: relu; lines: 1/S", loc="lower left", fontsize=8, title_fontsize=8
    )
    rows = found["depolarised"]["rows"]
    rates = np.array([row["rate"] for row in rows])
    for name, label in (("bias", "of Theta"), ("bias_of_angles", "of φ alone")):
        third.plot(rates, [row[name] for row in rows], "o-", ms=4, linewidth=0.8, label=label)
    third.set(xlabel="depolarisation r", xscale="log", ylabel="‖b‖/‖h‖")
    third.legend(frameon=False, fontsize=8)
    for axes in (first, second, third):
        axes.set_yscale("log")
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(picture, dpi=90)


def draw_norms(found: dict[str, Any], picture: Path) -> None:
    """Draw the gradient along two runs, and initial policies."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 3, figsize=(10.0, 3.4), layout="constrained")
    titles = {"tuned": "tuned", "sgd": f"tuned, sgd, η = {SGD_STEP}"}
    for axes, (name, title) in zip(panels, titles.items(), strict=False):
        rows = found[name]
        updates = np.array([row["update"] for row in rows])
        squared, errors = np.array([row["squared_norm"] for row in rows]).T
        variance = np.array([row["variance"][0] for row in rows])
        axes.plot(updates, [row["norm"] ** 2 for row in rows], label="‖h‖², exact")
        positive = squared > 0.0
        low = np.minimum(SIGMA * errors, 0.9 * np.abs(squared))  # a logarithm has no 0
        axes.errorbar(
            updates[positive], squared[positive], [low[positive], SIGMA * errors[positive]],
            fmt="o", ms=3, capsize=2, color="C0", label="from agents",
        )  # fmt: skip
        axes.plot(updates, [row["reward_norm"] ** 2 for row in rows], color="C1", label="‖∇E[R]‖², exact")
        axes.plot(updates, variance, color="0.5", linestyle=":", label=f"noise, tr Cov of {AGENTS}")
        axes.set_xscale("symlog", linthresh=10)
        axes.set(title=title, xlabel="update", yscale="log", xlim=(0, updates[-1]))
        axes.set_xticks([tick for tick in (0, 10, 100, 1000) if tick <= updates[-1]])
        axes.set_xticklabels([str(tick) for tick in (0, 10, 100, 1000) if tick <= updates[-1]])
    panels[0].legend(frameon=False, fontsize=8)
    for preset, marker in (("qtrl", "o"), ("tuned", "x")):
        rewards, norms = (
            np.array([row[name] for row in found["starts"][preset]]) for name in ("reward", "reward_norm")
        )
        panels[2].plot(np.maximum(rewards, 1e-30), np.maximum(norms, 1e-30), marker, ms=4, mfc="none", label=preset)
    panels[2].set(title="60 initial policies", xlabel="E[R]", ylabel="‖∇E[R]‖", xscale="log", yscale="log")
    panels[2].legend(frameon=False, fontsize=8)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(picture, dpi=90)


def main() -> None:
    """Measure, or load what was measured; print the tables, write the numbers and the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("docs/images"), help="folder of what is written")
    parser.add_argument("--quick", action="store_true", help="seconds, to see that all of it runs")
    parser.add_argument("--load", type=Path, help="measure nothing: show what a convergence.json holds")
    parser.add_argument("--document", type=Path, help="put the tables where docs/theory.md has them")
    arguments = parser.parse_args()
    threadpool_limits(1)
    found = json.loads(arguments.load.read_text()) if arguments.load else measure(QUICK if arguments.quick else Size())
    tables = report(found)
    print("\n\n".join(f"{name}: {text}" for name, text in tables.items()))
    if arguments.document:
        arguments.document.write_text(fill_in(arguments.document.read_text(), tables))
    arguments.output.mkdir(parents=True, exist_ok=True)
    if not arguments.load:
        (arguments.output / "convergence.json").write_text(json.dumps(found, indent=1, default=float) + "\n")
    draw_noise(found, arguments.output / "convergence_noise.png")
    draw_norms(found, arguments.output / "convergence_norms.png")


if __name__ == "__main__":
    main()
