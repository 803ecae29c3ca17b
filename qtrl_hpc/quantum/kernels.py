"""Numba kernels on a statevector: apply a gate, and the adjoint sweep.

A state is float64 of shape (2, 2^n): row 0 the real parts, row 1 the imaginary parts, so that the inner loops run
over contiguous numbers and vectorise. Basis index i = Σ_q b_q 2^q (Qiskit's order, qubit 0 least significant).
The derivation is in docs/method.md.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

UNCONTROLLED = -1

# Sums may be reassociated and multiply-adds contracted; NaN and infinity keep their meaning.
_FAST = {"reassoc", "contract", "nsz"}


@njit(cache=True, inline="always")
def _strides(target: int, control: int) -> tuple[int, int, int]:
    """Return the higher and the lower of the bits that a gate tells apart, and the index of its control bit.

    An uncontrolled gate has but one such bit, its target, and no control bit to be 1.
    """
    if control == UNCONTROLLED:
        return target, target, 0
    return max(target, control), min(target, control), 1 << control


@njit(cache=True, fastmath=_FAST)
def _apply(state: NDArray[np.float64], u: NDArray[np.complex128], target: int, control: int) -> None:
    """Apply the 2×2 matrix ``u`` to qubit ``target`` where ``control`` is 1, in place."""
    real, imag = state[0], state[1]
    ar, ai, br, bi = u[0, 0].real, u[0, 0].imag, u[0, 1].real, u[0, 1].imag
    cr, ci, dr, di = u[1, 0].real, u[1, 0].imag, u[1, 1].real, u[1, 1].imag
    high, low, offset = _strides(target, control)
    step = 1 << target
    block = 1 << (high + 1)
    inner = 1 << low
    for a in range(0, real.size, block):
        for b in range(a + offset, a + offset + (block >> 1 if high != low else 1), 2 * inner):
            for i in range(b, b + inner):
                j = i + step
                xr, xi, yr, yi = real[i], imag[i], real[j], imag[j]
                real[i] = ar * xr - ai * xi + br * yr - bi * yi
                imag[i] = ar * xi + ai * xr + br * yi + bi * yr
                real[j] = cr * xr - ci * xi + dr * yr - di * yi
                imag[j] = cr * xi + ci * xr + dr * yi + di * yr


@njit(cache=True, fastmath=_FAST)
def _undo(
    state: NDArray[np.float64], cotangent: NDArray[np.float64], u: NDArray[np.complex128], target: int, control: int
) -> tuple[complex, complex, complex, complex]:
    """Undo ``u`` on both states in one pass over memory, and return M_ab = Σ conj(λ_a) ψ_b over the pairs.

    λ is the cotangent before undoing, ψ the state after undoing: what the derivative of this gate needs.
    """
    real, imag = state[0], state[1]
    lreal, limag = cotangent[0], cotangent[1]
    # the conjugate transpose
    ar, ai, br, bi = u[0, 0].real, -u[0, 0].imag, u[1, 0].real, -u[1, 0].imag
    cr, ci, dr, di = u[0, 1].real, -u[0, 1].imag, u[1, 1].real, -u[1, 1].imag
    high, low, offset = _strides(target, control)
    step = 1 << target
    block = 1 << (high + 1)
    inner = 1 << low
    m00r = m00i = m01r = m01i = m10r = m10i = m11r = m11i = 0.0
    for a in range(0, real.size, block):
        for b in range(a + offset, a + offset + (block >> 1 if high != low else 1), 2 * inner):
            for i in range(b, b + inner):
                j = i + step
                xr, xi, yr, yi = real[i], imag[i], real[j], imag[j]
                pr = ar * xr - ai * xi + br * yr - bi * yi
                pi = ar * xi + ai * xr + br * yi + bi * yr
                qr = cr * xr - ci * xi + dr * yr - di * yi
                qi = cr * xi + ci * xr + dr * yi + di * yr
                real[i], imag[i], real[j], imag[j] = pr, pi, qr, qi
                xr, xi, yr, yi = lreal[i], limag[i], lreal[j], limag[j]
                m00r += xr * pr + xi * pi
                m00i += xr * pi - xi * pr
                m01r += xr * qr + xi * qi
                m01i += xr * qi - xi * qr
                m10r += yr * pr + yi * pi
                m10i += yr * pi - yi * pr
                m11r += yr * qr + yi * qi
                m11i += yr * qi - yi * qr
                lreal[i] = ar * xr - ai * xi + br * yr - bi * yi
                limag[i] = ar * xi + ai * xr + br * yi + bi * yr
                lreal[j] = cr * xr - ci * xi + dr * yr - di * yi
                limag[j] = cr * xi + ci * xr + dr * yi + di * yr
    return m00r + 1j * m00i, m01r + 1j * m01i, m10r + 1j * m10i, m11r + 1j * m11i


@njit(cache=True)
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


@njit(cache=True)
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
