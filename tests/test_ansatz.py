"""The circuit's description: which gate acts where."""

import warnings

import numpy as np
import pytest
from qiskit.circuit import library
from qiskit.quantum_info import Statevector

from qtrl_hpc.config import ANSATZ_NAMES
from qtrl_hpc.quantum.ansatz import UNCONTROLLED, Ansatz, check_runs
from qtrl_hpc.quantum.ansatze import ANSATZE, brick, efficient_su2, linear, real_amplitudes, ring
from qtrl_hpc.quantum.gates import Fixed, Gate, cz, ry, u3
from qtrl_hpc.quantum.qpu import StatevectorQPU


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


# --- gates of one's own ---


def of(*gates, n=3):
    return Ansatz(num_qubits=n, num_layers=1, gates=gates)


def test_without_gates_it_is_the_ring():
    assert Ansatz(num_qubits=4, num_layers=2) == ring(4, 2)
    assert ring(4, 2).is_ring
    assert ring(4, 2).is_direct
    assert not linear(4, 2).is_ring
    assert linear(4, 2).is_direct
    assert ring(1, 2) == linear(1, 2) == brick(1, 2), "no pairs on one qubit"


def test_linear_and_brick_by_hand():
    assert pairs(linear(4, 1)) == [(0, 1), (1, 2), (2, 3)]
    assert pairs(brick(5, 1)) == [(0, 1), (2, 3), (1, 2), (3, 4)]
    assert (linear(4, 2).num_angles, brick(5, 2).num_angles) == (2 * 3 * 7, 2 * 3 * 9)


def pairs(ansatz):
    return [(gate.control, gate.target) for gate in ansatz.gates if gate.control != UNCONTROLLED]


@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize(
    ("ours", "theirs"), [(real_amplitudes, "RealAmplitudes"), (efficient_su2, "EfficientSU2")], ids=str
)
def test_qiskits_ansatze(ours, theirs, n):
    """The same circuit with the same angles in the same order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        circuit = getattr(library, theirs)(n, reps=2, entanglement="reverse_linear")
    ansatz = ours(n, 2)
    phi = np.random.default_rng(n).uniform(-3, 3, ansatz.num_angles)
    expected = Statevector(circuit.assign_parameters(phi)).probabilities()
    np.testing.assert_allclose(StatevectorQPU(ansatz).probabilities(phi), expected, atol=1e-14)


@pytest.mark.parametrize("name", ANSATZE)
def test_names_are_those_that_can_be_given(name):
    assert list(ANSATZE) == list(ANSATZ_NAMES)
    assert ANSATZE[name](5, 2).num_qubits == 5


def test_angles_of_gates_and_back_by_hand():
    """Angle 1 twice, a fixed one, and the zeros of RY; the gradient of a shared angle is the sum."""
    ansatz = of(ry(0, 1), u3(1, 0, Fixed(0.5), 1))
    assert ansatz.num_angles == 2
    assert ansatz.gate_angles(np.array([7.0, 8.0])).tolist() == [8.0, 0.0, 0.0, 7.0, 0.5, 8.0]
    assert ansatz.pull_back(np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])).tolist() == [8.0, 33.0]


def test_what_is_direct_is_handed_on_as_it_is():
    phi = np.zeros(18)
    assert ring(3, 1).gate_angles(phi) is ring(3, 1).pull_back(phi) is phi


def test_numpys_integers_are_numbers():
    assert of(ry(np.int64(0), np.int64(0))) == of(ry(0, 0))


BAD_GATES = {
    "a qubit too far": (ry(3, 0), "gate 0: got the qubit 3, expected one of 0 to 2"),
    "no qubit": (ry(-1, 0), "gate 0: got the qubit -1, expected one of 0 to 2"),
    "a control too far": (cz(5, 0), "gate 0: got the qubit 5, expected one of 0 to 2"),
    "a control that is none": (cz(-2, 0), "gate 0: got the qubit -2, expected"),
    "its own control": (cz(1, 1), "gate 0: got the control 1, which is its target"),
    "half a qubit": (ry(0.5, 0), "gate 0: got 0.5, expected a qubit"),
    "a number for an angle": (ry(0, 0.5), r"gate 0: got 0.5, expected an angle, by its number or Fixed\(radians\)"),
    "an angle below 0": (ry(0, -1), "gate 0: got the angle -1, expected a number from 0 on"),
    "a fixed angle that is none": (ry(0, Fixed(float("nan"))), "gate 0: got the angle .*nan.*, expected a finite"),
    "no gate": ("ry", "gate 0: got 'ry', expected one of qtrl_hpc.quantum.gates"),
    "two angles": (Gate(0, (0, 1)), "gate 0: got 2 angles, expected 3"),
    "nothing trained": (cz(0, 1), "no gate has an angle that is trained"),
    "an angle left out": (ry(0, 2), "angle 0 is no gate's, expected each of 0 to 2 to be some gate's"),
}


@pytest.mark.parametrize(("gate", "words"), BAD_GATES.values(), ids=BAD_GATES)
def test_description_that_makes_no_sense_is_refused(gate, words):
    with pytest.raises(ValueError, match=f"^{words}") as caught:
        of(gate)
    assert "\n" not in str(caught.value)


def test_no_gates_at_all_are_not_taken_for_the_ring():
    with pytest.raises(ValueError, match="no gate has an angle"):
        of()


def test_another_circuit_is_told_apart():
    check_runs("a QPU", ring(3, 1), ring(3, 1))
    with pytest.raises(ValueError, match=r"^expected a QPU that runs Ansatz\(.*\), got one that runs other gates$"):
        check_runs("a QPU", linear(3, 1), ring(3, 1))
    with pytest.raises(ValueError, match=r"got one that runs Ansatz\(num_qubits=3, num_layers=2\)$"):
        check_runs("a QPU", ring(3, 2), ring(3, 1))
