"""Vectors inside kernels, against NumPy."""

import numpy as np
import pytest
from numba import njit

from qtrl_hpc.simd import ROUNDING, at_least, at_most, fill, load, power_of_two, store, swap1, swap2, swap4, swap8

both = pytest.mark.parametrize("dtype", [np.float64, np.float32])


@njit
def operate(x, y, out):
    a, b = load(x, 1), load(y, 1)
    store(out[0], 1, a + b)
    store(out[1], 1, a - b)
    store(out[2], 1, a * b)
    store(out[3], 1, a / b)
    store(out[4], 1, at_least(a, b))
    store(out[5], 1, at_most(a, b))
    store(out[6], 1, fill(x, 0.5))


@njit
def exchange(x, out):
    a = load(x, 0)
    store(out[0], 0, swap1(a))
    store(out[1], 0, swap2(a))
    store(out[2], 0, swap4(a))
    store(out[3], 0, swap8(a))


@njit
def power(x, out):
    store(out, 0, power_of_two(load(x, 0)))


@both
def test_arithmetic_lane_by_lane_and_nothing_beside(dtype):
    """Loads and stores need not be aligned: all begins at 1."""
    lanes = 64 // np.dtype(dtype).itemsize
    x, y = np.random.default_rng(0).normal(size=(2, lanes + 2)).astype(dtype)
    x[3] = np.nan
    out = np.full((7, lanes + 2), 7, dtype)
    operate(x, y, out)
    a, b = x[1:-1], y[1:-1]
    larger, smaller = np.where(a < b, b, a), np.where(a > b, b, a)  # where a is not a number it stays
    expected = np.stack([a + b, a - b, a * b, a / b, larger, smaller, np.full(lanes, 0.5, dtype)])
    np.testing.assert_array_equal(out[:, 1:-1], expected)
    np.testing.assert_array_equal(out[:, [0, -1]], 7)


@both
def test_lanes_that_differ_in_one_bit_are_exchanged(dtype):
    lanes = 64 // np.dtype(dtype).itemsize
    x, out = np.arange(lanes, dtype=dtype), np.zeros((4, lanes), dtype)
    exchange(x, out)
    for bit in range(lanes.bit_length() - 1):
        assert out[bit].tolist() == [lane ^ 1 << bit for lane in range(lanes)]


@both
def test_powers_of_two(dtype):
    size = np.dtype(dtype).itemsize
    k = np.linspace(-100, 100, 64 // size).round().astype(dtype)
    out = np.empty_like(k)
    power(k + dtype(ROUNDING[size]), out)
    np.testing.assert_array_equal(out, 2.0**k)
