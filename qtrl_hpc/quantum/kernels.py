"""Numba kernels on a statevector: apply a gate, and the adjoint sweep.

A state is float64 of shape (2, 2^n): row 0 the real parts, row 1 the imaginary parts. The inner loops are functions of
contiguous slices, which the compiler can tell to be apart, and so vectorises. Basis index i = Σ_q b_q 2^q (Qiskit's
order, qubit 0 least significant).
The derivation is in docs/method.md.
"""

import warnings
from collections.abc import Callable

import numpy as np
from numba import njit
from numpy.typing import NDArray

UNCONTROLLED = -1

Row = NDArray[np.float64]

# Sums may be reassociated and multiply-adds contracted; NaN and infinity keep their meaning.
_FAST = {"reassoc", "contract", "nsz"}


# Forced inline: left to the compiler, a kernel just compiled and the same one loaded from the disk gave other bits.
_part = njit(forceinline=True, fastmath=_FAST)


def _kernel(function: Callable) -> Callable:
    """Compile with Numba, and keep the machine code on disk where any folder for it can be written."""
    try:
        return njit(cache=True, fastmath=_FAST)(function)
    except RuntimeError:
        warnings.warn(
            "Numba finds no folder to cache machine code in: every start compiles anew (set NUMBA_CACHE_DIR)",
            stacklevel=2,
        )
        return njit(fastmath=_FAST)(function)


@_part
def _strides(target: int, control: int) -> tuple[int, int, int]:
    """Return the higher and the lower of the bits that a gate tells apart, and the index of its control bit.

    An uncontrolled gate has but one such bit, its target, and no control bit to be 1.
    """
    if control == UNCONTROLLED:
        return target, target, 0
    return max(target, control), min(target, control), 1 << control


@_part
def _rotate(xr: Row, xi: Row, yr: Row, yi: Row, u00: complex, u01: complex, u10: complex, u11: complex) -> None:
    """Apply a 2×2 matrix to pairs (x, y) of amplitudes, in place: x ← u00·x + u01·y, y ← u10·x + u11·y."""
    ar, ai, br, bi = u00.real, u00.imag, u01.real, u01.imag
    cr, ci, dr, di = u10.real, u10.imag, u11.real, u11.imag
    for k in range(xr.size):
        pr, pi, qr, qi = xr[k], xi[k], yr[k], yi[k]
        xr[k] = ar * pr - ai * pi + br * qr - bi * qi
        xi[k] = ar * pi + ai * pr + br * qi + bi * qr
        yr[k] = cr * pr - ci * pi + dr * qr - di * qi
        yi[k] = cr * pi + ci * pr + dr * qi + di * qr


@_part
def _overlaps(lr: Row, li: Row, xr: Row, xi: Row, yr: Row, yi: Row) -> tuple[complex, complex]:
    """Return Σ conj(λ)·x and Σ conj(λ)·y."""
    x_real = x_imag = y_real = y_imag = 0.0
    for k in range(lr.size):
        x_real += lr[k] * xr[k] + li[k] * xi[k]
        x_imag += lr[k] * xi[k] - li[k] * xr[k]
        y_real += lr[k] * yr[k] + li[k] * yi[k]
        y_imag += lr[k] * yi[k] - li[k] * yr[k]
    return complex(x_real, x_imag), complex(y_real, y_imag)


@_part
def _apply(state: NDArray[np.float64], u: NDArray[np.complex128], target: int, control: int) -> None:
    """Apply the 2×2 matrix ``u`` to qubit ``target`` where ``control`` is 1, in place."""
    real, imag = state[0], state[1]
    u00, u01, u10, u11 = u[0, 0], u[0, 1], u[1, 0], u[1, 1]
    high, low, offset = _strides(target, control)
    step, block, length = 1 << target, 2 << high, 1 << low
    end = block >> 1 if high != low else 1
    for a in range(0, real.size, block):
        for b in range(a + offset, a + offset + end, 2 * length):
            x, y = slice(b, b + length), slice(b + step, b + step + length)
            _rotate(real[x], imag[x], real[y], imag[y], u00, u01, u10, u11)


