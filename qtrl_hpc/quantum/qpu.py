"""What a QPU is: angles in, probabilities out. Two exact ones: Qiskit Aer, and our own kernels."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.quantum import kernels
from qtrl_hpc.quantum.ansatz import Ansatz, u3_matrices


class QPU(Protocol):
    """A device that runs one ansatz."""

    ansatz: Ansatz

    def probabilities(self, phi: NDArray[np.float64]) -> NDArray[np.float64]:
        """Run the circuit once.

        Args:
            phi: angles in circuit order, radians, shape (P,), float64.

        Returns:
            p_i = |⟨i|ψ(phi)⟩|², shape (2^n,), float64, summing to 1; index = Qiskit's, qubit 0 least significant.
        """
        ...


class ExactQPU(QPU, Protocol):
    """A simulator that also knows its amplitudes, which the adjoint gradient needs."""

    state: NDArray[np.float64]
    """Amplitudes of the last run: (2, 2^n), float64, real parts then imaginary parts; up to a global phase."""


class StatevectorQPU:
    """Simulate the circuit with our own kernels (qtrl_hpc.quantum.kernels) on one thread."""

    def __init__(self, ansatz: Ansatz) -> None:
        self.ansatz = ansatz
        self.state = np.empty((2, ansatz.num_amplitudes))
        self._targets, self._controls = ansatz.targets, ansatz.controls

    def probabilities(self, phi: NDArray[np.float64]) -> NDArray[np.float64]:
        """Run the circuit once (see ``QPU.probabilities``)."""
        kernels.run(self.state, u3_matrices(phi), self._targets, self._controls)
        return _squared(self.state)


class AerQPU:
    """Simulate the circuit with Qiskit Aer's exact statevector method, in double precision.

    The circuit is built and assembled once; a run binds its angles by Aer's own parameter table. ``AerSimulator.run``
    would assemble the circuit again at each call, which costs more than the simulation itself (docs/architecture.md).
    """

    def __init__(self, ansatz: Ansatz, *, threads: int = 1) -> None:
        from qiskit.circuit import ParameterVector
        from qiskit_aer import AerSimulator
        from qiskit_aer.backends.aer_compiler import assemble_circuits

        self.ansatz = ansatz
        self.state = np.empty((2, ansatz.num_amplitudes))
        # Fusion merges gates into larger matrices first: for gates of one and two qubits it only costs time.
        self._simulator = AerSimulator(
            method="statevector", precision="double", max_parallel_threads=threads, fusion_enable=False
        )
        self._circuit = qiskit_circuit(ansatz, list(ParameterVector("phi", ansatz.num_angles)))
        self._circuit.save_statevector()
        self._assembled, _ = assemble_circuits([self._circuit])
        # (instruction, which of its parameters) in circuit order. CUGate's fourth, gamma, stays 0.
        self._slots = [(gate, angle) for gate in range(len(ansatz.targets)) for angle in range(3)]

    def probabilities(self, phi: NDArray[np.float64]) -> NDArray[np.float64]:
        """Run the circuit once (see ``QPU.probabilities``)."""
        from qiskit_aer.backends.aer_compiler import generate_aer_config

        bindings = [[slot, [angle]] for slot, angle in zip(self._slots, phi.tolist(), strict=True)]
        config = generate_aer_config([self._circuit], self._simulator.options, shots=1, parameterizations=[bindings])
        output = self._simulator._execute_circuits(self._assembled, None, config)
        if not output["success"]:
            raise RuntimeError(f"Qiskit Aer failed: {output['results'][0].get('status', output.get('status'))}")
        amplitudes = np.asarray(output["results"][0]["data"]["statevector"]).reshape(-1)
        self.state[0], self.state[1] = amplitudes.real, amplitudes.imag
        return _squared(self.state)


def qiskit_circuit(ansatz: Ansatz, angles: list) -> "QuantumCircuit":  # type: ignore[name-defined]  # noqa: F821
    """Build the ansatz as a Qiskit circuit.

    Args:
        ansatz: which gates act where.
        angles: P numbers or Qiskit parameters, in circuit order.

    Returns:
        A ``qiskit.QuantumCircuit`` of ``UGate`` and ``CUGate`` (gamma = 0), without measurement.
    """
    from qiskit import QuantumCircuit

    circuit = QuantumCircuit(ansatz.num_qubits)
    for gate, (target, control) in enumerate(zip(ansatz.targets.tolist(), ansatz.controls.tolist(), strict=True)):
        theta, phase, lam = angles[3 * gate : 3 * gate + 3]
        if control == kernels.UNCONTROLLED:
            circuit.u(theta, phase, lam, target)
        else:
            circuit.cu(theta, phase, lam, 0, control, target)
    return circuit


QPUS: dict[str, Callable[..., ExactQPU]] = {
    "aer": lambda ansatz, threads: AerQPU(ansatz, threads=threads),
    "statevector": lambda ansatz, threads: StatevectorQPU(ansatz),
}


def _squared(state: NDArray[np.float64]) -> NDArray[np.float64]:
    return state[0] * state[0] + state[1] * state[1]
