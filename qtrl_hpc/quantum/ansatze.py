"""The ansätze that have names."""

from collections.abc import Callable
from itertools import count

from qtrl_hpc.quantum.ansatz import Ansatz, u3_gates
from qtrl_hpc.quantum.gates import Gate, cx, ry, rz


def ring(num_qubits: int, num_layers: int) -> Ansatz:
    """Return the paper's: U3 on every qubit, then controlled-U3 from each to the next, the last to the first."""
    return Ansatz(num_qubits=num_qubits, num_layers=num_layers)


def linear(num_qubits: int, num_layers: int) -> Ansatz:
    """Return the paper's without the gate that closes the ring: for devices whose qubits are in a row."""
    pairs = [(q, q + 1) for q in range(num_qubits - 1)]
    return Ansatz(num_qubits=num_qubits, num_layers=num_layers, gates=u3_gates(num_qubits, num_layers, pairs))


def brick(num_qubits: int, num_layers: int) -> Ansatz:
    """Return U3 on every qubit, then controlled-U3 on the pairs (0, 1), (2, 3), …, then on (1, 2), (3, 4), …."""
    pairs = [(q, q + 1) for start in (0, 1) for q in range(start, num_qubits - 1, 2)]
    return Ansatz(num_qubits=num_qubits, num_layers=num_layers, gates=u3_gates(num_qubits, num_layers, pairs))


def real_amplitudes(num_qubits: int, num_layers: int) -> Ansatz:
    """Return Qiskit's ``RealAmplitudes`` with L repetitions: RY, then CX from each qubit to the next; RY at the end."""
    return _rotations_and_cx(num_qubits, num_layers, [ry])


def efficient_su2(num_qubits: int, num_layers: int) -> Ansatz:
    """Return Qiskit's ``EfficientSU2`` with L repetitions: RY and RZ, then CX as in ``real_amplitudes``."""
    return _rotations_and_cx(num_qubits, num_layers, [ry, rz])


def _rotations_and_cx(num_qubits: int, num_layers: int, rotations: list[Callable[[int, int], Gate]]) -> Ansatz:
    angle = count()
    gates: list[Gate] = []
    for layer in range(num_layers + 1):
        gates += [rotation(q, next(angle)) for rotation in rotations for q in range(num_qubits)]
        if layer < num_layers:  # Qiskit's reverse_linear
            gates += [cx(q, q + 1) for q in reversed(range(num_qubits - 1))]
    return Ansatz(num_qubits=num_qubits, num_layers=num_layers, gates=tuple(gates))


ANSATZE: dict[str, Callable[[int, int], Ansatz]] = {
    "ring": ring,
    "linear": linear,
    "brick": brick,
    "real-amplitudes": real_amplitudes,
    "efficient-su2": efficient_su2,
}
