"""What the machine can do at best on one thread, as Numba compiles for it: arithmetic and memory."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from qtrl_hpc.jit import FAST
from qtrl_hpc.quantum.ansatz import UNCONTROLLED, Ansatz
from qtrl_hpc.simd import fill, load, store

# Multiply-adds on each number while it is in a register: enough for its load and store to cost nothing beside them.
DEPTH = 32
CHAINS = 8
# Seven chains begin with an operation, and all are added up.
FLOP_A_NUMBER = 2 * DEPTH * CHAINS + 2 * (CHAINS - 1)

# Of one gate on one pair of amplitudes (x, y): four complex products and two complex sums.
ROTATE_FLOP = 4 * 6 + 2 * 2
# Four sums of conj(λ_a)·ψ_b: four complex products, four complex sums.
OVERLAP_FLOP = 4 * 6 + 4 * 2


@njit(fastmath=FAST)
def multiply_add(values: NDArray[np.float64], a: float, b: float) -> None:
    """Do ``FLOP_A_NUMBER`` operations on each number, in eight chains that do not wait for one another.

    On the vectors that the kernels use: what the compiler makes of a plain loop is half as fast where registers have
    512 bits.

    Args:
        values: overwritten, shape (a multiple of 8,).
        a: of each multiply-add, the factor.
        b: the summand.
    """
    u, v = fill(values, a), fill(values, b)
    for k in range(0, values.size, 8):
        p0 = load(values, k)
        p1, p2, p3, p4, p5, p6, p7 = p0 + u, p0 + v, p0 - u, p0 - v, p0 * u, p0 * v, p0 * p0
        for _ in range(DEPTH):
            p0, p1, p2, p3 = p0 * u + v, p1 * u + v, p2 * u + v, p3 * u + v
            p4, p5, p6, p7 = p4 * u + v, p5 * u + v, p6 * u + v, p7 * u + v
        store(values, k, p0 + p1 + p2 + p3 + p4 + p5 + p6 + p7)


@njit()
def copy(source: NDArray[np.float64], target: NDArray[np.float64]) -> None:
    """Copy number by number."""
    for k in range(source.size):
        target[k] = source[k]


@dataclass(frozen=True)
class NominalWork:
    """The arithmetic of a circuit and its adjoint sweep, one gate at a time, in floating-point operations."""

    forward: int
    backward: int

    @property
    def total(self) -> int:
        """Return forward and backward together."""
        return self.forward + self.backward


def nominal_work(ansatz: Ansatz) -> NominalWork:
    """Count the operations: 28 a pair of amplitudes forward; undoing ψ and λ and four overlaps, 88, backward.

    A gate on one qubit acts on 2^(n-1) pairs, a controlled gate on half as many.
    """
    half = ansatz.num_amplitudes // 2
    pairs = sum(half if control == UNCONTROLLED else half // 2 for control in ansatz.controls.tolist())
    return NominalWork(forward=ROTATE_FLOP * pairs, backward=(2 * ROTATE_FLOP + OVERLAP_FLOP) * pairs)
