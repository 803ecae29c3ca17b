"""Numba kernels on a statevector: run a program of merged gates, and sweep it backwards.

A state is float64 or float32 of shape (2, size): row 0 the real parts, row 1 the imaginary parts, size at least
``MIN_SIZE``. Basis index i = Σ_q b_q 2^q (Qiskit's order, qubit 0 least significant).
Amplitudes go by vectors (``qtrl_hpc.simd``). Qubits below log2(lanes) tell lanes of one vector apart, higher ones
whole vectors. The derivation is in docs/kernels.md.
"""

from typing import Any

import numba
import numpy as np
from numba import prange
from numpy.typing import NDArray

from qtrl_hpc.jit import kernel, part
from qtrl_hpc.quantum.program import Program
from qtrl_hpc.simd import BYTES, fill, load, store, swap1, swap2, swap4, swap8

MIN_SIZE = 32
"""Two vectors of 16 float32: smaller states are kept in one of this size."""

CHUNKED_SIZE = 1 << 16
"""From this size on a pass over the state is made in ``CHUNKS`` pieces, which threads may share out."""

CHUNKS = 16


Floats = NDArray[np.floating]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Gate = tuple[complex, complex, complex, complex]
Vec = Any  # qtrl_hpc.simd.Vec, once compiled


@part
def _u3(theta: float, phase: float, lam: float) -> Gate:
    """Return U3's entries 00, 01, 10, 11 (Qiskit's ``UGate``)."""
    cos, sin = np.cos(theta / 2), np.sin(theta / 2)
    e_phase, e_lam = complex(np.cos(phase), np.sin(phase)), complex(np.cos(lam), np.sin(lam))
    return complex(cos, 0.0), -sin * e_lam, sin * e_phase, cos * e_phase * e_lam


@part
def _times(a: Gate, b: Gate) -> Gate:
    """Return the product of two 2×2 matrices."""
    return a[0] * b[0] + a[1] * b[2], a[0] * b[1] + a[1] * b[3], a[2] * b[0] + a[3] * b[2], a[2] * b[1] + a[3] * b[3]


@part
def _dagger(a: Gate) -> Gate:
    """Return the adjoint of a 2×2 matrix."""
    return np.conj(a[0]), np.conj(a[2]), np.conj(a[1]), np.conj(a[3])


@part
def _matrices(phi: Floats, starts: Ints, members: Ints, controlled: Flags, gate: int) -> tuple[Gate, Gate]:
    """Return V_0 and V_1 of a merged gate: the products of its uncontrolled members, and of all."""
    v0 = v1 = (1.0 + 0j, 0j, 0j, 1.0 + 0j)
    for m in range(starts[gate], starts[gate + 1]):
        j = 3 * members[m]
        u = _u3(phi[j], phi[j + 1], phi[j + 2])
        v1 = _times(u, v1)
        if not controlled[m]:
            v0 = _times(u, v0)
    return v0, v1


@part
def _fill_table(table: Floats, v0: Gate, v1: Gate, target: int, control: int, bits: int) -> None:
    """Write the coefficients of every lane, for control 0 and 1 where the control tells vectors apart.

    ``table[phase]`` is u00, u01, u10, u11 of a pair of vectors, or u_bb, u_b(1−b) of lanes b of one vector; each as a
    row of real and one of imaginary parts.
    """
    for phase in range(2):
        for lane in range(1 << bits):
            c = phase if control >= bits or control < 0 else (lane >> control) & 1
            v = v1 if c == 1 else v0
            if target >= bits:
                for entry in range(4):
                    table[phase, 2 * entry, lane], table[phase, 2 * entry + 1, lane] = v[entry].real, v[entry].imag
            else:
                same, other = (v[3], v[2]) if (lane >> target) & 1 else (v[0], v[1])
                table[phase, 0, lane], table[phase, 1, lane] = same.real, same.imag
                table[phase, 2, lane], table[phase, 3, lane] = other.real, other.imag


@part
def _layout(target: int, control: int, bits: int) -> tuple[int, int, int, int]:
    """Return the masks that insert the bits telling vectors apart into an index, the lower first, how many, and phases.

    i + (i & −2^q) moves bit q and those above it one up.
    """
    apart, controlled = target >= bits, control >= bits
    if apart and controlled:
        return -(1 << min(target, control)), -(1 << max(target, control)), 2, 2
    if apart or controlled:
        return -(1 << (target if apart else control)), 0, 1, 2 if controlled else 1
    return 0, 0, 0, 1


