"""Time a noisy circuit by its size and by either way of Aer's: ``python docs/noise_cost.py``; prints a table."""

import time

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.noise import NoiseSettings
from qtrl_hpc.quantum.aer_device import AerDevice
from qtrl_hpc.quantum.ansatz import Ansatz

NOISE = NoiseSettings(
    one_qubit_rate=3e-4, two_qubit_rate=3e-3, t1=1e-4, t2=8e-5, one_qubit_time=35e-9, two_qubit_time=3e-7,
    readout_error=(0.01, 0.01),
)  # fmt: skip
LAYERS = 3
SHOTS = 64
MATRICES = range(5, 12)
SIZES = (*MATRICES, 13)


def main() -> None:
    """Print one row a size: the exact noisy probabilities by the density matrix, and one shot by itself."""
    print("| n | density matrix, MiB | its probabilities, ms | one shot by itself, ms | as long as so many shots |")
    print("|---|---|---|---|---|")
    for n in SIZES:
        ansatz = Ansatz(num_qubits=n, num_layers=LAYERS)
        phi = np.random.default_rng(n).uniform(-np.pi, np.pi, (1, ansatz.num_angles))
        shot = AerDevice(ansatz, shots=SHOTS, noise=NOISE, memory=1)
        one = quickest(shot, phi) / SHOTS
        cells = ["–", "–"]
        if n in MATRICES:
            matrix = AerDevice(ansatz, shots=None, noise=NOISE)
            exact = quickest(matrix, phi)
            cells = [f"{1e3 * exact:.3g}", f"{exact / one:.2g}"]
        print(f"| {n} | {2 ** (2 * n + 4) / 2**20:.3g} | {cells[0]} | {1e3 * one:.2g} | {cells[1]} |", flush=True)


def quickest(device: AerDevice, phi: NDArray[np.float64]) -> float:
    """Return the least of some wall seconds, each of other angles, after a call that does not count."""
    seconds = []
    for number in range(4):
        start = time.perf_counter()
        device.probabilities_many(phi + number, 0)
        seconds.append(time.perf_counter() - start)
        if seconds[-1] > 5.0:
            return seconds[-1]
    return min(seconds[1:])


if __name__ == "__main__":
    main()
