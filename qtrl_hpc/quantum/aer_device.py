"""A QPU that Qiskit Aer stands in for: finite shots, noise, or both."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.noise import NoiseSettings
from qtrl_hpc.quantum.aer import (
    KEPT_NUMBERS,
    PROBABILITIES,
    AerProgram,
    Method,
    counts_to_probabilities,
    make_simulator,
)
from qtrl_hpc.quantum.ansatz import Ansatz
from qtrl_hpc.quantum.device_circuit import measured_qubits
from qtrl_hpc.quantum.noise_model import noisy_circuit, read_out

FUSED_FROM = 6
# A density matrix of so many qubits takes less than a second (docs/noise.md).
QUICK_UP_TO = 10
BYTES_PER_ENTRY = {"double": 16, "single": 8}


class AerDevice:
    """Measure the circuit by Qiskit Aer.

    Noise is simulated by the density matrix where that is possible and the cheaper way: without shots always, and with
    S shots where 2^n ≤ S; else shot by shot, each with gate errors of its own. What infinitely many shots would give
    is told where there is no noise, the density matrix is in use anyway, or it takes less than a second.

    Args:
        ansatz: the circuit.
        shots: S; None for the exact probabilities of the noisy circuit.
        noise: of this QPU; None for none.
        fake: the back end that ``noise.fake`` names.
        precision: double or single.
        threads: of Aer.
        gpu: number of the GPU; None for the CPU.
        memory: bytes that a density matrix may take.
    """

    def __init__(
        self,
        ansatz: Ansatz,
        *,
        shots: int | None,
        noise: NoiseSettings | None = None,
        fake: Any = None,
        precision: str = "double",
        threads: int = 1,
        gpu: int | None = None,
        memory: int = 1 << 30,
    ) -> None:
        self.ansatz, self._shots = ansatz, shots
        self._options: dict[str, Any] = {"precision": precision, "threads": threads, "gpu": gpu}
        self._noisy = noisy_circuit(ansatz, noise, fake)
        qubits = self._noisy.active_qubits
        fits = noise is not None and BYTES_PER_ENTRY[precision] << 2 * qubits <= memory
        by_matrix = fits and (shots is None or ansatz.num_amplitudes <= shots)
        self.method: Method = "density_matrix" if by_matrix else "statevector"
        if noise is None:
            self._exact_method: Method | None = "statevector"
        else:
            self._exact_method = "density_matrix" if by_matrix or (fits and qubits <= QUICK_UP_TO) else None
        if shots is None and self._exact_method is None:
            raise ValueError(
                f"expected --shots: the density matrix of {qubits} noisy qubits, which exact "
                f"probabilities need, does not fit into {memory / 2**30:.3g} GiB (a quarter of the machine's memory, "
                "shared out over its ranks)"
            )
        self._exact: AerProgram | None = None
        self._last: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
        if shots is None:
            self._exact = self._exact_program()
        else:
            self._sampling = self._program(self._noisy.circuit, self.method)
        # As many as memory should hold the counts of.
        self.circuits_per_job: int | None = max(1, KEPT_NUMBERS >> ansatz.num_qubits)

    def probabilities_many(self, phis: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
        """Measure the circuit with each row of angles (see ``Device.probabilities_many``)."""
        if self._shots is None:
            return self._exact_probabilities(phis)
        results = self._sampling.run(phis, shots=self._shots, seed=seed)
        counts = [result["data"]["counts"] for result in results]
        return np.array([counts_to_probabilities(each, self.ansatz.num_qubits) for each in counts])

    def exact(self, phi: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Return what infinitely many shots would give (see ``Device.exact``)."""
        return None if self._exact_method is None else self._exact_probabilities(phi[None])[0]

    def _exact_probabilities(self, phis: NDArray[np.float64]) -> NDArray[np.float64]:
        # Agents whose QPUs are alike share this device, and ask for the same angles one after the other.
        if self._last is None or not np.array_equal(self._last[0], phis):
            if self._exact is None:
                self._exact = self._exact_program()
            found = np.concatenate(list(self._exact.probabilities(phis)))
            self._last = phis.copy(), read_out(np.maximum(found, 0.0), self._noisy.readout)
        probabilities: NDArray[np.float64] = self._last[1].copy()
        return probabilities

    def _exact_program(self) -> AerProgram:
        assert self._exact_method is not None
        qubits = measured_qubits(self._noisy.circuit)
        circuit = self._noisy.circuit.remove_final_measurements(inplace=False)
        simulator = self._simulator(self._exact_method)  # before the next line: its import brings save_probabilities
        circuit.save_probabilities(qubits=qubits, label=PROBABILITIES)
        return AerProgram(circuit, self._noisy.angles, simulator, self._noisy.noise_model)

    def _program(self, circuit: Any, method: Method) -> AerProgram:
        return AerProgram(circuit.copy(), self._noisy.angles, self._simulator(method), self._noisy.noise_model)

    def _simulator(self, method: Method) -> Any:
        # From 6 qubits on, fusion makes a density matrix 1.3 to 4 times as quick; on a statevector it only costs time.
        fusion = method == "density_matrix" and self._noisy.active_qubits >= FUSED_FROM
        return make_simulator(method=method, fusion_enable=fusion, fusion_threshold=1, **self._options)
