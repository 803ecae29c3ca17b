"""Numba kernels of the mapping model: an MLP on the bits of i and x_i, for all i < k.

Rows go by blocks of four vectors (``qtrl_hpc.simd``), a unit's activations on a block contiguous, so that all layers of
a block stay in the first cache. ``units`` of shape (units, rows of a block) holds the layers' activations one below the
other: n bits as ±1, the most significant first, x, the hidden layers.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.jit import kernel, part
from qtrl_hpc.simd import BYTES, ROUNDING, at_least, at_most, fill, load, power_of_two, store

TANH, RELU = 1, 2
VECTORS = 4

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]
Vec = Any  # qtrl_hpc.simd.Vec, once compiled

_ROUNDING_DOUBLE, _ROUNDING_SINGLE = ROUNDING[8], ROUNDING[4]
_LOG2_E, _LN2_HIGH, _LN2_LOW = 1.4426950408889634, 0.693145751953125, 1.42860682030941723e-6


def rows_of_block(dtype: type) -> int:
    """Return how many rows a block has."""
    return VECTORS * BYTES // np.dtype(dtype).itemsize


@part
def _tanh(like: Floats, x: Vec) -> Vec:
    """Return tanh x = (e^{2x} − 1)/(e^{2x} + 1).

    With 2x = k·ln 2 + r, |r| ≤ ½ ln 2: e^{2x} − 1 = 2^k·(e^r − 1) + (2^k − 1), and e^r − 1 by its Taylor series.
    """
    rounding = fill(like, _ROUNDING_DOUBLE if like.itemsize == 8 else _ROUNDING_SINGLE)
    y = at_most(at_least(x + x, fill(like, -44.0)), fill(like, 44.0))
    shifted = y * fill(like, _LOG2_E) + rounding
    k = shifted - rounding
    r = y - k * fill(like, _LN2_HIGH) - k * fill(like, _LN2_LOW)
    q = fill(like, 1 / 479001600)
    q = q * r + fill(like, 1 / 39916800)
    q = q * r + fill(like, 1 / 3628800)
    q = q * r + fill(like, 1 / 362880)
    q = q * r + fill(like, 1 / 40320)
    q = q * r + fill(like, 1 / 5040)
    q = q * r + fill(like, 1 / 720)
    q = q * r + fill(like, 1 / 120)
    q = q * r + fill(like, 1 / 24)
    q = q * r + fill(like, 1 / 6)
    q = q * r + fill(like, 0.5)
    q = q * r * r + r
    power = power_of_two(shifted)
    e = power * q + (power - fill(like, 1.0))
    return e / (e + fill(like, 2.0))


@part
def _combine(beta: Floats, first: int, step_out: int, step_in: int, bias: int, below: Floats, out: Floats) -> None:
    """Write out_j = bias_j + Σ_i beta[first + j·step_out + i·step_in]·below_i for the units j of ``out``.

    Four units at a time on four vectors of rows, so that the sums stay in registers. ``bias`` < 0 means none.
    """
    lanes, last = out.shape[1] // VECTORS, out.shape[0] - 1
    for j in range(0, out.shape[0], 4):
        second, third, fourth = min(j + 1, last), min(j + 2, last), min(j + 3, last)
        a0 = a1 = a2 = a3 = fill(out, beta[bias + j] if bias >= 0 else 0.0)
        b0 = b1 = b2 = b3 = fill(out, beta[bias + second] if bias >= 0 else 0.0)
        c0 = c1 = c2 = c3 = fill(out, beta[bias + third] if bias >= 0 else 0.0)
        d0 = d1 = d2 = d3 = fill(out, beta[bias + fourth] if bias >= 0 else 0.0)
        for i in range(below.shape[0]):
            row, w = below[i], first + i * step_in
            x0, x1, x2, x3 = load(row, 0), load(row, lanes), load(row, 2 * lanes), load(row, 3 * lanes)
            u = fill(out, beta[w + j * step_out])
            a0, a1, a2, a3 = a0 + u * x0, a1 + u * x1, a2 + u * x2, a3 + u * x3
            u = fill(out, beta[w + second * step_out])
            b0, b1, b2, b3 = b0 + u * x0, b1 + u * x1, b2 + u * x2, b3 + u * x3
            u = fill(out, beta[w + third * step_out])
            c0, c1, c2, c3 = c0 + u * x0, c1 + u * x1, c2 + u * x2, c3 + u * x3
            u = fill(out, beta[w + fourth * step_out])
            d0, d1, d2, d3 = d0 + u * x0, d1 + u * x1, d2 + u * x2, d3 + u * x3
        _store_row(out[j], lanes, a0, a1, a2, a3)
        _store_row(out[second], lanes, b0, b1, b2, b3)
        _store_row(out[third], lanes, c0, c1, c2, c3)
        _store_row(out[fourth], lanes, d0, d1, d2, d3)


@part
def _store_row(row: Floats, lanes: int, x0: Vec, x1: Vec, x2: Vec, x3: Vec) -> None:
    """Write the four vectors of one unit's row."""
    store(row, 0, x0)
    store(row, lanes, x1)
    store(row, 2 * lanes, x2)
    store(row, 3 * lanes, x3)


