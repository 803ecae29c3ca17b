"""What a QPU is: angles in, probabilities out. Two exact simulators: Qiskit Aer, and our own kernels."""

from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.quantum import kernels
from qtrl_hpc.quantum.aer import AerProgram, make_simulator
from qtrl_hpc.quantum.ansatz import Ansatz
from qtrl_hpc.quantum.gates import UNCONTROLLED, Fixed
from qtrl_hpc.quantum.program import compile_ansatz

Precision = Literal["double", "single"]
DTYPES: dict[str, type[np.floating]] = {"double": np.float64, "single": np.float32}


class QPU(Protocol):
    """A device that runs one ansatz."""

    ansatz: Ansatz

    def probabilities(self, phi: NDArray[np.float64]) -> NDArray[np.float64]:
        """Run the circuit once.

        Args:
            phi: angles in circuit order, radians, shape (P,), float64.

        Returns:
            ``p_i = |⟨i|ψ(phi)⟩|²``, shape (2^n,), float64, summing to 1; index = Qiskit's, qubit 0 least significant.
        """
        ...

    def jobs(self, phis: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
        """Run the circuit with each row of angles, in as few jobs as the QPU takes.

        Args:
            phis: radians, shape (m, P), float64.

        Yields:
            The probabilities of the rows of one job after another, shape (rows, 2^n), float64.
        """
        ...


class StatevectorQPU:
    """Simulate the circuit with our own kernels (qtrl_hpc.quantum.kernels).

    Args:
        ansatz: the circuit.
        precision: of the amplitudes; angles and gradients are float64 either way.
        threads: share out the work on large states (``kernels.CHUNKED_SIZE``).
    """

    def __init__(self, ansatz: Ansatz, *, precision: Precision = "double", threads: int = 1) -> None:
        self.ansatz = ansatz
        self._program = compile_ansatz(ansatz)
        self._num_angles, self._num_amplitudes = ansatz.num_angles, ansatz.num_amplitudes
        self._state = np.empty((2, max(self._num_amplitudes, kernels.MIN_SIZE)), DTYPES[precision])
        self._cotangent: NDArray[np.floating] | None = None
        self._phi: NDArray[np.float64] | None = None
        self._threads = threads if self._state.shape[1] >= kernels.CHUNKED_SIZE else 1

    def probabilities(self, phi: NDArray[np.float64]) -> NDArray[np.float64]:
        """Run the circuit once (see ``QPU.probabilities``)."""
        self._phi = None
        state = self.state(phi)[:, : self._num_amplitudes]
        probabilities: NDArray[np.float64] = np.einsum("ci,ci->i", state, state, dtype=np.float64)
        return probabilities

    def jobs(self, phis: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
        """Run many circuits, one after another (see ``QPU.jobs``)."""
        for phi in phis:
            yield self.probabilities(phi)[None]

    def state(self, phi: NDArray[np.float64]) -> NDArray[np.floating]:
        """Return the amplitudes, running the circuit unless the last run was of the same angles.

        Returns:
            Shape (2, max(2^n, ``kernels.MIN_SIZE``)), float64 or float32, real parts, then imaginary parts. The next
            call overwrites it.

        Raises:
            ValueError: there are not as many angles as the ansatz has.
        """
        phi = np.ascontiguousarray(phi, np.float64)
        if phi.shape != (self._num_angles,):
            raise ValueError(f"phi: got shape {phi.shape}, expected ({self._num_angles},)")
        if self._phi is None or not np.array_equal(phi, self._phi):
            kernels.run(self._state, self.ansatz.gate_angles(phi), self._program, threads=self._threads)
            self._phi = phi.copy()
        return self._state

    def pullback(self, phi: NDArray[np.float64], cotangent: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sweep the circuit backwards, in place: the state is gone then, and is run again when asked for.

        Args:
            phi: radians, shape (P,), float64.
            cotangent: g = ∂J/∂p of the first basis states, 0 for the rest, shape (at most 2^n,), float64.

        Returns:
            Σ_i g_i ∂p_i/∂φ, shape (P,), float64.
        """
        phi = np.ascontiguousarray(phi, np.float64)
        state, count = self.state(phi), len(cotangent)
        if self._cotangent is None:
            self._cotangent = np.zeros_like(state)
        np.multiply(state[:, :count], cotangent, out=self._cotangent[:, :count])
        self._cotangent[:, count:] = 0.0
        self._phi = None
        angles = self.ansatz.gate_angles(phi)
        return self.ansatz.pull_back(
            kernels.sweep(state, self._cotangent, angles, self._program, threads=self._threads)
        )


class AerQPU:
    """Simulate the circuit with Qiskit Aer's exact statevector method.

    Args:
        ansatz: the circuit.
        precision: of the amplitudes.
        threads: of Aer.
        gpu: number of the GPU to compute on; None for the CPU.
    """

    def __init__(
        self, ansatz: Ansatz, *, precision: Precision = "double", threads: int = 1, gpu: int | None = None
    ) -> None:
        from qiskit.circuit import ParameterVector

        self.ansatz = ansatz
        # Fusion merges gates into larger matrices first: for gates of one and two qubits it only costs time.
        simulator = make_simulator(
            method="statevector", precision=precision, threads=threads, gpu=gpu, fusion_enable=False
        )
        angles = list(ParameterVector("phi", ansatz.num_angles))
        circuit = qiskit_circuit(ansatz, angles)
        circuit.save_probabilities()  # Aer's, known to circuits since make_simulator has imported it
        self._program = AerProgram(circuit, angles, simulator)

    def probabilities(self, phi: NDArray[np.float64]) -> NDArray[np.float64]:
        """Run the circuit once (see ``QPU.probabilities``)."""
        [found] = self._program.probabilities(phi[None])
        probabilities: NDArray[np.float64] = found[0]
        return probabilities

    def jobs(self, phis: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
        """Run many circuits (see ``QPU.jobs``)."""
        return self._program.probabilities(phis)


def qiskit_circuit(ansatz: Ansatz, angles: list[Any]) -> "QuantumCircuit":  # type: ignore[name-defined]  # noqa: F821
    """Build the ansatz as a Qiskit circuit.

    Args:
        ansatz: which gates act where.
        angles: P numbers or Qiskit parameters, phi.

    Returns:
        A ``qiskit.QuantumCircuit`` of ``UGate`` and ``CUGate`` (gamma = 0), without measurement.
    """
    from qiskit import QuantumCircuit

    circuit = QuantumCircuit(ansatz.num_qubits)
    for target, (theta, phase, lam), control in gates_with(ansatz, angles):
        if control == UNCONTROLLED:
            circuit.u(theta, phase, lam, target)
        else:
            circuit.cu(theta, phase, lam, 0, control, target)
    return circuit


def gates_with(ansatz: Ansatz, angles: list[Any]) -> Iterator[tuple[int, tuple[Any, Any, Any], int]]:
    """Yield target, (theta, phi, lambda) and control of each gate.

    Args:
        ansatz: which gates act where.
        angles: P numbers or Qiskit parameters, phi.
    """
    for target, own, control in ansatz.gates:
        theta, phase, lam = (angle.radians if isinstance(angle, Fixed) else angles[angle] for angle in own)
        yield target, (theta, phase, lam), control


QPUS: dict[str, Callable[..., QPU]] = {"aer": AerQPU, "statevector": StatevectorQPU}
