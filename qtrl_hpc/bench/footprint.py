"""Tell how much memory one circuit and its gradient need: ``python -m qtrl_hpc.bench.footprint QUBITS``."""

import re
import sys
from pathlib import Path

from qtrl_hpc.bench.subjects import circuit, simulation

BYTES_A_AMPLITUDE = 16


def memory(name: str, process: int | str = "self") -> int:
    """Return a line of a process's status in bytes: VmRSS, resident now; VmHWM, the most so far.

    Not ``ru_maxrss``, which a child process inherits from its parent.
    """
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    if not found:
        raise RuntimeError(f"this system does not tell {name} of a process")
    return 1024 * int(found[1])


def main() -> None:
    """Print the bytes beyond what the process had before, less what goes in and comes out."""
    num_qubits = int(sys.argv[1])
    simulation(circuit(2)).both()  # all that is loaded once
    subject = circuit(num_qubits)
    before = memory("VmRSS")
    ours = simulation(subject)
    probabilities = ours.forward()
    ours.both()
    print(memory("VmHWM") - before - probabilities.nbytes)


if __name__ == "__main__":
    main()