@part
def _swapped(vec: Vec, target: int) -> Vec:
    """Return the vector with the lanes exchanged that differ in bit ``target``."""
    if target == 0:
        return swap1(vec)
    if target == 1:
        return swap2(vec)
    if target == 2:
        return swap4(vec)
    return swap8(vec)


@part
def _loaded(k: Floats) -> tuple[Vec, ...]:
    """Return the rows of one phase of the table, which stay in registers."""
    return (
        load(k[0], 0), load(k[1], 0), load(k[2], 0), load(k[3], 0),
        load(k[4], 0), load(k[5], 0), load(k[6], 0), load(k[7], 0),
    )  # fmt: skip


@part
def _rotated(u: tuple[Vec, ...], xr: Vec, xi: Vec, yr: Vec, yi: Vec) -> tuple[Vec, Vec, Vec, Vec]:
    """Return u00·x + u01·y and u10·x + u11·y."""
    return (
        u[0] * xr - u[1] * xi + u[2] * yr - u[3] * yi,
        u[0] * xi + u[1] * xr + u[2] * yi + u[3] * yr,
        u[4] * xr - u[5] * xi + u[6] * yr - u[7] * yi,
        u[4] * xi + u[5] * xr + u[6] * yi + u[7] * yr,
    )


@part
def _mixed(u: tuple[Vec, ...], xr: Vec, xi: Vec, yr: Vec, yi: Vec) -> tuple[Vec, Vec]:
    """Return u_bb·x + u_b(1−b)·y in every lane b, where y is x with these lanes exchanged."""
    return u[0] * xr - u[1] * xi + u[2] * yr - u[3] * yi, u[0] * xi + u[1] * xr + u[2] * yi + u[3] * yr


@part
def _apply(state: Floats, k: Floats, start: int, stop: int, layout: tuple[int, int], base: int, target: int) -> None:
    """Apply a gate to the vectors ``start`` to ``stop`` of those that ``base`` says the control of."""
    real, imag, u, lanes, step = state[0], state[1], _loaded(k), k.shape[1], 1 << target
    for v in range(start, stop, lanes):
        i = v + (v & layout[0])
        i += (i & layout[1]) + base
        xr, xi = load(real, i), load(imag, i)
        if step >= lanes:
            xr, xi, yr, yi = _rotated(u, xr, xi, load(real, i + step), load(imag, i + step))
            store(real, i + step, yr)
            store(imag, i + step, yi)
        else:
            xr, xi = _mixed(u, xr, xi, _swapped(xr, target), _swapped(xi, target))
        store(real, i, xr)
        store(imag, i, xi)


@part
def _undo(
    state: Floats, cotangent: Floats, k: Floats, start: int, stop: int, layout: tuple[int, int], base: int, target: int,
    out: Floats,
) -> None:  # fmt: skip
    """Apply the inverse of a gate, whose coefficients ``k`` holds, to ψ and λ, and add up their overlaps lane by lane.

    With x and y the amplitudes before the gate where the target is 0 and 1: Im λ_x*ψ_x, Im λ_y*ψ_y, and the real and
    imaginary part of λ_x*ψ_y − λ_y ψ_x*. Within a vector y is in another lane: the first row then has both of the
    former, and the last two λ*ψ of lanes exchanged.
    """
    real, imag, lreal, limag = state[0], state[1], cotangent[0], cotangent[1]
    u, lanes, step = _loaded(k), k.shape[1], 1 << target
    s0 = s1 = s2 = s3 = fill(out[0], 0.0)
    for v in range(start, stop, lanes):
        i = v + (v & layout[0])
        i += (i & layout[1]) + base
        xr, xi, lr, li = load(real, i), load(imag, i), load(lreal, i), load(limag, i)
        if step >= lanes:
            xr, xi, yr, yi = _rotated(u, xr, xi, load(real, i + step), load(imag, i + step))
            store(real, i + step, yr)
            store(imag, i + step, yi)
            lr, li, mr, mi = _rotated(u, lr, li, load(lreal, i + step), load(limag, i + step))
            store(lreal, i + step, mr)
            store(limag, i + step, mi)
            s1 = s1 + mr * yi - mi * yr
            s2 = s2 - mr * xr - mi * xi
            s3 = s3 - mi * xr + mr * xi
        else:
            xr, xi = _mixed(u, xr, xi, _swapped(xr, target), _swapped(xi, target))
            lr, li = _mixed(u, lr, li, _swapped(lr, target), _swapped(li, target))
            yr, yi = _swapped(xr, target), _swapped(xi, target)
        s0 = s0 + lr * xi - li * xr
        s2 = s2 + lr * yr + li * yi
        s3 = s3 + lr * yi - li * yr
        store(real, i, xr)
        store(imag, i, xi)
        store(lreal, i, lr)
        store(limag, i, li)
    store(out[0], 0, s0)
    store(out[1], 0, s1)
    store(out[2], 0, s2)
    store(out[3], 0, s3)


