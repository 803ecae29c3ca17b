"""The circuit: which gates act where, and which of their angles are trained."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from operator import index

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.errors import shown
from qtrl_hpc.quantum.gates import UNCONTROLLED, Angle, Fixed, Gate, cu3, u3

__all__ = ["ANGLES_PER_GATE", "UNCONTROLLED", "Ansatz", "ring_gates"]

ANGLES_PER_GATE = 3
FIXED = -1


@dataclass(frozen=True, kw_only=True)
class Ansatz:
    """Describe the circuit: its gates in order, and by which of the trained angles phi each turns.

    Without ``gates`` it is the paper's (``ring_gates``), whose angles are all trained, three a gate in circuit order.
    """

    num_qubits: int
    """n."""

    num_layers: int
    """L, as it was asked for."""

    gates: tuple[Gate, ...] = field(default=None, repr=False)  # type: ignore[arg-type]  # never None once made
    """In circuit order. Their trained angles have the numbers 0 … P-1, each of which some gate must have."""

    def __post_init__(self) -> None:
        if self.num_qubits < 1 or self.num_layers < 1:
            raise ValueError(
                f"an ansatz needs at least 1 qubit and 1 layer, got {self.num_qubits} and {self.num_layers}"
            )
        gates = ring_gates(self.num_qubits, self.num_layers) if self.gates is None else self.gates
        checked = tuple(_checked(number, gate, self.num_qubits) for number, gate in enumerate(gates))
        object.__setattr__(self, "gates", checked)
        used = set(self.trained[self.trained != FIXED].tolist())
        if not used:
            raise ValueError("no gate has an angle that is trained")
        if unused := set(range(max(used) + 1)) - used:
            raise ValueError(f"angle {min(unused)} is no gate's, expected each of 0 to {max(used)} to be some gate's")

    @cached_property
    def targets(self) -> NDArray[np.int64]:
        """Return the qubit that each gate acts on, shape (num_gates,)."""
        return np.array([gate.target for gate in self.gates], np.int64)

    @cached_property
    def controls(self) -> NDArray[np.int64]:
        """Return the control of each gate, shape (num_gates,); ``UNCONTROLLED`` for a U3."""
        return np.array([gate.control for gate in self.gates], np.int64)

    @cached_property
    def trained(self) -> NDArray[np.int64]:
        """Return for each gate's three angles their number in phi, shape (3·num_gates,); ``FIXED`` for fixed ones."""
        angles = [angle for gate in self.gates for angle in gate.angles]
        return np.array([FIXED if isinstance(angle, Fixed) else angle for angle in angles], np.int64)

    @cached_property
    def fixed(self) -> NDArray[np.float64]:
        """Return for each gate's three angles the radians of a fixed one, 0 for a trained one, shape (3·num_gates,)."""
        angles = [angle for gate in self.gates for angle in gate.angles]
        return np.array([angle.radians if isinstance(angle, Fixed) else 0.0 for angle in angles], np.float64)

    @cached_property
    def is_direct(self) -> bool:
        """Return whether phi is the gates' angles, one after another."""
        return bool(np.array_equal(self.trained, np.arange(len(self.trained))))

    @cached_property
    def is_ring(self) -> bool:
        """Return whether it is the paper's."""
        return self.gates == ring_gates(self.num_qubits, self.num_layers)

    @cached_property
    def num_angles(self) -> int:
        """Return P, the length of phi: 6·n·L for the paper's with n > 1."""
        return int(self.trained.max()) + 1

    @property
    def num_amplitudes(self) -> int:
        """Return 2^n."""
        return 1 << self.num_qubits

    def gate_angles(self, phi: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the angles of all gates, (theta, phi, lambda) each, shape (3·num_gates,), from phi, shape (P,)."""
        if self.is_direct:
            return phi
        angles: NDArray[np.float64] = np.where(self.trained == FIXED, self.fixed, phi[self.trained])
        return angles

    def pull_back(self, d_angles: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ∂J/∂phi, shape (P,), from ∂J by the gates' angles, shape (3·num_gates,): shared ones add up."""
        if self.is_direct:
            return d_angles
        is_trained = self.trained != FIXED
        return np.bincount(self.trained[is_trained], d_angles[is_trained], self.num_angles).astype(np.float64)


def check_runs(what: str, found: object, ansatz: Ansatz) -> None:
    """Refuse what runs another circuit.

    Args:
        what: a kind of QPU, in words.
        found: the ansatz that it says it runs.
        ansatz: that it is to run.

    Raises:
        ValueError: saying which.
    """
    if found != ansatz:
        other = "other gates" if repr(found) == repr(ansatz) else shown(found)
        raise ValueError(f"expected {what} that runs {ansatz}, got one that runs {other}")


def ring_gates(num_qubits: int, num_layers: int) -> tuple[Gate, ...]:
    """Return the paper's gates: in each block U3 on qubits 0 … n-1, then a ring of controlled-U3.

    The ring has control q and target (q+1) mod n for q = 0 … n-1. On one qubit there is none, since a qubit cannot
    control itself. So phi has 6·n·L entries (n > 1).
    """
    ring = [(q, (q + 1) % num_qubits) for q in range(num_qubits)] if num_qubits > 1 else []
    return u3_gates(num_qubits, num_layers, ring)


def u3_gates(num_qubits: int, num_layers: int, pairs: Iterable[tuple[int, int]]) -> tuple[Gate, ...]:
    """Return blocks of U3 on every qubit, then a controlled-U3 on each (control, target); all angles are trained."""
    places = ([(UNCONTROLLED, q) for q in range(num_qubits)] + list(pairs)) * num_layers
    return tuple(
        u3(target, first, first + 1, first + 2)
        if control == UNCONTROLLED
        else cu3(control, target, first, first + 1, first + 2)
        for first, (control, target) in zip(
            range(0, ANGLES_PER_GATE * len(places), ANGLES_PER_GATE), places, strict=True
        )
    )


def _checked(number: int, gate: Gate, num_qubits: int) -> Gate:
    """Return a gate with plain numbers.

    Raises:
        ValueError: naming the gate, and what is wrong with it.
    """
    if not isinstance(gate, Gate):
        raise ValueError(f"gate {number}: got {shown(gate)}, expected one of qtrl_hpc.quantum.gates")
    target, control = (_whole(number, qubit, "a qubit") for qubit in (gate.target, gate.control))
    if not 0 <= target < num_qubits or not UNCONTROLLED <= control < num_qubits:
        wrong = control if 0 <= target < num_qubits else target
        raise ValueError(f"gate {number}: got the qubit {wrong}, expected one of 0 to {num_qubits - 1}")
    if control == target:
        raise ValueError(f"gate {number}: got the control {control}, which is its target")
    if len(gate.angles) != ANGLES_PER_GATE:
        raise ValueError(f"gate {number}: got {len(gate.angles)} angles, expected {ANGLES_PER_GATE}")
    first, second, third = (_angle(number, angle) for angle in gate.angles)
    return Gate(target, (first, second, third), control)


def _angle(number: int, angle: Angle) -> Angle:
    if isinstance(angle, Fixed):
        if not np.isfinite(angle.radians):
            raise ValueError(f"gate {number}: got the angle {angle}, expected a finite number")
        return angle
    whole = _whole(number, angle, "an angle, by its number or Fixed(radians)")
    if whole < 0:
        raise ValueError(f"gate {number}: got the angle {whole}, expected a number from 0 on, or Fixed(radians)")
    return whole


def _whole(number: int, value: object, expected: str) -> int:
    try:
        return index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ValueError(f"gate {number}: got {shown(value)}, expected {expected}") from None
