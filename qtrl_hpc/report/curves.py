"""Runs that differ in their seed alone -> one curve with a band."""

import json
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.command import whole_number
from qtrl_hpc.config import RESUMABLE_FIELDS
from qtrl_hpc.drawing import COLOURS
from qtrl_hpc.errors import shown
from qtrl_hpc.report.data import RunData
from qtrl_hpc.reproduce.statistics import band, running_mean

POINTS = 300
WIDEST = 100
BAND = "line: interquartile mean of the runs; band: its 95 % bootstrap interval, runs drawn anew"
NOT_THE_IDENTITY = RESUMABLE_FIELDS | {"seed"}
"""What runs of one curve may differ in."""


@dataclass(frozen=True)
class Group:
    """Runs of one configuration, by as many agents, each with a seed of its own."""

    label: str
    """What it differs in from the other groups; empty where there is no other."""
    runs: list[RunData]


@dataclass(frozen=True)
class Curve:
    """One quantity of a group."""

    label: str
    x: NDArray[np.float64]
    """Shape (points,)."""
    middle: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    num_runs: int


def grouped(runs: Sequence[RunData]) -> list[Group]:
    """Return the runs by configuration, in the order of each one's first run."""
    together: dict[str, list[RunData]] = {}
    for run in runs:
        together.setdefault(json.dumps(_identity(run), sort_keys=True), []).append(run)
    identities = {key: json.loads(key) for key in together}
    names = dict.fromkeys(name for identity in identities.values() for name in identity)
    differing = [name for name in names if len({json.dumps(each.get(name)) for each in identities.values()}) > 1]

    def label(identity: dict[str, Any]) -> str:
        return ", ".join(f"{name.replace('_', ' ')} {in_short(identity.get(name))}" for name in differing)

    return [Group(label(identities[key]), found) for key, found in together.items()]


def in_short(value: object) -> str:
    """Return a value as a label has it."""
    return value if isinstance(value, str) and len(value) <= 40 else shown(value, 40).replace("None", "null")


def add_smoothing(parser: ArgumentParser) -> None:
    """Give a command the flag ``--smooth``; without it, ``default_window`` says."""
    parser.add_argument(
        "--smooth",
        type=whole_number(1),
        metavar="W",
        help=f"updates of the running mean (default: a twentieth of the longest run, at most {WIDEST})",
    )


def default_window(runs: Sequence[RunData]) -> int:
    """Return over how many updates curves are smoothed where nobody says: a twentieth of the longest run."""
    return min(WIDEST, max(1, max(len(run.rows) for run in runs) // 20))


def curve(group: Group, key: str, x: str, window: int) -> Curve | None:
    """Return one quantity of a group, smoothed, with the band over its runs; None where no run has it.

    A point is the interquartile mean of the runs that have got so far, at the end of a window of updates.

    Args:
        group: of runs.
        key: in ``metrics.jsonl``.
        x: one of ``POSITIONS``.
        window: updates that each point is the mean of.
    """
    lines = [line for run in group.runs if (line := smoothed(run, key, x, window)) is not None]
    if not lines:
        return None
    points = _points(lines, whole=x == "updates")
    table = np.array([np.interp(points, *line, left=np.nan, right=np.nan) for line in lines])
    middle, low, high = (np.full(len(points), np.nan) for _ in range(3))
    present = np.isfinite(table)
    for pattern in np.unique(present, axis=1).T:
        where = (present == pattern[:, None]).all(axis=0)
        if pattern.any():
            middle[where], low[where], high[where] = band(table[pattern][:, where])
    return Curve(group.label, points, middle, low, high, len(lines))


def smoothed(run: RunData, key: str, x: str, window: int) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return where and what the running mean of a quantity is, shapes (points,); None where the run lacks it.

    Updates without a value, in which no episode ended, are left out. A run shorter than the window is one point.
    """
    values, positions = run.values(key), run.position(x)
    there = np.isfinite(values) & np.isfinite(positions)
    if not there.any():
        return None
    values, positions = values[there], positions[there]
    width = min(window, len(values))
    return positions[width - 1 :], running_mean(values, width)


def draw(axes: Any, curves: Sequence[Curve]) -> None:
    """Draw curves with their bands on matplotlib's axes."""
    for number, each in enumerate(curves):
        colour = COLOURS[number % len(COLOURS)]
        style = "-" if number < len(COLOURS) else "--"
        runs = f" ({each.num_runs} runs)" if each.num_runs > 1 else ""
        axes.plot(each.x, each.middle, style, color=colour, linewidth=1.6, label=f"{each.label}{runs}".strip())
        if each.num_runs > 1:
            axes.fill_between(each.x, each.low, each.high, color=colour, alpha=0.18, linewidth=0)


def _points(lines: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]], *, whole: bool) -> NDArray[np.float64]:
    ends = [position for positions, _ in lines for position in (positions[0], positions[-1])]
    spread = np.linspace(min(ends), max(ends), POINTS)
    return np.unique(np.concatenate([np.rint(spread) if whole else spread, ends]))


def _identity(run: RunData) -> dict[str, Any]:
    values = {name: value for name, value in run.config.to_dict().items() if name not in NOT_THE_IDENTITY}
    return {**values, "agents": run.num_agents}