@_part
def _undo(
    state: NDArray[np.float64], cotangent: NDArray[np.float64], u: NDArray[np.complex128], target: int, control: int
) -> tuple[complex, complex, complex, complex]:
    """Undo ``u`` on both states in one sweep over memory, and return M_ab = Σ conj(λ_a) ψ_b over the pairs.

    λ is the cotangent before undoing, ψ the state after undoing: what the derivative of this gate needs.
    """
    u00, u01, u10, u11 = np.conj(u[0, 0]), np.conj(u[1, 0]), np.conj(u[0, 1]), np.conj(u[1, 1])
    real, imag, lreal, limag = state[0], state[1], cotangent[0], cotangent[1]
    high, low, offset = _strides(target, control)
    step, block, length = 1 << target, 2 << high, 1 << low
    end = block >> 1 if high != low else 1
    m00 = m01 = m10 = m11 = 0j
    for a in range(0, real.size, block):
        for b in range(a + offset, a + offset + end, 2 * length):
            x, y = slice(b, b + length), slice(b + step, b + step + length)
            _rotate(real[x], imag[x], real[y], imag[y], u00, u01, u10, u11)
            d00, d01 = _overlaps(lreal[x], limag[x], real[x], imag[x], real[y], imag[y])
            d10, d11 = _overlaps(lreal[y], limag[y], real[x], imag[x], real[y], imag[y])
            m00, m01, m10, m11 = m00 + d00, m01 + d01, m10 + d10, m11 + d11
            _rotate(lreal[x], limag[x], lreal[y], limag[y], u00, u01, u10, u11)
    return m00, m01, m10, m11


@_kernel
def run(
    state: NDArray[np.float64],
    matrices: NDArray[np.complex128],
    targets: NDArray[np.int64],
    controls: NDArray[np.int64],
) -> None:
    """Set ``state`` to U_m…U_1|0…0⟩.

    Args:
        state: overwritten, shape (2, 2^n), float64.
        matrices: of the gates in circuit order, shape (m, 2, 2), complex128.
        targets: shape (m,), int64.
        controls: shape (m,), int64, ``UNCONTROLLED`` where there is none.
    """
    state[:] = 0.0
    state[0, 0] = 1.0
    for g in range(len(targets)):
        _apply(state, matrices[g], targets[g], controls[g])


@_kernel
def sweep(
    state: NDArray[np.float64],
    cotangent: NDArray[np.float64],
    matrices: NDArray[np.complex128],
    derivatives: NDArray[np.complex128],
    targets: NDArray[np.int64],
    controls: NDArray[np.int64],
    gradient: NDArray[np.float64],
) -> None:
    """Sweep the gates backwards and set ``gradient`` to 2·Re⟨λ|(∂U_j)|ψ_before⟩ for every angle j.

    Args:
        state: ψ = U_m…U_1|0…0⟩, shape (2, 2^n), float64; ends as |0…0⟩.
        cotangent: λ = diag(g)·ψ, shape (2, 2^n), float64; overwritten.
        matrices: shape (m, 2, 2), complex128.
        derivatives: with respect to each of three angles a gate, shape (m, 3, 2, 2), complex128.
        targets: shape (m,), int64.
        controls: shape (m,), int64.
        gradient: overwritten, shape (3·m,), float64.
    """
    for g in range(len(targets) - 1, -1, -1):
        m00, m01, m10, m11 = _undo(state, cotangent, matrices[g], targets[g], controls[g])
        for j in range(3):
            d = derivatives[g, j]
            gradient[3 * g + j] = 2.0 * (d[0, 0] * m00 + d[0, 1] * m01 + d[1, 0] * m10 + d[1, 1] * m11).real
