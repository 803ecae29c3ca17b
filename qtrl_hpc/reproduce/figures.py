"""Rewards of finished runs -> figures, as PNG and PDF (extra ``reproduce``)."""

from pathlib import Path
from typing import Any

import numpy as np

from qtrl_hpc import files
from qtrl_hpc.drawing import COLOURS, image, tidy
from qtrl_hpc.reproduce import paper
from qtrl_hpc.reproduce.rewards import Rewards
from qtrl_hpc.reproduce.statistics import WINDOW, band, estimate, running_mean, speed_up
from qtrl_hpc.reproduce.tables import GOAL, end_of_one, last_rewards, rounds_by_seed
from qtrl_hpc.reproduce.variants import Ablation, Variant

POINTS = 100


def figure1(rewards: Rewards, curves: list[Variant], counts: list[Variant], seeds: range, preset_name: str) -> Any:
    """Return the paper's Figure 1 b and c: reward curves of single agents, and speed-up against agents.

    Args:
        rewards: of all.
        curves: of panel b.
        counts: of panel c, one agent first.
        seeds: of each.
        preset_name: for the title.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1.0))
    _draw_curves(left, rewards, curves, seeds)
    _draw_speed_ups(right, rewards, counts, seeds)
    tidy(left, right)
    figure.suptitle(f"{preset_name}, {len(seeds)} seeds", fontsize="medium")
    return figure


def _draw_curves(axes: Any, rewards: Rewards, curves: list[Variant], seeds: range) -> None:
    for variant, colour in zip(curves, COLOURS, strict=False):
        means = running_mean(np.array([run.rewards for run in rewards.all(variant, seeds)]))
        shown = np.unique(np.linspace(0, means.shape[1] - 1, POINTS).astype(int))
        middle, low, high = band(means[:, shown])
        axes.plot(shown + WINDOW, middle, color=colour, label=variant.label)
        axes.fill_between(shown + WINDOW, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel="episode", ylabel=f"reward (running mean of {WINDOW})", ylim=(0.0, 1.0))
    axes.set_title("b", loc="left", fontweight="bold")
    axes.legend(loc="lower right", frameon=False)


def _draw_speed_ups(axes: Any, rewards: Rewards, counts: list[Variant], seeds: range) -> None:
    rounds = counts[0].config.updates
    target = end_of_one(rewards, counts[0], seeds)
    until = [rounds_by_seed(rewards.all(each, seeds), target) for each in counts]
    numbers = np.array([variant.num_agents for variant in counts])
    estimates = [speed_up(until[0], each, rounds) for each in until[1:]]
    values = np.array([1.0, *(each.value for each in estimates)])
    ends = np.array([(1.0, 1.0), *((each.low, each.high) for each in estimates)]).T
    axes.plot(numbers, numbers, color="0.6", linestyle=":", label="linear")
    axes.plot(numbers, [paper.SPEED_UP[count] for count in numbers], "s--", color=COLOURS[1], label="paper")
    errors = np.abs(ends - values)
    axes.errorbar(numbers, values, errors, fmt="o-", color=COLOURS[3], capsize=3, label="ours, 95 % interval")
    axes.set(xlabel="agents N", ylabel="speed-up in rounds", xticks=numbers)
    axes.set_ylim(bottom=0.0)
    axes.set_title("c", loc="left", fontweight="bold")
    axes.legend(loc="upper left", frameon=False)


def ablations(rewards: Rewards, rows: list[Ablation], seeds: range) -> Any:
    """Return a chart of what each change to the recipe does: reward at the end, and rounds to ``GOAL``.

    Args:
        rewards: of all.
        rows: the recipe as it is first.
        seeds: of each.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 0.9 + 0.24 * len(rows)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    parts = list(dict.fromkeys(row.part for row in rows))
    for position, row in enumerate(rows):
        runs, colour = rewards.all(row.variant, seeds), COLOURS[parts.index(row.part) % len(COLOURS)]
        last = last_rewards(runs, WINDOW)
        found = estimate(last)
        errors = [[found.value - found.low], [found.high - found.value]]
        left.errorbar(found.value, position, xerr=errors, fmt="o", color=colour, markersize=4, capsize=2)
        left.plot(last.min(), position, "|", color=colour)
        until = rounds_by_seed(runs, GOAL)
        reached = until[np.isfinite(until)]
        right.plot(reached, np.full(len(reached), position), "|", color=colour)
        if np.isfinite(np.median(until)):
            right.plot(np.median(until), position, "o", color=colour, markersize=4)
        if position == 0:
            left.axvline(found.value, color="0.8", linestyle=":", zorder=0)
            right.axvline(float(np.median(until)), color="0.8", linestyle=":", zorder=0)
    left.set_yticks(range(len(rows)), [f"{row.part}: {row.variant.label}" for row in rows], fontsize="small")
    left.invert_yaxis()
    left.set(xlabel=f"reward of the last {WINDOW} rounds", xlim=(-0.03, 1.0))
    left.set_title("IQM, 95 % interval; | worst seed", fontsize="small")
    right.set(xlabel=f"rounds to a running mean of {GOAL}", xlim=(0.0, rows[0].variant.config.updates))
    right.set_title("median; | each seed that gets there", fontsize="small")
    tidy(left, right)
    return figure


def save(figure: Any, folder: Path, name: str) -> list[Path]:
    """Write a figure as PNG and PDF, and return the files."""
    paths = [folder / f"{name}{suffix}" for suffix in (".png", ".pdf")]
    for path in paths:
        files.replace(path, image(figure, path.suffix[1:], dpi=130))
    return paths