@part
def _activate(values: Floats, activation: int) -> None:
    """Apply the activation in place."""
    lanes = values.shape[1] // VECTORS
    for j in range(values.shape[0]):
        row = values[j]
        for v in range(0, values.shape[1], lanes):
            store(row, v, _tanh(row, load(row, v)) if activation == TANH else at_least(load(row, v), fill(row, 0.0)))


@part
def _times_slope(delta: Floats, values: Floats, activation: int) -> None:
    """Multiply by the activation's derivative where it took ``values``, in place."""
    lanes = delta.shape[1] // VECTORS
    for j in range(delta.shape[0]):
        if activation == TANH:
            for v in range(0, delta.shape[1], lanes):
                d, h = load(delta[j], v), load(values[j], v)
                store(delta[j], v, d - d * h * h)
        else:
            for v in range(delta.shape[1]):
                delta[j, v] = delta[j, v] if values[j, v] > 0.0 else 0.0


@part
def _accumulate(delta: Floats, below: Floats, sums: Floats, first: int) -> None:
    """Add δ_j·below_i, lane by lane, to the sums of a layer's weights (row-major), and δ_j to those of its biases."""
    lanes, inputs = delta.shape[1] // VECTORS, below.shape[0]
    bias = first + delta.shape[0] * inputs
    for j in range(0, delta.shape[0], 2):
        k = min(j + 1, delta.shape[0] - 1)
        row = delta[j]
        d0, d1, d2, d3 = load(row, 0), load(row, lanes), load(row, 2 * lanes), load(row, 3 * lanes)
        store(sums[bias + j], 0, load(sums[bias + j], 0) + d0 + d1 + d2 + d3)
        row = delta[k]
        e0, e1, e2, e3 = load(row, 0), load(row, lanes), load(row, 2 * lanes), load(row, 3 * lanes)
        if k > j:
            store(sums[bias + k], 0, load(sums[bias + k], 0) + e0 + e1 + e2 + e3)
        for i in range(inputs):
            row, u, v = below[i], sums[first + j * inputs + i], sums[first + k * inputs + i]
            x0, x1, x2, x3 = load(row, 0), load(row, lanes), load(row, 2 * lanes), load(row, 3 * lanes)
            if k > j:
                store(v, 0, load(v, 0) + e0 * x0 + e1 * x1 + e2 * x2 + e3 * x3)
            store(u, 0, load(u, 0) + d0 * x0 + d1 * x1 + d2 * x2 + d3 * x3)


@part
def _run_block(beta: Floats, sizes: Ints, activation: int, start: int, x: Floats, units: Floats) -> None:
    """Set the activations of a block of rows, of which the first is number ``start``."""
    num_qubits, rows = sizes[0] - 1, units.shape[1]
    for q in range(num_qubits):
        for r in range(rows):
            units[num_qubits - 1 - q, r] = 1.0 if ((start + r) >> q) & 1 else -1.0
    units[num_qubits] = x[start : start + rows]
    unit, first = 0, 0
    for layer in range(len(sizes) - 1):
        below, out = sizes[layer], sizes[layer + 1]
        values = units[unit + below : unit + below + out]
        _combine(beta, first, below, 1, first + out * below, units[unit : unit + below], values)
        if layer < len(sizes) - 2:
            _activate(values, activation)
        unit, first = unit + below, first + out * below + out


