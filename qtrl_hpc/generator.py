"""Theta -> theta, and back: a cotangent of theta -> the gradient of Theta."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.concentration import Concentration, concentration
from qtrl_hpc.mapping import Mapping
from qtrl_hpc.quantum.qpu import QPU
from qtrl_hpc.stopwatch import Stopwatch

Pullback = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True)
class Theta:
    """Hold all that is trained: Θ = {φ, β}, as two views of one contiguous float64 vector."""

    vector: NDArray[np.float64]
    num_angles: int

    @property
    def phi(self) -> NDArray[np.float64]:
        """Return the angles of the circuit, radians, circuit order, shape (P,)."""
        return self.vector[: self.num_angles]

    @property
    def beta(self) -> NDArray[np.float64]:
        """Return the mapping model's parameters, shape (l,)."""
        return self.vector[self.num_angles :]


class Generator(Protocol):
    """Whatever turns Theta into theta and can be differentiated."""

    def __call__(self, Theta: Theta) -> NDArray[np.float64]:
        """Return theta, shape (k,), float64."""
        ...

    def pullback(self, d_theta: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ∂J/∂Theta at the last call, shape (P + l,), from ∂J/∂theta, shape (k,)."""
        ...

    def initial(self, rng: np.random.Generator) -> Theta:
        """Draw a Theta to start from."""
        ...

    def concentration(self) -> Concentration | None:
        """Return how far the probabilities of the last call were spread; None where no circuit is trained."""
        ...


@dataclass(frozen=True, kw_only=True)
class Feature:
    """The feature of a basis state: x_i = (b·tanh(a·2^{n−1}·p_i))^c, then minus its mean over the k rows."""

    a: float
    b: float
    c: float

    def forward(self, probabilities: NDArray[np.float64], num_qubits: int) -> NDArray[np.float64]:
        """Return x, shape (k,), of the first k probabilities, shape (k,)."""
        y = self.b * np.tanh(self.a * 2.0 ** (num_qubits - 1) * probabilities)
        x = y**self.c if self.c != 1.0 else y
        centred: NDArray[np.float64] = x - x.mean()
        return centred

    def pullback(
        self, probabilities: NDArray[np.float64], num_qubits: int, d_x: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return ∂J/∂p, shape (k,), from ∂J/∂x, shape (k,)."""
        scale = self.a * 2.0 ** (num_qubits - 1)
        t = np.tanh(scale * probabilities)
        d_y = d_x - d_x.mean()
        if self.c != 1.0:
            d_y = d_y * self.c * (self.b * t) ** (self.c - 1.0)
        d_p: NDArray[np.float64] = d_y * self.b * scale * (1.0 - t * t)
        return d_p


class QuantumGenerator:
    """Generate theta by a circuit and a mapping model: θ = out − mean(out), out = M_β(bits, x(p(φ))).

    One circuit execution a call; the probabilities are not renormalised over the k that are used.

    Args:
        qpu: runs the circuit.
        gradient: pulls a cotangent of the first k probabilities back to phi.
        feature: from probabilities to x.
        mapping: on k rows.
        stopwatch: takes the seconds spent in "circuit", "mapping" and "gradient".
    """

    def __init__(
        self, qpu: QPU, gradient: Pullback, feature: Feature, mapping: Mapping, stopwatch: Stopwatch | None = None
    ) -> None:
        self._qpu, self._gradient, self._feature, self._mapping = qpu, gradient, feature, mapping
        self._stopwatch = stopwatch or Stopwatch()

    def __call__(self, Theta: Theta) -> NDArray[np.float64]:
        """Return theta, shape (k,), float64 (METHOD steps 1 to 5)."""
        with self._stopwatch("circuit"):
            probabilities = self._qpu.probabilities(Theta.phi)
        return self.from_probabilities(Theta, probabilities)

    def from_probabilities(self, Theta: Theta, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return theta, shape (k,), float64, from probabilities at its angles, shape (2^n,) (METHOD steps 3 to 5)."""
        self._Theta, self._all_probabilities = Theta, probabilities
        with self._stopwatch("mapping"):
            self._probabilities = probabilities[: self._mapping.num_rows]
            x = self._feature.forward(self._probabilities, self._qpu.ansatz.num_qubits)
            output = self._mapping.forward(Theta.beta, x)
            theta: NDArray[np.float64] = output - output.mean()
        return theta

    def pullback(self, d_theta: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ∂J/∂Theta at the last call (Eq. 3–4, the chain rule through θ = M_β(p(φ))).

        Args:
            d_theta: ∂J/∂θ, shape (k,), float64.

        Returns:
            ∂J/∂φ then ∂J/∂β, shape (P + l,), float64.
        """
        with self._stopwatch("gradient"):
            d_p, d_beta = self.cotangents(d_theta)
            return np.concatenate([self._gradient(self._Theta.phi, d_p), d_beta])

    @property
    def num_rows(self) -> int:
        """Return k."""
        return self._mapping.num_rows

    def cotangents(self, d_theta: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return ∂J/∂p of the first k probabilities and ∂J/∂β at the last call, shapes (k,) and (l,)."""
        d_beta, d_x = self._mapping.pullback(self._Theta.beta, d_theta - d_theta.mean())
        return self._feature.pullback(self._probabilities, self._qpu.ansatz.num_qubits, d_x), d_beta

    def initial(self, rng: np.random.Generator) -> Theta:
        """Draw angles uniform in (−π, π), then beta as the mapping model starts from."""
        return joined(initial_phi(self._qpu.ansatz.num_angles, rng), self._mapping.initial(rng))

    def concentration(self) -> Concentration:
        """Return how far all 2^n probabilities of the last call were spread."""
        return concentration(self._all_probabilities)


def initial_phi(num_angles: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw angles uniform in (−π, π), shape (P,), float64."""
    return rng.uniform(-np.pi, np.pi, num_angles)


def joined(phi: NDArray[np.float64], beta: NDArray[np.float64]) -> Theta:
    """Return Θ = {φ, β}."""
    return Theta(np.concatenate([phi, beta]), len(phi))


class FixedFeatureGenerator:
    """Generate theta by the mapping model from features that training does not change, an ablation: Θ = β.

    Args:
        x: the features, shape (k,), float64.
        mapping: on k rows.
        num_angles: of the circuit that is not trained; so many numbers are drawn first, so that a seed starts from the
            same beta whether the circuit is trained or not.
        stopwatch: takes the seconds spent in "mapping" and "gradient".
    """

    def __init__(
        self, x: NDArray[np.float64], mapping: Mapping, num_angles: int, stopwatch: Stopwatch | None = None
    ) -> None:
        self._x, self._mapping, self._num_angles = x, mapping, num_angles
        self._stopwatch = stopwatch or Stopwatch()

    def __call__(self, Theta: Theta) -> NDArray[np.float64]:
        """Return theta, shape (k,), float64."""
        self._Theta = Theta
        with self._stopwatch("mapping"):
            output = self._mapping.forward(Theta.beta, self._x)
            theta: NDArray[np.float64] = output - output.mean()
        return theta

    def pullback(self, d_theta: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ∂J/∂β at the last call, shape (l,), from ∂J/∂θ, shape (k,)."""
        with self._stopwatch("gradient"):
            return self._mapping.pullback(self._Theta.beta, d_theta - d_theta.mean())[0]

    def initial(self, rng: np.random.Generator) -> Theta:
        """Draw beta as the mapping model starts from."""
        initial_phi(self._num_angles, rng)
        return Theta(self._mapping.initial(rng), 0)

    def concentration(self) -> None:
        """Return None: there is no circuit that training changes."""


class ClassicalGenerator:
    """Train theta itself, the baseline: Θ has no angles and β = θ.

    Args:
        draw: a theta to start from.
    """

    def __init__(self, draw: Callable[[np.random.Generator], NDArray[np.float64]]) -> None:
        self._draw = draw

    def __call__(self, Theta: Theta) -> NDArray[np.float64]:
        """Return theta, shape (k,), float64."""
        return Theta.beta

    def pullback(self, d_theta: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return d_theta: Theta is theta."""
        return d_theta

    def initial(self, rng: np.random.Generator) -> Theta:
        """Draw theta as the policy network starts from."""
        return Theta(self._draw(rng), 0)

    def concentration(self) -> None:
        """Return None: there is no circuit."""
