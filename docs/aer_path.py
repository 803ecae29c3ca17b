"""Time one run of the paper's circuit by Aer's public path and by ours: ``python docs/aer_path.py``."""

import statistics
import time
from collections.abc import Callable

import numpy as np
from qiskit.circuit import ParameterVector
from qiskit_aer import AerSimulator

from qtrl_hpc.quantum.ansatz import Ansatz
from qtrl_hpc.quantum.qpu import AerQPU, qiskit_circuit

RUNS = 51


def main() -> None:
    """Print medians in milliseconds, the two taken in turn."""
    ansatz = Ansatz(num_qubits=13, num_layers=3)
    phi = np.random.default_rng(0).uniform(-np.pi, np.pi, ansatz.num_angles)
    circuit = qiskit_circuit(ansatz, list(ParameterVector("phi", ansatz.num_angles)))
    circuit.save_statevector()
    simulator, qpu = AerSimulator(method="statevector", max_parallel_threads=1), AerQPU(ansatz)
    inside: list[float] = []

    def public() -> None:
        result = simulator.run(circuit.assign_parameters(phi), shots=1).result()
        inside.append(result.results[0].time_taken)

    pairs = [(_seconds(public), _seconds(lambda: qpu.probabilities(phi))) for _ in range(RUNS)]
    print(f"assign_parameters and AerSimulator.run  {1e3 * statistics.median(a for a, _ in pairs):.1f} ms")
    print(f"  of which Aer's own time_taken         {1e3 * statistics.median(inside):.1f} ms")
    print(f"AerQPU.probabilities                    {1e3 * statistics.median(b for _, b in pairs):.1f} ms")


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
