"""What a gradient costs by each method: circuits and seconds an update of one agent takes."""

import numpy as np

from qtrl_hpc.bench import subjects
from qtrl_hpc.bench.measure import wall_seconds
from qtrl_hpc.bench.rows import Row, Say, measured

SHOTS = 8192
TODAY = "--noise={one_qubit_rate: 3e-4, two_qubit_rate: 3e-3, readout_error: 0.01}"
NOISY_SHOTS = 64
"""Of the noisy circuit, each simulated by itself: what is told is the time of one."""

# name: (flags, repetitions, repetitions of a quick report)
METHODS: dict[str, tuple[list[str], int, int]] = {
    "adjoint": ([], 100, 20),
    "spsa": (["--gradient=spsa"], 100, 20),
    "parameter-shift": (["--gradient=parameter-shift"], 3, 1),
    "surrogate-shots": (["--gradient=surrogate", f"--shots={SHOTS}"], 20, 5),
    "spsa-shots": (["--gradient=spsa", f"--shots={SHOTS}"], 10, 3),
    "parameter-shift-shots": (["--gradient=parameter-shift", f"--shots={SHOTS}"], 2, 1),
}


def gradients(quick: bool, say: Say) -> list[Row]:
    """Time theta and its pullback by each method, and parameter shift beside what Aer itself takes for its circuits."""
    rows = []
    for name, (flags, many, few) in METHODS.items():
        say(name)
        update = subjects.measured_update(*flags)
        update()  # whatever is loaded, or assembled, at the first one
        walls, own = [], []
        for _ in range(few if quick else many):
            with subjects.aer_seconds() as inside:
                walls.append(wall_seconds(update))
            own.append(sum(inside))
        circuits = len(inside)
        shots = f", {SHOTS} shots each" if "shots" in name else ""
        row = measured(
            f"gradients.{name}", "theta and its pullback", walls, "s", note=f"{circuits} circuits{shots}, on aer"
        )
        rows.append(row)
        if name.startswith("parameter-shift"):
            ratio = np.array(walls) / np.array(own)
            what = "its time over Aer's own time of its circuits"
            rows.append(measured(f"{row.name}.overhead", what, ratio, "x", at_most=1.3))
    say("noise")
    circuit = subjects.measured_theta("--gradient=surrogate", f"--shots={NOISY_SHOTS}", TODAY)
    circuit()
    walls = [wall_seconds(circuit) / NOISY_SHOTS for _ in range(1 if quick else 5)]
    rows.append(measured("gradients.noisy-shot", "one shot of the noisy circuit", 1e3 * np.array(walls), "ms"))
    return rows
