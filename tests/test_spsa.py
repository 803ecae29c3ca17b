"""SPSA: against the adjoint, within its own error."""

import numpy as np
import pytest

from qtrl_hpc.quantum.adjoint import AdjointGradient
from qtrl_hpc.quantum.ansatz import Ansatz
from qtrl_hpc.quantum.qpu import StatevectorQPU
from qtrl_hpc.quantum.spsa import SpsaGradient


@pytest.fixture(scope="module")
def circuit():
    ansatz = Ansatz(num_qubits=3, num_layers=1)
    rng = np.random.default_rng(0)
    phi, cotangent = rng.uniform(-np.pi, np.pi, ansatz.num_angles), rng.normal(size=6)
    return StatevectorQPU(ansatz), phi, cotangent, AdjointGradient(StatevectorQPU(ansatz))(phi, cotangent)


def draws(qpu, phi, cotangent, number, directions, c=1e-3):
    rng = np.random.default_rng(1)
    gradient = SpsaGradient(qpu, directions=directions, draw=lambda: (c, rng))
    return np.array([gradient(phi, cotangent) for _ in range(number)])


def test_mean_over_many_draws_is_the_adjoint_within_its_own_error(circuit):
    """Σ_j z_j² of the 18 means in units of their errors is χ² with 18 degrees: mean 18, standard deviation 6."""
    qpu, phi, cotangent, expected = circuit
    found = draws(qpu, phi, cotangent, 4000, 1)
    z = (found.mean(axis=0) - expected) / (found.std(axis=0, ddof=1) / np.sqrt(len(found)))
    assert 4 < z @ z < 48
    assert abs(z).max() < 4.5


def test_variance_is_that_of_the_other_components_and_falls_with_the_directions(circuit):
    """Var ĝ_j = (|g|² − g_j²)/r for c → 0."""
    qpu, phi, cotangent, g = circuit
    for directions in (1, 4):
        variance = draws(qpu, phi, cotangent, 2000, directions).var(axis=0)
        np.testing.assert_allclose(variance, (g @ g - g * g) / directions, rtol=0.25)


def test_two_circuits_a_direction_in_one_go_and_half_their_difference(circuit):
    qpu, phi, cotangent, _ = circuit
    seen = []

    class Watching:
        def jobs(self, phis):
            seen.append(phis.copy())
            return qpu.jobs(phis)

    gradient = SpsaGradient(Watching(), directions=3, draw=lambda: (0.25, np.random.default_rng(5)))
    found = gradient(phi, cotangent)
    [pairs] = seen
    assert pairs.shape == (6, len(phi))
    signs = (pairs[:3] - phi) / 0.25
    np.testing.assert_allclose(abs(signs), 1.0)
    np.testing.assert_allclose(pairs[3:], phi - 0.25 * signs)
    f = [cotangent @ qpu.probabilities(row)[:6] for row in pairs]
    by_hand = sum((f[d] - f[d + 3]) / 0.5 * signs[d] for d in range(3)) / 3
    np.testing.assert_allclose(found, by_hand, atol=1e-12)
