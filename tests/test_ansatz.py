"""The circuit's description: which gate acts where, and the matrices of the gates."""

import numpy as np
import pytest
from qiskit.circuit.library import UGate

from qtrl_hpc.quantum.ansatz import Ansatz, u3_derivatives, u3_matrices
from qtrl_hpc.quantum.kernels import UNCONTROLLED


def gates(n, layers):
    ansatz = Ansatz(num_qubits=n, num_layers=layers)
    return list(zip(ansatz.controls.tolist(), ansatz.targets.tolist(), strict=True))


def test_a_block_is_u3_on_every_qubit_then_the_closed_ring():
    u = UNCONTROLLED
    block = [(u, 0), (u, 1), (u, 2), (0, 1), (1, 2), (2, 0)]
    assert gates(3, 2) == block + block


def test_two_qubits_control_each_other_and_one_has_no_ring():
    u = UNCONTROLLED
    assert gates(2, 1) == [(u, 0), (u, 1), (0, 1), (1, 0)]
    assert gates(1, 2) == [(u, 0), (u, 0)]


@pytest.mark.parametrize(
    ("n", "layers", "angles"), [(1, 3, 9), (2, 1, 12), (10, 3, 180), (13, 3, 234), (13, 7, 546), (13, 13, 1014)]
)
def test_number_of_angles(n, layers, angles):
    ansatz = Ansatz(num_qubits=n, num_layers=layers)
    assert ansatz.num_angles == angles
    assert ansatz.num_amplitudes == 2**n


@pytest.mark.parametrize(("n", "layers"), [(0, 1), (1, 0), (-1, 3)])
def test_no_qubit_or_no_layer_is_refused(n, layers):
    with pytest.raises(ValueError, match=f"got {n} and {layers}"):
        Ansatz(num_qubits=n, num_layers=layers)


def test_u3_by_hand():
    """cos(π/6) = √3/2, sin(π/6) = 1/2, e^{iπ/2} = i, e^{iπ} = −1, e^{i3π/2} = −i."""
    [matrix] = u3_matrices(np.array([np.pi / 3, np.pi / 2, np.pi]))
    np.testing.assert_allclose(matrix, [[np.sqrt(3) / 2, 1 / 2], [1j / 2, -1j * np.sqrt(3) / 2]], atol=1e-15)


def test_u3_is_qiskits():
    phi = np.random.default_rng(0).uniform(-np.pi, np.pi, 30)
    expected = [UGate(*angles).to_matrix() for angles in phi.reshape(-1, 3)]
    np.testing.assert_allclose(u3_matrices(phi), expected, atol=1e-15)


@pytest.mark.parametrize("angle", range(3))
def test_u3_derivatives_against_differences(angle, slope):
    phi = np.random.default_rng(1).uniform(-np.pi, np.pi, 12)
    direction = np.zeros(12)
    direction[angle::3] = 1.0  # a gate's matrix depends on its own angles alone
    np.testing.assert_allclose(u3_derivatives(phi)[:, angle], slope(u3_matrices, phi, direction), atol=1e-11)
