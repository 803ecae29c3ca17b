"""Draw the reward curve of runs: ``python docs/reward_curve.py OUTPUT.png LABEL=RUN_DIR …`` (extra ``docs``)."""

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

WINDOW = 50
OPTIMUM = 0.955  # MiniGrid-Empty-5x5: five steps, 1 − 0.9·5/100


def main() -> None:
    """Draw one line a run: the mean reward of an update, faint, and its running mean."""
    output, *runs = sys.argv[1:]
    figure, axes = plt.subplots(figsize=(7.0, 3.6), layout="constrained")
    for run in runs:
        label, directory = run.split("=", 1)
        rows = [json.loads(line) for line in Path(directory, "metrics.jsonl").read_text().splitlines()]
        rows = [row for row in rows if row["reward_mean"] is not None]  # null where no episode ended
        updates = np.array([row["update"] for row in rows])
        rewards = np.array([row["reward_mean"] for row in rows])
        smooth = np.convolve(rewards, np.ones(WINDOW) / WINDOW, "valid")
        (line,) = axes.plot(updates[WINDOW - 1 :], smooth, label=label)
        if len(runs) == 1:
            axes.plot(updates, rewards, color=line.get_color(), alpha=0.2, linewidth=0.8)
    axes.axhline(OPTIMUM, color="0.4", linestyle=":", label=f"optimum {OPTIMUM}")
    axes.set(xlabel="update", ylabel=f"mean reward (running mean of {WINDOW})", ylim=(0, 1))
    axes.legend(loc="lower right", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(output, dpi=130)


if __name__ == "__main__":
    main()
