"""The circuit's description: which gate acts where."""

import pytest

from qtrl_hpc.quantum.ansatz import UNCONTROLLED, Ansatz


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
