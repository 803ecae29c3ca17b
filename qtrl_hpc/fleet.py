"""The QPUs of one rank's agents: one exact simulation that serves all of them, or one each that is measured."""

from collections.abc import Callable
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.concentration import Concentration
from qtrl_hpc.errors import QpuError
from qtrl_hpc.generator import Generator, QuantumGenerator, Theta
from qtrl_hpc.quantum.measuring import MeasuredQPU
from qtrl_hpc.quantum.shift import ParameterShiftGradient
from qtrl_hpc.stopwatch import Stopwatch

T = TypeVar("T")
Row = NDArray[np.float64]
Rows = list[Row | None]
"""One each agent of the rank; None where its QPU gave nothing."""

EXACT = "exact"


class Fleet(Protocol):
    """Whatever turns Theta into the theta of a rank's agents, and the agents' gradients back."""

    failures: dict[int, str]
    """Of the update in progress: the agents of this rank whose QPU failed, and why."""

    def __call__(self, Theta: Theta, update: int) -> Row | Rows:
        """Return theta, shape (k,), float64: one for all agents, or one each."""
        ...

    def pullback(self, d_theta: Rows) -> Rows:
        """Return ∂J/∂Theta, shape (P + l,), for each ∂J/∂theta, shape (k,), of the last call."""
        ...

    def initial(self, rng: np.random.Generator) -> Theta:
        """Draw a Theta to start from."""
        ...

    def policy(self, Theta: Theta, update: int) -> tuple[Row, str]:
        """Return the theta that a checkpoint keeps, shape (k,), float64, and in a few words where it is from."""
        ...

    def warm_up(self, Theta: Theta) -> None:
        """Load what is compiled, and run no QPU that is measured."""
        ...

    def concentration(self) -> Concentration | None:
        """Return how far the probabilities of the last call were spread; None where there are none."""
        ...


class OneForAll:
    """An exact generator: all agents of a rank, and of all ranks, have the same theta.

    Args:
        generator: serves them all.
    """

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self.failures: dict[int, str] = {}

    def __call__(self, Theta: Theta, update: int) -> Row | Rows:
        """Return the one theta; the circuit runs once."""
        return self._generator(Theta)

    def pullback(self, d_theta: Rows) -> Rows:
        """Return ∂J/∂Theta for each cotangent of the one theta."""
        return [None if row is None else self._generator.pullback(row) for row in d_theta]

    def initial(self, rng: np.random.Generator) -> Theta:
        """Draw a Theta to start from."""
        return self._generator.initial(rng)

    def policy(self, Theta: Theta, update: int) -> tuple[Row, str]:
        """Return the theta that Theta generates."""
        return self._generator(Theta), EXACT

    def warm_up(self, Theta: Theta) -> None:
        """Run generator and pullback once."""
        self._generator.pullback(np.zeros_like(self._generator(Theta)))

    def concentration(self) -> Concentration | None:
        """Return how far the probabilities of the one circuit were spread."""
        return self._generator.concentration()


class AgentQPU:
    """One agent's QPU, and the generator that it runs for.

    Args:
        agent: its number among all agents of the run.
        qpu: measured.
        generator: on that QPU.
    """

    def __init__(self, agent: int, qpu: MeasuredQPU, generator: QuantumGenerator) -> None:
        self.agent, self.qpu, self.generator = agent, qpu, generator


class OneEach:
    """Measured QPUs: each agent has its own, with its own noise and shots, and so its own theta.

    An agent whose QPU fails, in theta or in the gradient, has None in its place and a word in ``failures``.

    Args:
        agents: of this rank.
        ideal: the same generator on an exact simulation, for what no QPU need be asked.
        policy_qpu: measures once more for a checkpoint, where nothing tells what infinitely many shots would give.
        shots: in words, for the checkpoint.
        sharing: shares out the circuits of one gradient among all agents of the run; None where each runs all.
    """

    def __init__(
        self,
        agents: list[AgentQPU],
        ideal: Generator,
        policy_qpu: MeasuredQPU,
        shots: str,
        sharing: "Sharing | None" = None,
    ) -> None:
        self._agents, self._ideal, self._policy_qpu, self._shots = agents, ideal, policy_qpu, shots
        self._sharing = sharing
        self._update: int | None = None
        self.failures: dict[int, str] = {}

    def __call__(self, Theta: Theta, update: int) -> Row | Rows:
        """Return each agent's theta; its circuit runs once."""
        self.failures, self._phi, self._update = {}, Theta.phi, update
        for each in self._agents:
            each.qpu.begin(update)
        return [self._try(each, each.generator, Theta) for each in self._agents]

    def pullback(self, d_theta: Rows) -> Rows:
        """Return each agent's ∂J/∂Theta. Collective where circuits are shared: all ranks."""
        if self._sharing:
            return self._sharing.pullback(self._agents, self._phi, d_theta, self.failures)
        return [
            None if row is None else self._try(each, each.generator.pullback, row)
            for each, row in zip(self._agents, d_theta, strict=True)
        ]

    def initial(self, rng: np.random.Generator) -> Theta:
        """Draw a Theta to start from."""
        return self._ideal.initial(rng)

    def policy(self, Theta: Theta, update: int) -> tuple[Row, str]:
        """Return the theta that the QPU of this rank's first agent generates, without shot noise if that can be told.

        Where it can neither be told nor measured, or has just failed at this very update, the theta that the ideal
        circuit generates.
        """
        first, failure = self._agents[0], ""
        # The update after Theta was begun and not made, and its QPU asked as often as patience allows.
        if update == self._update and first.agent in self.failures:
            failure = self.failures[first.agent]
        else:
            qpu = self._policy_qpu
            qpu.begin(update)
            ways: dict[str, Callable[[Row], Row | None]]
            ways = {"exact probabilities": qpu.exact, self._shots: qpu.probabilities}
            for what, ask in ways.items():
                try:
                    probabilities = ask(Theta.phi)
                except QpuError as error:
                    failure = str(error)
                    continue
                if probabilities is not None:
                    theta = first.generator.from_probabilities(Theta, probabilities)
                    return theta, f"{what} of agent {first.agent}'s QPU"
        return self._ideal(Theta), f"the ideal circuit, as agent {first.agent}'s QPU failed: {failure}"

    def warm_up(self, Theta: Theta) -> None:
        """Run the ideal generator and its pullback once: they and the measured ones have their kernels in common."""
        self._ideal.pullback(np.zeros_like(self._ideal(Theta)))

    def concentration(self) -> Concentration | None:
        """Return how far the probabilities were spread that this rank's first agent without a failure has measured."""
        delivered = (each for each in self._agents if each.agent not in self.failures)
        first = next(delivered, None)
        return first.generator.concentration() if first else None

    def _try(self, each: AgentQPU, step: Callable[[T], Row], given: T) -> Row | None:
        try:
            return step(given)
        except QpuError as failure:
            self.failures[each.agent] = str(failure)
            return None