@part
def _pull_back_block(
    beta: Floats, sizes: Ints, activation: int, units: Floats, delta: Floats, sums: Floats, d_x: Floats
) -> None:
    """Take ``delta``, whose last row is a block's cotangent, down through the layers."""
    unit, first = units.shape[0], len(beta)
    for layer in range(len(sizes) - 2, -1, -1):
        below, out = sizes[layer], sizes[layer + 1]
        unit, first = unit - out, first - out * below - out
        above = delta[unit : unit + out]
        _accumulate(above, units[unit - below : unit], sums, first)
        if layer > 0:
            _combine(beta, first, 1, below, -1, above, delta[unit - below : unit])
            _times_slope(delta[unit - below : unit], units[unit - below : unit], activation)
        else:
            _combine(beta, first + below - 1, 1, below, -1, above, d_x)


def _forward(beta: Floats, sizes: Ints, activation: int, x: Floats, units: Floats, out: Floats) -> None:
    """Do what ``forward`` says."""
    rows = units.shape[2]
    for block in range(len(x) // rows):
        values = units[block if len(units) > 1 else 0]
        _run_block(beta, sizes, activation, block * rows, x, values)
        out[block * rows : (block + 1) * rows] = values[-1]


def _pullback(
    beta: Floats, sizes: Ints, activation: int, x: Floats, units: Floats, cotangent: Floats, gradient: Floats,
    d_x: Floats,
) -> None:  # fmt: skip
    """Do what ``pullback`` says."""
    rows = units.shape[2]
    delta = np.zeros(units.shape[1:], units.dtype)
    sums = np.zeros((len(beta), rows // VECTORS), units.dtype)
    for block in range(len(x) // rows):
        start, stop = block * rows, (block + 1) * rows
        values = units[block if len(units) > 1 else 0]
        if len(units) == 1:
            _run_block(beta, sizes, activation, start, x, values)
        delta[-1] = cotangent[start:stop]
        _pull_back_block(beta, sizes, activation, values, delta, sums, d_x[start:stop].reshape(1, rows))
    for weight in range(len(beta)):
        gradient[weight] = sums[weight].sum()


_FORWARD, _PULLBACK = (
    {precision: kernel(function, precision) for precision in ("float64", "float32")}
    for function in (_forward, _pullback)
)


def forward(
    beta: NDArray[np.floating],
    sizes: Ints,
    activation: int,
    x: NDArray[np.floating],
    units: NDArray[np.floating],
    out: NDArray[np.floating],
) -> None:
    """Set ``out`` to M_beta of every row.

    Args:
        beta: layer by layer, weight row-major then bias, shape (l,), float64 or float32, as all that follow.
        sizes: of the layers: n + 1, hidden ones, 1; int64.
        activation: ``TANH`` or ``RELU``.
        x: shape (rows,), a whole number of blocks.
        units: overwritten, shape (blocks or 1, sum of sizes, rows of a block): with one, only the last block is kept.
        out: overwritten, shape (rows,).
    """
    _FORWARD[units.dtype.name](beta, sizes, activation, x, units, out)


def pullback(
    beta: NDArray[np.floating],
    sizes: NDArray[np.int64],
    activation: int,
    x: NDArray[np.floating],
    units: NDArray[np.floating],
    cotangent: NDArray[np.floating],
    gradient: NDArray[np.float64],
    d_x: NDArray[np.floating],
) -> None:
    """Set ``gradient`` to Σ_i c_i ∂M_i/∂beta and ``d_x`` to c_i ∂M_i/∂x_i.

    Args:
        beta: as given to ``forward``, and so all that follow.
        sizes: of the layers.
        activation: between them.
        x: shape (rows,).
        units: as ``forward`` left them; where there is one block only, it is run again.
        cotangent: c, shape (rows,), 0 in rows that do not count.
        gradient: overwritten, shape (l,), float64.
        d_x: overwritten, shape (rows,).
    """
    _PULLBACK[units.dtype.name](beta, sizes, activation, x, units, cotangent, gradient, d_x)
