"""A QPU behind Qiskit's V2 sampler: transpiled once, angles bound at each run, counts matched to what was submitted."""

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.quantum.ansatz import Ansatz
from qtrl_hpc.quantum.backends import Backend
from qtrl_hpc.quantum.device_circuit import gates_of, measured_circuit
from qtrl_hpc.quantum.noise_model import TRANSPILER_SEED

# Shots of one job, where the back end says nothing: what a sampler holds in memory of them.
SHOTS_PER_JOB = 1 << 21


class SamplerDevice:
    """Measure the circuit on a Qiskit back end.

    Args:
        ansatz: the circuit.
        backend: where.
        shots: of each circuit.
    """

    def __init__(self, ansatz: Ansatz, backend: Backend, *, shots: int) -> None:
        from qiskit import transpile

        self.ansatz, self._backend, self._shots = ansatz, backend, shots
        circuit, angles = measured_circuit(ansatz, gates_of(backend.target))
        # To its gates, qubits and coupling map, once. Bit q remains qubit q of the ansatz, wherever that has gone.
        self._circuit = transpile(circuit, backend.target, optimization_level=1, seed_transpiler=TRANSPILER_SEED)
        column = {angle: index for index, angle in enumerate(angles)}
        self._parameters = tuple(self._circuit.parameters)
        self._columns = [column[angle] for angle in self._parameters]
        most = getattr(backend.target, "max_circuits", None) or SHOTS_PER_JOB
        self.circuits_per_job: int | None = max(1, min(most, SHOTS_PER_JOB // shots))

    def probabilities_many(self, phis: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
        """Measure the circuit with each row of angles, in one job (see ``Device.probabilities_many``)."""
        bindings = {self._parameters: phis[:, self._columns]}
        [result] = self._backend.sampler(seed).run([(self._circuit, bindings)], shots=self._shots).result()
        bits = result.data.meas
        n = self.ansatz.num_qubits
        got = (tuple(bits.shape), bits.num_bits, bits.num_shots)
        if got != ((len(phis),), n, self._shots):
            raise ValueError(
                f"the result has shape {got[0]}, {got[1]} bits and {got[2]} shots, expected "
                f"{(len(phis),)}, {n} bits and {self._shots} shots"
            )
        indices = np.zeros(bits.array.shape[:-1], np.int64)
        for byte in range(bits.array.shape[-1]):  # the first is the most significant
            indices = indices << 8 | bits.array[..., byte]
        counts = [np.bincount(row, minlength=1 << n) for row in indices]
        return np.array(counts, np.float64) / self._shots

    def exact(self, phi: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Return None: a back end gives counts alone (see ``Device.exact``)."""
        return None
