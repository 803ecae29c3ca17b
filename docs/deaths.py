"""Kill three of eight ranks and see what it costs: ``python docs/deaths.py OUTPUT`` (extra ``reproduce``; Open MPI 5).

For each seed, below OUTPUT, three runs: undisturbed, three ranks killed one after another, and killed with ``--adopt``.
Then a picture and a table of them. Stopped, it begins the run in hand anew. Needs ``. jobs/env.sh`` on a small machine.
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

RANKS = 8
UPDATES = 400
VICTIMS = {40: 0, 80: 3, 120: 7}
"""After so many updates this rank is killed."""
WINDOW = 20
LAST = 100
TRAIN = ["--policy-hidden-sizes=[3]", "--qpu=statevector", "--reduction=ordered", f"--updates={UPDATES}"]
RUNS = {"undisturbed": [], "three killed": ["--on-agent-failure=continue"], "three killed, adopted": []}
RUNS["three killed, adopted"] = [*RUNS["three killed"], "--adopt"]


def pids(run_dir: Path) -> dict[int, int]:
    """Return the process id of each rank of a run on this machine."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            command = path.with_name("cmdline").read_text().split("\0")
            environ = dict(item.split("=", 1) for item in path.read_text().split("\0") if "=" in item)
        except OSError:
            continue
        if f"--run-dir={run_dir}" in command and "python" in Path(command[0]).name:
            rank = environ.get("OMPI_COMM_WORLD_RANK")
            found |= {} if rank is None else {int(rank): int(path.parent.name)}
    return found


def rows(run_dir: Path) -> list[dict]:
    """Return a run's metrics so far; a line that is being written is left out."""
    path = run_dir / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def make(run_dir: Path, seed: int, flags: list[str]) -> None:
    """Make a run, killing ranks where that is its lot."""
    status = run_dir / "status.json"
    if status.exists() and json.loads(status.read_text())["state"] == "done":
        return
    shutil.rmtree(run_dir, ignore_errors=True)
    launcher = ["mpirun", *(["--with-ft", "ulfm"] if flags else []), "-n", str(RANKS)]
    command = [*launcher, sys.executable, "-m", "qtrl_hpc.train", *TRAIN, *flags, f"--seed={seed}"]
    print(shlex.join(command), flush=True)
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([*command, f"--run-dir={run_dir}"], env=environ, stdout=subprocess.DEVNULL) as job:
        for update, victim in VICTIMS.items() if flags else ():
            while job.poll() is None and len(rows(run_dir)) < update:
                time.sleep(0.02)
            os.kill(pids(run_dir)[victim], signal.SIGKILL)
    if json.loads(status.read_text())["state"] != "done":
        raise RuntimeError(f"{run_dir} did not end well: {status.read_text()}")


def rewards(run_dir: Path) -> NDArray[np.float64]:
    """Return the mean reward of each update."""
    return np.array([row["reward_mean"] for row in rows(run_dir)])


def draw(output: Path, seeds: list[int], picture: Path) -> None:
    """Draw each kind's running mean reward: the mean over seeds, and from the lowest seed to the highest."""
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    kernel = np.ones(WINDOW) / WINDOW
    for name in RUNS:
        curves = [np.convolve(rewards(folder(output, name, seed)), kernel, "valid") for seed in seeds]
        updates = np.arange(WINDOW, UPDATES + 1)
        style = "--" if "adopted" in name else "-"  # it lies on the undisturbed one
        (line,) = axes.plot(updates, np.mean(curves, axis=0), style, label=name)
        axes.fill_between(updates, np.min(curves, axis=0), np.max(curves, axis=0), color=line.get_color(), alpha=0.15)
    for update, victim in VICTIMS.items():
        axes.axvline(update, color="0.5", linestyle=":")
        axes.text(update, 0.02, f" rank {victim}", color="0.4", fontsize="small")
    axes.set(xlabel="update", ylabel=f"mean reward (running mean of {WINDOW})", ylim=(0, 1))
    axes.legend(loc="lower right", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(picture, dpi=130)


def table(output: Path, seeds: list[int]) -> str:
    """Return what each kind of run reached, and whether its rewards are the undisturbed run's."""
    lines = [f"| run | mean reward of the last {LAST}, by seed | rewards as undisturbed |", "|---|---|---|"]
    for name in RUNS:
        last = [rewards(folder(output, name, seed))[-LAST:].mean() for seed in seeds]
        same = [
            np.array_equal(rewards(folder(output, name, seed)), rewards(folder(output, "undisturbed", seed)))
            for seed in seeds
        ]
        lines.append(f"| {name} | {', '.join(f'{value:.4f}' for value in last)} | {sum(same)} of {len(seeds)} |")
    return "\n".join(lines)


def folder(output: Path, name: str, seed: int) -> Path:
    """Return where a run is kept."""
    return output / f"{name.replace(', ', '-').replace(' ', '_')}-{seed}"


def main() -> None:
    """Make the runs that are missing, then the picture and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--picture", type=Path, help="default: OUTPUT/deaths.png")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        for name, flags in RUNS.items():
            make(folder(options.output, name, seed), seed, flags)
    draw(options.output, options.seeds, options.picture or options.output / "deaths.png")
    print(table(options.output, options.seeds))


if __name__ == "__main__":
    main()
