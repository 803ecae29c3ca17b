"""Adjoint and parameter-shift: each against finite differences, and against each other."""

import numpy as np
import pytest

from qtrl_hpc.quantum.adjoint import AdjointGradient
from qtrl_hpc.quantum.ansatz import Ansatz
from qtrl_hpc.quantum.qpu import QPUS
from qtrl_hpc.quantum.shift import ParameterShiftGradient

both = pytest.mark.parametrize("name", ["aer", "statevector"])


def make(name, n, layers):
    return QPUS[name](Ansatz(num_qubits=n, num_layers=layers), threads=1)


def random_problem(n, layers, seed=0):
    """Return angles and a cotangent of the probabilities."""
    rng = np.random.default_rng([n, layers, seed])
    ansatz = Ansatz(num_qubits=n, num_layers=layers)
    return rng.uniform(-np.pi, np.pi, ansatz.num_angles), rng.normal(size=ansatz.num_amplitudes)


def adjoint(name, n, layers, phi, cotangent):
    qpu = make(name, n, layers)
    qpu.probabilities(phi)
    return AdjointGradient(qpu)(phi, cotangent)


@both
@pytest.mark.parametrize("method", [AdjointGradient, ParameterShiftGradient])
def test_one_u3_by_hand(name, method):
    """p1 = sin²(θ/2), so ∂p1/∂θ = sin(θ)/2, which is 1/4 at θ = π/6; p0 = 1 − p1; the phases do not matter."""
    qpu, phi = make(name, 1, 1), np.array([np.pi / 6, 0.4, 0.7])
    qpu.probabilities(phi)
    np.testing.assert_allclose(method(qpu)(phi, np.array([2.0, 3.0])), [1 / 4, 0, 0], atol=1e-15)


@both
@pytest.mark.parametrize("method", [AdjointGradient, ParameterShiftGradient])
@pytest.mark.parametrize(("n", "layers"), [(1, 3), (2, 1), (2, 3), (3, 2), (4, 2)])
def test_against_differences(name, method, n, layers, numerical_gradient):
    qpu = make(name, n, layers)
    phi, cotangent = random_problem(n, layers)
    expected = numerical_gradient(lambda angles: cotangent @ qpu.probabilities(angles), phi)
    qpu.probabilities(phi)
    np.testing.assert_allclose(method(qpu)(phi, cotangent), expected, rtol=0, atol=1e-10)


@both
@pytest.mark.parametrize(("n", "layers"), [(1, 3), (2, 3), (3, 3), (5, 2), (8, 1), (8, 3)])
def test_adjoint_is_aers_parameter_shift(name, n, layers):
    phi, cotangent = random_problem(n, layers)
    shift = ParameterShiftGradient(make("aer", n, layers))(phi, cotangent)
    np.testing.assert_allclose(adjoint(name, n, layers, phi, cotangent), shift, rtol=0, atol=1e-8)


@both
def test_adjoint_at_13_qubits_along_random_directions(name, slope):
    qpu = make(name, 13, 3)
    phi, cotangent = random_problem(13, 3)
    gradient = adjoint(name, 13, 3, phi, cotangent)
    for direction in np.random.default_rng(0).normal(size=(3, len(phi))):
        expected = slope(lambda angles: cotangent @ qpu.probabilities(angles), phi, direction)
        assert gradient @ direction == pytest.approx(expected, abs=1e-9)


@both
def test_adjoint_can_be_asked_again_about_the_same_run(name):
    qpu = make(name, 3, 2)
    phi, cotangent = random_problem(3, 2)
    qpu.probabilities(phi)
    gradient, kept = AdjointGradient(qpu), cotangent.copy()
    first = gradient(phi, cotangent)
    np.testing.assert_array_equal(cotangent, kept)
    np.testing.assert_array_equal(gradient(phi, 2.0 * cotangent), 2.0 * first)


def test_parameter_shift_runs_two_circuits_a_u3_angle_and_four_a_controlled_one():
    """n = 3, L = 2: 18 angles of U3 and 18 of controlled-U3, so 18·2 + 18·4 = 108 runs; phi stays as it was."""

    class Counting:
        def __init__(self, qpu):
            self.qpu, self.ansatz, self.runs = qpu, qpu.ansatz, 0

        def jobs(self, phis):
            self.runs += len(phis)
            return self.qpu.jobs(phis)

    qpu = Counting(make("statevector", 3, 2))
    phi, cotangent = random_problem(3, 2)
    kept = phi.copy()
    ParameterShiftGradient(qpu)(phi, cotangent)
    assert qpu.runs == 108
    np.testing.assert_array_equal(phi, kept)
