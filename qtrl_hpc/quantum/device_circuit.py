"""The ansatz as a device runs it: in gates that devices have, and measured."""

import math
from typing import Any, Literal

from qtrl_hpc.quantum.ansatz import Ansatz
from qtrl_hpc.quantum.gates import UNCONTROLLED, X, Z
from qtrl_hpc.quantum.qpu import gates_with, qiskit_circuit

Gates = Literal["ansatz", "u", "rz"]


def measured_circuit(ansatz: Ansatz, gates: Gates) -> tuple[Any, list[Any]]:
    """Return the ansatz with all qubits measured, qubit q into bit q, and its parameters phi in circuit order.

    Controlled-U3, which no device has, becomes two CX, two U3 and two frame changes (Qiskit's own way; written here as
    its transpiler takes half a minute to translate gates whose angles are symbols). Where it is CX or CZ, one CX does.

    Args:
        ansatz: the circuit.
        gates: "ansatz" for U3 and controlled-U3; "u" for U3, CX and PhaseGate; "rz" for RZ, SX and CX.
    """
    from qiskit.circuit import ParameterVector

    angles = list(ParameterVector("phi", ansatz.num_angles))
    circuit = qiskit_circuit(ansatz, angles) if gates == "ansatz" else _decomposed(ansatz, angles, by_rz=gates == "rz")
    circuit.measure_all()
    return circuit, angles


def gates_of(target: Any) -> Gates:
    """Return in which gates a circuit for a back end is best written before it is transpiled."""
    return "rz" if {"rz", "sx"} <= set(target.operation_names) else "u"


def measured_qubits(circuit: Any) -> list[int]:
    """Return for each bit, in order, the qubit that is measured into it."""
    found = {
        circuit.find_bit(each.clbits[0]).index: circuit.find_bit(each.qubits[0]).index
        for each in circuit.data
        if each.operation.name == "measure"
    }
    return [found[bit] for bit in sorted(found)]


def _decomposed(ansatz: Ansatz, angles: list[Any], *, by_rz: bool) -> Any:
    from qiskit import QuantumCircuit

    circuit = QuantumCircuit(ansatz.num_qubits)
    turn = circuit.rz if by_rz else circuit.p

    def u3(theta: Any, phase: Any, lam: Any, qubit: int) -> None:
        if not by_rz:
            circuit.u(theta, phase, lam, qubit)
            return
        for angle in (lam, theta + math.pi):
            circuit.rz(angle, qubit)
            circuit.sx(qubit)
        circuit.rz(phase + math.pi, qubit)

    for (target, (theta, phase, lam), control), gate in zip(gates_with(ansatz, angles), ansatz.gates, strict=True):
        if control == UNCONTROLLED:
            u3(theta, phase, lam, target)
            continue
        if gate.angles in (X, Z):  # one CX, where the general way takes two
            turned = gate.angles == Z
            if turned:
                u3(math.pi / 2, 0.0, math.pi, target)
            circuit.cx(control, target)
            if turned:
                u3(math.pi / 2, 0.0, math.pi, target)
            continue
        turn((lam + phase) / 2, control)
        turn((lam - phase) / 2, target)
        circuit.cx(control, target)
        u3(-theta / 2, 0.0, -(phase + lam) / 2, target)
        circuit.cx(control, target)
        u3(theta / 2, phase, 0.0, target)
    return circuit