@part
def _overlaps(sums: Floats, target: int, control: int, bits: int) -> NDArray[np.float64]:
    """Return Im W_00, Im W_11, and real and imaginary part of W_01 − W_10*, for control 0 and 1, shape (2, 4).

    W_ab = Σ conj(λ_a)·ψ_b over the pairs of amplitudes.
    """
    w = np.zeros((2, 4))
    for chunk in range(sums.shape[0]):
        for phase in range(2):
            for lane in range(1 << bits):
                c = phase if control >= bits or control < 0 else (lane >> control) & 1
                s = sums[chunk, phase, :, lane]
                one = target < bits and (lane >> target) & 1 == 1
                w[c, 0] += 0.0 if one else s[0]
                w[c, 1] += s[0] if one else s[1]
                w[c, 2] += -s[2] if one else s[2]
                w[c, 3] += s[3]
    return w


@part
def _chain(t: tuple[float, float, complex], v: Gate, w: Floats) -> float:
    """Return 2·Re Σ_ab T_ab W_ab of the anti-Hermitian T = v†·t·v, where t is (Im t_00, Im t_11, t_01)."""
    m = _times(_dagger(v), _times((complex(0.0, t[0]), t[2], -np.conj(t[2]), complex(0.0, t[1])), v))
    derivative: float = 2.0 * (m[1].real * w[2] - m[1].imag * w[3] - m[0].imag * w[0] - m[3].imag * w[1])
    return derivative


@part
def _differentiate(
    phi: Floats, starts: Ints, members: Ints, controlled: Flags, gate: int, w: Floats, gradient: Floats
) -> None:
    """Write the derivatives by the angles of a merged gate's members, from its overlaps ``w``.

    ∂U3 = U3·T with T_θ = ½(0, −e^{iλ}; e^{−iλ}, 0), T_φ = i(s², sc·e^{iλ}; sc·e^{−iλ}, c²), T_λ = i(0, 0; 0, 1),
    where c, s = cos(θ/2), sin(θ/2); earlier members stand between T and the state before the gate.
    """
    v0 = v1 = (1.0 + 0j, 0j, 0j, 1.0 + 0j)
    for m in range(starts[gate], starts[gate + 1]):
        j = 3 * members[m]
        cos, sin = np.cos(phi[j] / 2), np.sin(phi[j] / 2)
        e_lam = complex(np.cos(phi[j + 2]), np.sin(phi[j + 2]))
        tangents = (
            (0.0, 0.0, -0.5 * e_lam),
            (sin * sin, cos * cos, 1j * sin * cos * e_lam),
            (0.0, 1.0, 0j),
        )
        u = _u3(phi[j], phi[j + 1], phi[j + 2])
        for angle in range(3):
            gradient[j + angle] = _chain(tangents[angle], v1, w[1])
            if not controlled[m]:
                gradient[j + angle] += _chain(tangents[angle], v0, w[0])
        v1 = _times(u, v1)
        if not controlled[m]:
            v0 = _times(u, v0)


