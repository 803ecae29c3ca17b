# my_ansatz.py
"""An ansatz of your own: in each layer RY on every qubit, then CZ between neighbours."""

from itertools import count

from qtrl_hpc.quantum.ansatz import Ansatz
from qtrl_hpc.quantum.gates import Gate, cz, ry


def ry_cz(num_qubits: int, num_layers: int) -> Ansatz:
    """Return the circuit on n qubits with L layers: n·(L + 1) trained angles."""
    angle = count()  # numbers the trained angles: 0, 1, 2, …
    gates: list[Gate] = []
    for _ in range(num_layers):
        gates += [ry(qubit, next(angle)) for qubit in range(num_qubits)]
        gates += [cz(qubit, qubit + 1) for qubit in range(num_qubits - 1)]
    gates += [ry(qubit, next(angle)) for qubit in range(num_qubits)]
    return Ansatz(num_qubits=num_qubits, num_layers=num_layers, gates=tuple(gates))
