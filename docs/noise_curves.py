"""Train with shots and noise, and draw what comes of it: ``python docs/noise_curves.py OUTPUT`` (extra ``docs``).

Writes a run directory for each curve and seed below OUTPUT, and the pictures and tables from those that are there.
Stopped, it goes on where it was. ``--ranks 2`` or ``4`` (after ``. jobs/env.sh``) shares out the four agents over MPI
ranks, to the same bits;
``--only CURVE …`` runs some; ``--draw`` runs none; ``--updates N`` for a quick look.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.agents import Agents
from qtrl_hpc.checkpoint import NEWEST, Checkpoint
from qtrl_hpc.environment import make_environment
from qtrl_hpc.fleet_factory import make_fleet
from qtrl_hpc.noise import read_noise

AGENTS = 4
UPDATES = 300
SEEDS = (0, 1, 2)
EPISODES = 200
WINDOW = 20
LAST = 50
OPTIMUM = 0.955  # MiniGrid-Empty-5x5: five steps, 1 − 0.9·5/100
# 456 weights, so 9 qubits: a density matrix of 4 MiB.
POLICY = ["--policy-hidden-sizes=[3]"]

# Rates of today's devices, and so many times them.
LEVELS = {"today": 1, "5 x today": 5, "20 x today": 20}


def level(times: float) -> str:
    """Return the noise of a level as YAML."""
    rates = {"one_qubit_rate": 3e-4, "two_qubit_rate": 3e-3, "readout_error": 1e-2}
    return f"{{{', '.join(f'{name}: {rate * times:.4g}' for name, rate in rates.items())}}}"


WORST = level(LEVELS["20 x today"])
MIXED = f"[{{}}, {', '.join(level(times) for times in LEVELS.values())}]"

AFFINE = "--mapping-activation=none"

# name: flags. All are of four agents but those alone.
CURVES: dict[str, list[str]] = {
    "exact": ["--qpu=statevector"],
    "exact, spsa": ["--qpu=statevector", "--gradient=spsa"],
    "1k shots, spsa": ["--shots=1024", "--gradient=spsa"],
    "8k shots, spsa": ["--shots=8192", "--gradient=spsa"],
    "64k shots, spsa": ["--shots=65536", "--gradient=spsa"],
    **{f"noise {name}": [f"--noise={level(times)}", "--gradient=surrogate"] for name, times in LEVELS.items()},
    "noise today, 1k shots, spsa": [f"--noise={level(1)}", "--shots=1024", "--gradient=spsa"],
    "four noise levels": [f"--noise={MIXED}", "--gradient=surrogate"],
    "the worst alone": [f"--noise={WORST}", "--gradient=surrogate", "--agents-per-rank=1"],
    "one without noise alone": ["--qpu=statevector", "--agents-per-rank=1"],
    # Where the circuit's angles matter (docs/results.md): without tanh in the mapping model.
    "affine, exact": [AFFINE, "--qpu=statevector"],
    "affine, frozen circuit": [AFFINE, "--qpu=statevector", "--circuit=frozen"],
    "affine, exact, spsa": [AFFINE, "--qpu=statevector", "--gradient=spsa"],
    "affine, 1k shots, spsa": [AFFINE, "--shots=1024", "--gradient=spsa"],
    "affine, 8k shots, spsa": [AFFINE, "--shots=8192", "--gradient=spsa"],
    "affine, noise 5 x today": [AFFINE, f"--noise={level(LEVELS['5 x today'])}", "--gradient=surrogate"],
}
PANELS = {
    "shots": ["exact", "exact, spsa", "1k shots, spsa", "8k shots, spsa", "64k shots, spsa"],
    "noise": ["exact", *[f"noise {name}" for name in LEVELS], "noise today, 1k shots, spsa"],
    "QPUs that differ": ["noise 20 x today", "four noise levels", "the worst alone", "one without noise alone"],
    "affine mapping model": [curve for curve in CURVES if curve.startswith("affine")],
}


def run_dir(output: Path, curve: str, seed: int) -> Path:
    """Return where a run is kept."""
    return output / f"{curve.replace(', ', '-').replace(' ', '_')}-{seed}"


def train(output: Path, curve: str, seed: int, ranks: int, updates: int) -> None:
    """Make a run, or what is left of it."""
    directory = run_dir(output, curve, seed)
    ranks = 1 if curve.endswith(" alone") else ranks
    flags = [f"--agents-per-rank={AGENTS // ranks}", *POLICY, *CURVES[curve], "--reduction=ordered"]
    flags += [f"--seed={seed}", f"--updates={updates}", "--checkpoint-every=25", f"--run-dir={directory}"]
    flags += ["--resume"] if (directory / NEWEST).exists() else []
    launcher = [] if ranks == 1 else ["mpirun", "-n", str(ranks)]
    command = [*launcher, sys.executable, "-m", "qtrl_hpc.train", *flags]
    print(shlex.join(command), flush=True)
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)


def rows_of(output: Path, curve: str) -> list[list[dict]]:
    """Return the metrics of each seed that has been run."""
    files = [run_dir(output, curve, seed) / "metrics.jsonl" for seed in SEEDS]
    return [[json.loads(line) for line in file.read_text().splitlines()] for file in files if file.exists()]


def smooth(rewards: Sequence[float]) -> NDArray[np.float64]:
    """Return the running mean of the last ``WINDOW``, of fewer at the start."""
    sums = np.cumsum(np.insert(np.asarray(rewards, np.float64), 0, 0.0))
    ends = np.arange(1, len(rewards) + 1)
    starts = np.maximum(0, ends - WINDOW)
    return (sums[ends] - sums[starts]) / (ends - starts)


def draw(output: Path, picture: Path) -> None:
    """Draw the panels: thin a seed, thick their mean."""
    figure, axes = plt.subplots(1, len(PANELS), figsize=(13.0, 3.6), sharey=True, layout="constrained")
    for panel, (title, curves) in zip(axes, PANELS.items(), strict=True):
        for curve in curves:
            lines = [smooth([row["reward_mean"] for row in rows]) for rows in rows_of(output, curve) if rows]
            if not lines:
                continue
            common = min(map(len, lines))
            updates = np.arange(1, common + 1)
            (mean,) = panel.plot(
                updates, np.mean([line[:common] for line in lines], axis=0), label=curve.removeprefix("affine, ")
            )
            for line in lines:
                panel.plot(updates, line[:common], color=mean.get_color(), alpha=0.25, linewidth=0.8)
        panel.axhline(OPTIMUM, color="0.4", linestyle=":")
        panel.set(title=title, xlabel="update", ylim=(0, 1))
        panel.legend(loc="lower right", frameon=False, fontsize="small")
        panel.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel(f"mean reward (running mean of {WINDOW})")
    figure.savefig(picture, dpi=130)


def table(output: Path) -> str:
    """Return what each curve reached, and what it cost."""
    columns = (f"mean reward of the last {LAST}, by seed", "0.9 first after", "circuits an update", "seconds an update")
    lines = [f"| curve | {' | '.join(columns)} |", "|---|---|---|---|---|"]
    for curve in CURVES:
        runs = [rows for rows in rows_of(output, curve) if rows]
        if not runs:
            continue
        last = [np.mean([row["reward_mean"] for row in rows[-LAST:]]) for rows in runs]
        reached = [next((i + 1 for i, mean in enumerate(smooth([r["reward_mean"] for r in rows])) if mean >= 0.9), None)
                   for rows in runs]  # fmt: skip
        circuits = runs[0][0].get("circuits", 1)
        seconds = np.mean([row["seconds"] for rows in runs for row in rows])
        cells = [
            ", ".join(f"{value:.3f}" for value in last),
            ", ".join("–" if number is None else str(number) for number in reached),
            f"{circuits}",
            f"{seconds:.2g}",
        ]
        lines.append(f"| {curve} | {' | '.join(cells)} |")
    return "\n".join(lines)


def on_each_qpu(output: Path) -> str:
    """Return what the policies of some runs earn on each of the four QPUs, over ``EPISODES`` episodes of one agent."""
    qpus = ["none", *LEVELS]
    lines = [f"| trained with | {' | '.join(qpus)} |", f"|---|{'---|' * len(qpus)}"]
    for curve in ("exact", *[f"noise {name}" for name in LEVELS], "four noise levels", "the worst alone"):
        paths = [run_dir(output, curve, seed) / NEWEST for seed in SEEDS]
        saved = [Checkpoint.load(path) for path in paths if path.exists()]
        if saved:
            cells = [", ".join(f"{earned(each, number):.3f}" for each in saved) for number in range(len(qpus))]
            lines.append(f"| {curve} | {' | '.join(cells)} |")
    return "\n".join(lines)


def earned(saved: Checkpoint, number: int) -> float:
    """Return the mean reward of the policy that a checkpoint's Theta generates on one of the four QPUs."""
    noise = read_noise(["{}", *map(level, LEVELS.values())][number])
    config = replace(saved.config, qpu="aer", noise=noise, gradient="surrogate", agents_per_rank=1)
    config = replace(config, episodes_per_update=EPISODES)
    theta, _ = make_fleet(config, saved.policy_spec).policy(saved.state.Theta, 0)
    # An agent that no run has, so that its episodes are new to the policy; the same on each QPU.
    agents = Agents(config, saved.policy_spec, [make_environment(config.env_id)], first_agent=1000)
    [trajectories] = agents.play(theta, 0)
    return float(np.mean([reward for each in trajectories for reward, _ in each.finished]))


def main() -> None:
    """Run what is left, then draw and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--picture", type=Path, help="default: OUTPUT/noise.png")
    parser.add_argument("--ranks", type=int, choices=(1, 2, 4), default=1)
    parser.add_argument("--only", nargs="+", choices=list(CURVES), default=list(CURVES), metavar="CURVE")
    parser.add_argument("--seeds", nargs="+", type=int, choices=SEEDS, default=list(SEEDS))
    parser.add_argument("--updates", type=int, default=UPDATES)
    parser.add_argument("--draw", action="store_true")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for seed in [] if options.draw else options.seeds:
        for curve in options.only:
            train(options.output, curve, seed, options.ranks, options.updates)
    draw(options.output, options.picture or options.output / "noise.png")
    print(table(options.output), on_each_qpu(options.output), sep="\n\n")


if __name__ == "__main__":
    main()