def _run(
    state: Floats, phi: Floats, targets: Ints, controls: Ints, supports: Ints, starts: Ints, members: Ints,
    controlled: Flags,
) -> None:  # fmt: skip
    """Do what ``run`` says."""
    table = np.zeros((2, 8, BYTES // state.itemsize), state.dtype)
    bits = 4 if table.shape[2] == 16 else 3
    chunks = CHUNKS if state.shape[1] >= CHUNKED_SIZE else 1
    state[:] = 0.0
    state[0, 0] = 1.0
    for s in range(len(targets)):
        target, control = targets[s], controls[s]
        v0, v1 = _matrices(phi, starts, members, controlled, s)
        _fill_table(table, v0, v1, target, control, bits)
        low, high, inserted, phases = _layout(target, control, bits)
        count = max(supports[s], MIN_SIZE) >> inserted
        pieces = chunks if count >= CHUNKED_SIZE >> 2 else 1
        for c in prange(pieces):
            start, stop = c * (count // pieces), (c + 1) * (count // pieces)
            for phase in range(phases):
                base = phase << control if phases == 2 else 0
                _apply(state, table[phase], start, stop, (low, high), base, target)


def _sweep(
    state: Floats, cotangent: Floats, phi: Floats, targets: Ints, controls: Ints, supports: Ints, starts: Ints,
    members: Ints, controlled: Flags, gradient: Floats,
) -> None:  # fmt: skip
    """Do what ``sweep`` says."""
    table = np.zeros((2, 8, BYTES // state.itemsize), state.dtype)
    bits = 4 if table.shape[2] == 16 else 3
    chunks = CHUNKS if state.shape[1] >= CHUNKED_SIZE else 1
    sums = np.zeros((chunks, 2, 4, table.shape[2]), state.dtype)
    for s in range(len(targets) - 1, -1, -1):
        target, control = targets[s], controls[s]
        v0, v1 = _matrices(phi, starts, members, controlled, s)
        _fill_table(table, _dagger(v0), _dagger(v1), target, control, bits)
        low, high, inserted, phases = _layout(target, control, bits)
        count = max(supports[s], MIN_SIZE) >> inserted
        pieces = chunks if count >= CHUNKED_SIZE >> 2 else 1
        sums[:] = 0.0
        for c in prange(pieces):
            start, stop = c * (count // pieces), (c + 1) * (count // pieces)
            for phase in range(phases):
                base = phase << control if phases == 2 else 0
                _undo(state, cotangent, table[phase], start, stop, (low, high), base, target, sums[c, phase])
        w = _overlaps(sums, target, control, bits)
        _differentiate(phi, starts, members, controlled, s, w, gradient)


_VARIANTS = [(precision, parallel) for precision in ("float64", "float32") for parallel in (False, True)]
_RUN, _SWEEP = (
    {
        (precision, parallel): kernel(function, f"{precision}_{parallel}", parallel=parallel)
        for precision, parallel in _VARIANTS
    }
    for function in (_run, _sweep)
)


def run(state: NDArray[np.floating], phi: NDArray[np.float64], program: Program, *, threads: int = 1) -> None:
    """Set ``state`` to U_m…U_1|0…0⟩.

    Args:
        state: overwritten, shape (2, size), float64 or float32.
        phi: angles in circuit order, radians, shape (P,), float64.
        program: of the circuit.
        threads: more than one compiles kernels of another kind; the bits do not depend on their number.
    """
    if threads > 1:
        numba.set_num_threads(threads)
    _RUN[state.dtype.name, threads > 1](state, phi, *_arrays(program))


def sweep(
    state: NDArray[np.floating],
    cotangent: NDArray[np.floating],
    phi: NDArray[np.float64],
    program: Program,
    *,
    threads: int = 1,
) -> NDArray[np.float64]:
    """Sweep the gates backwards.

    Args:
        state: ψ = U_m…U_1|0…0⟩, shape (2, size), float64 or float32; overwritten.
        cotangent: λ = diag(g)·ψ, shape and type of ``state``; overwritten.
        phi: radians, shape (P,), float64.
        program: of the circuit.
        threads: as for ``run``.

    Returns:
        2·Re⟨λ|(∂U_j)|ψ_before⟩ for every angle j in circuit order, shape (P,), float64.
    """
    gradient = np.empty(len(phi))
    if threads > 1:
        numba.set_num_threads(threads)
    _SWEEP[state.dtype.name, threads > 1](state, cotangent, phi, *_arrays(program), gradient)
    return gradient


def _arrays(program: Program) -> tuple[Ints | Flags, ...]:
    return (
        program.targets, program.controls, program.supports, program.starts, program.members, program.controlled,
    )  # fmt: skip
