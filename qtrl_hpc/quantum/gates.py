"""Gates that an ansatz is made of: U3 on a target, with or without a control, and by what angles.

An angle is the number of a trained one in phi, or ``Fixed(radians)``. Gates with the same number share the angle.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

UNCONTROLLED = -1


@dataclass(frozen=True)
class Fixed:
    """An angle that is not trained."""

    radians: float


Angle = int | Fixed

ZERO, HALF, PI, MINUS_HALF = Fixed(0.0), Fixed(math.pi / 2), Fixed(math.pi), Fixed(-math.pi / 2)


class Gate(NamedTuple):
    """U3, Qiskit's ``UGate``, on a target; with a control, Qiskit's ``CUGate`` with gamma = 0."""

    target: int
    angles: tuple[Angle, Angle, Angle]
    """(theta, phi, lambda) of U3."""
    control: int = UNCONTROLLED


X, Z, H = (PI, ZERO, PI), (ZERO, ZERO, PI), (HALF, ZERO, PI)
"""Angles of Pauli's X and Z and of Hadamard's gate."""


def u3(target: int, theta: Angle, phi: Angle, lam: Angle) -> Gate:
    """Return U3, any gate on one qubit."""
    return Gate(target, (theta, phi, lam))


def rx(target: int, angle: Angle) -> Gate:
    """Return the rotation about x."""
    return Gate(target, (angle, MINUS_HALF, HALF))


def ry(target: int, angle: Angle) -> Gate:
    """Return the rotation about y."""
    return Gate(target, (angle, ZERO, ZERO))


def rz(target: int, angle: Angle) -> Gate:
    """Return the rotation about z, but for a global phase."""
    return Gate(target, (ZERO, ZERO, angle))


def h(target: int) -> Gate:
    """Return Hadamard's gate."""
    return Gate(target, H)


def cu3(control: int, target: int, theta: Angle, phi: Angle, lam: Angle) -> Gate:
    """Return the controlled U3."""
    return Gate(target, (theta, phi, lam), control)


def crx(control: int, target: int, angle: Angle) -> Gate:
    """Return the controlled rotation about x."""
    return rx(target, angle)._replace(control=control)


def cry(control: int, target: int, angle: Angle) -> Gate:
    """Return the controlled rotation about y."""
    return ry(target, angle)._replace(control=control)


def cp(control: int, target: int, angle: Angle) -> Gate:
    """Return the controlled phase: e^(i·angle) where both qubits are 1."""
    return Gate(target, (ZERO, ZERO, angle), control)


def cx(control: int, target: int) -> Gate:
    """Return the controlled X."""
    return Gate(target, X, control)


def cz(control: int, target: int) -> Gate:
    """Return the controlled Z."""
    return Gate(target, Z, control)
