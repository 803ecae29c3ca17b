"""What the kernels do beyond double precision and one thread; the rest is in test_qpu and test_gradients."""

import numpy as np
import pytest

from qtrl_hpc.quantum import kernels
from qtrl_hpc.quantum.adjoint import AdjointGradient
from qtrl_hpc.quantum.ansatz import Ansatz
from qtrl_hpc.quantum.program import compile_ansatz
from qtrl_hpc.quantum.qpu import AerQPU, StatevectorQPU


def problem(n, layers):
    ansatz = Ansatz(num_qubits=n, num_layers=layers)
    rng = np.random.default_rng([n, layers])
    return ansatz, rng.uniform(-np.pi, np.pi, ansatz.num_angles), rng.normal(size=2**n - 1)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 13])
def test_single_precision_is_near_double(n):
    """Some hundred roundings of 2^-24 = 6e-8 of amplitudes below 1."""
    ansatz, phi, cotangent = problem(n, 3)
    double, single = StatevectorQPU(ansatz), StatevectorQPU(ansatz, precision="single")
    exact, near = double.probabilities(phi), single.probabilities(phi)
    assert near.dtype == np.float64
    np.testing.assert_allclose(near, exact, rtol=0, atol=1e-6)
    assert np.abs(near - exact).max() > 0.0  # it is single
    exact, near = (AdjointGradient(qpu)(phi, cotangent) for qpu in (double, single))
    np.testing.assert_allclose(near, exact, rtol=0, atol=1e-5 * np.abs(exact).max())


def test_single_precision_of_aer():
    ansatz, phi, _ = problem(6, 2)
    exact, near = (AerQPU(ansatz, precision=precision).probabilities(phi) for precision in ("double", "single"))
    np.testing.assert_allclose(near, exact, rtol=0, atol=1e-6)
    assert np.abs(near - exact).max() > 0.0


@pytest.mark.parametrize("precision", ["double", "single"])
def test_threads_change_no_bit(precision):
    """16 qubits are swept in pieces, whose sums are added in order whoever made them."""
    ansatz, phi, cotangent = problem(16, 2)
    assert ansatz.num_amplitudes >= kernels.CHUNKED_SIZE
    one, two = (StatevectorQPU(ansatz, precision=precision, threads=threads) for threads in (1, 2))
    assert one.probabilities(phi).tobytes() == two.probabilities(phi).tobytes()
    first, second = AdjointGradient(one)(phi, cotangent), AdjointGradient(two)(phi, cotangent)
    assert first.tobytes() == second.tobytes()


def test_16_qubits_along_a_random_direction(slope):
    ansatz, phi, cotangent = problem(16, 2)
    qpu = StatevectorQPU(ansatz)
    direction = np.random.default_rng(0).normal(size=len(phi))
    expected = slope(lambda angles: cotangent @ qpu.probabilities(angles)[:-1], phi, direction)
    assert AdjointGradient(qpu)(phi, cotangent) @ direction == pytest.approx(expected, abs=1e-9)


def test_the_sweep_ends_where_the_circuit_began():
    ansatz, phi, _ = problem(10, 3)
    program, state = compile_ansatz(ansatz), np.empty((2, 1024))
    kernels.run(state, phi, program)
    kernels.sweep(state, state.copy(), phi, program)
    np.testing.assert_allclose(state, np.eye(1, 2048).reshape(2, 1024), atol=1e-13)


def test_gradient_of_the_norm_is_zero():
    """g = 1: Σ_i p_i = 1 whatever the angles."""
    ansatz, phi, _ = problem(9, 2)
    np.testing.assert_allclose(AdjointGradient(StatevectorQPU(ansatz))(phi, np.ones(512)), 0.0, atol=1e-14)


def test_a_state_swept_away_is_run_again():
    ansatz, phi, cotangent = problem(6, 2)
    qpu = StatevectorQPU(ansatz)
    before = qpu.state(phi).copy()
    AdjointGradient(qpu)(phi, cotangent)
    assert qpu.state(phi).tobytes() == before.tobytes()
    phi[0] += 0.5  # the very array that was given, changed
    assert np.abs(qpu.state(phi) - before).max() > 1e-3


@pytest.mark.parametrize("count", [0, 5, 73])
def test_wrong_number_of_angles_is_refused(count):
    """The kernels do not look where an array ends."""
    ansatz, _, cotangent = problem(6, 2)
    qpu = StatevectorQPU(ansatz)
    for call in (qpu.probabilities, qpu.state, lambda phi: AdjointGradient(qpu)(phi, cotangent)):
        with pytest.raises(ValueError, match=rf"^phi: got shape \({count},\), expected \(72,\)$"):
            call(np.zeros(count))


def test_angles_of_any_kind_and_layout_are_taken():
    ansatz, phi, cotangent = problem(4, 1)
    qpu = StatevectorQPU(ansatz)
    expected, gradient = qpu.probabilities(phi), AdjointGradient(qpu)(phi, cotangent)
    strided = np.repeat(phi, 2)[::2]
    frozen = phi.copy()
    frozen.flags.writeable = False
    for other in (strided, frozen, phi.astype(">f8")):
        np.testing.assert_array_equal(qpu.probabilities(other), expected)
        np.testing.assert_array_equal(AdjointGradient(qpu)(other, cotangent), gradient)
