"""Time the gradient of the 13-qubit circuit, L = 3, by turns with PennyLane: ``python docs/comparison/gradient.py``.

In the environment of ``pip install -e '.[bench]'``. Processor time of one thread; the gradients must agree.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import statistics
import time

import numpy as np

from qtrl_hpc.bench.peers import pennylane_gradient
from qtrl_hpc.bench.subjects import circuit, simulation


def main() -> None:
    """Print medians of 20 gradients each."""
    subject = circuit()
    calls = {"PennyLane lightning.qubit, adjoint": pennylane_gradient(subject), "ours": simulation(subject).both}
    difference = np.abs(np.subtract(*(call() for call in calls.values()))).max()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(20):
        for name, call in calls.items():
            start = time.process_time()
            call()
            seconds[name].append(time.process_time() - start)
    for name, times in seconds.items():
        milliseconds = [1e3 * value for value in (statistics.median(times), min(times), max(times))]
        print(f"{name}: median {milliseconds[0]:.3g} ms of CPU ({milliseconds[1]:.3g} to {milliseconds[2]:.3g})")
    print(f"largest difference of a component: {difference:.0e}")


if __name__ == "__main__":
    main()