class Sharing:
    """Share out the circuits of one gradient by parameter shift among the QPUs of all agents, which must be alike.

    With g_i = ∂J_i/∂p of agent i and G = Σ_i g_i, Σ_i ∂J_i/∂φ_j = Σ_s c_s·G·p(φ + s·e_j): the shifted circuits do not
    depend on the agent, so each need run once, on whichever QPU. One reduction adds up G; each agent then runs the
    circuits of its share of the angles; a second one says which angles are done. Those of a QPU that failed are shared
    out again.

    Args:
        num_agents: N.
        gradients: of this rank's agents, each on its own QPU.
        add: ``World.sum`` over all ranks.
        stopwatch: takes the seconds of the gradient and of waiting for others.
    """

    def __init__(
        self,
        num_agents: int,
        gradients: list[ParameterShiftGradient],
        add: Callable[[Row], Row],
        stopwatch: Stopwatch,
    ) -> None:
        self._num_agents, self._gradients, self._add, self._stopwatch = num_agents, gradients, add, stopwatch

    def pullback(self, agents: list[AgentQPU], phi: Row, d_theta: Rows, failures: dict[int, str]) -> Rows:
        """Return rows whose sum over all agents is the gradient. Collective: all ranks.

        Args:
            agents: of this rank.
            phi: radians, shape (P,), float64.
            d_theta: their ∂J/∂theta.
            failures: takes in the agents whose QPU fails now.

        Returns:
            ∂J/∂Theta row by row: of the angles, those of the agent's share; of beta, its own. None for an agent that
            had no theta, and for all where no QPU is left.
        """
        with self._stopwatch("gradient"):
            own = [
                None if row is None else each.generator.cotangents(row)
                for each, row in zip(agents, d_theta, strict=True)
            ]
        G, able = self._sum(agents, [None if cotangents is None else cotangents[0] for cotangents in own])
        d_phi = self._share_out(agents, phi, G, able, failures)
        if d_phi is None:
            return [None] * len(agents)
        return [
            None if cotangents is None else np.concatenate([out, cotangents[1]])
            for out, cotangents in zip(d_phi, own, strict=True)
        ]

    def _sum(self, agents: list[AgentQPU], d_p: Rows) -> tuple[Row, NDArray[np.bool_]]:
        """Return G = Σ_i ∂J_i/∂p, shape (k,), and which of all N agents had one to add. Collective: all ranks."""
        num_rows = agents[0].generator.num_rows
        sent = np.zeros((len(agents), num_rows + self._num_agents))
        for row, each, g in zip(sent, agents, d_p, strict=True):
            if g is not None:
                row[:num_rows] = g
                row[num_rows + each.agent] = 1.0
        with self._stopwatch("waiting"):
            total = self._add(sent)
        return total[:num_rows], total[num_rows:] > 0

    def _share_out(
        self, agents: list[AgentQPU], phi: Row, G: Row, able: NDArray[np.bool_], failures: dict[int, str]
    ) -> NDArray[np.float64] | None:
        """Return what each agent of this rank has run of Σ_i ∂J_i/∂φ, shape (agents, P). Collective: all ranks.

        None where no QPU is left, of those that are ``able``, before all angles are done.
        """
        d_phi, todo = np.zeros((len(agents), len(phi))), np.arange(len(phi))
        while todo.size and able.any():  # both are of sums over all ranks
            shares = dict(zip(np.flatnonzero(able).tolist(), np.array_split(todo, able.sum()), strict=True))
            report = np.zeros((len(agents), len(phi) + self._num_agents))
            with self._stopwatch("gradient"):
                for row, each, gradient, out in zip(report, agents, self._gradients, d_phi, strict=True):
                    if each.agent not in shares:
                        continue
                    try:
                        out += gradient.of_angles(phi, G, shares[each.agent])
                    except QpuError as failure:
                        failures[each.agent] = f"{failure}; others ran its circuits"
                        continue
                    row[shares[each.agent]] = row[len(phi) + each.agent] = 1.0
            with self._stopwatch("waiting"):
                total = self._add(report)
            todo, able = todo[total[todo] == 0], total[len(phi) :] > 0
        return None if todo.size else d_phi
