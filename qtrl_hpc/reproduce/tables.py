"""Rewards of finished runs -> tables, as Markdown and CSV."""

import csv
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.environment import make_environment, policy_spec
from qtrl_hpc.factory import make_generator
from qtrl_hpc.reproduce import paper
from qtrl_hpc.reproduce.rewards import Rewards, Run
from qtrl_hpc.reproduce.statistics import ROUNDING, WINDOW, Estimate, estimate, iqm, rounds_until, speed_up
from qtrl_hpc.reproduce.variants import Ablation, Claim, Variant
from qtrl_hpc.updates import initial_state

LAST = 500
"""Rounds over which Table I averages, beside the last ``WINDOW``."""

DEAD = 0.05
"""A seed whose last rounds earn less on average has learnt nothing, or forgotten it."""

GOAL = 0.9
"""Running mean of rewards by which runs in MiniGrid are timed."""

Cell = str | int | float | Estimate | None


@dataclass(frozen=True, kw_only=True)
class Table:
    """Headings, rows of as many cells, and what has to be said about them."""

    title: str
    headings: tuple[str, ...]
    rows: list[tuple[Cell, ...]]
    notes: tuple[str, ...] = ()

    def to_markdown(self) -> str:
        """Return a heading, the table and the notes."""
        lines = [f"## {self.title}", "", _line(self.headings), _line("---" for _ in self.headings)]
        lines += [_line(map(_shown, row)) for row in self.rows]
        return "\n".join([*lines, *(f"\n{note}" for note in self.notes)]) + "\n"

    def to_csv(self) -> str:
        """Return the table; an estimate takes three columns."""
        wide = [any(isinstance(row[column], Estimate) for row in self.rows) for column in range(len(self.headings))]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        heads = [
            [name, f"{name}, low", f"{name}, high"] if is_wide else [name]
            for name, is_wide in zip(self.headings, wide, strict=True)
        ]
        writer.writerow(chain.from_iterable(heads))
        for row in self.rows:
            cells = [_plain(cell, is_wide) for cell, is_wide in zip(row, wide, strict=True)]
            writer.writerow(chain.from_iterable(cells))
        return text.getvalue()


def table1(rewards: Rewards, variants: list[Variant], seeds: range, preset_name: str) -> Table:
    """Return Table I: average reward at the end, parameters, processor time."""
    rows: list[tuple[Cell, ...]] = []
    for variant in variants:
        runs = rewards.all(variant, seeds)
        last = last_rewards(runs, LAST)
        rows.append(
            (
                variant.label,
                variant.num_agents,
                num_trained(variant),
                paper.AVERAGE_REWARD[variant.label],
                estimate(last),
                estimate(last_rewards(runs, WINDOW)),
                float(last.min()),
                float(last.max()),
                int((last < DEAD).sum()),
                float(np.median([run.seconds[-1] for run in runs])),
            )
        )
    rounds = variants[0].config.updates
    return Table(
        title=f"Table I with `{preset_name}`: {_seeds(seeds)}, {rounds} rounds of one episode an agent",
        headings=(
            "model",
            "agents",
            "parameters",
            "paper",
            f"last {min(LAST, rounds)}",
            f"last {WINDOW}",
            "worst seed",
            "best seed",
            "dead seeds",
            "CPU seconds",
        ),
        rows=rows,
        notes=(
            "last: interquartile mean over seeds of the mean reward of the last rounds, with its 95 % bootstrap "
            f"interval. Worst, best and dead (below {DEAD}) are of the last {min(LAST, rounds)}. CPU seconds: "
            "median of a run, whose agents play one after another in one process. Paper: one run, window not stated.",
        ),
    )


def table2(rewards: Rewards, variants: list[Variant], seeds: range, preset_name: str) -> list[Table]:
    """Return Table II, for the reward that one agent reaches at its end, and for ``GOAL``."""
    at_end = end_of_one(rewards, variants[0], seeds)
    rounds = variants[0].config.updates
    return [
        _table2(
            rewards,
            variants,
            seeds,
            target,
            f"Table II with `{preset_name}`: rounds until the running mean of {WINDOW} reaches {target:.4f}, {what}; "
            f"{_seeds(seeds)}, {rounds} rounds",
        )
        for target, what in (
            (at_end, f"what one agent has at its end (interquartile mean of the last {min(LAST, rounds)})"),
            (GOAL, "near the optimum of 0.955"),
        )
    ]


def _table2(rewards: Rewards, variants: list[Variant], seeds: range, target: float, title: str) -> Table:
    cap = variants[0].config.updates
    first = rounds_by_seed(rewards.all(variants[0], seeds), target)
    rows: list[tuple[Cell, ...]] = []
    for variant in variants:
        runs = rewards.all(variant, seeds)
        until = rounds_by_seed(runs, target)
        rows.append(
            (
                variant.num_agents,
                int(np.isinf(until).sum()),
                estimate(until, statistic=np.median),
                float(np.median([_steps_until(run, at) for run, at in zip(runs, until, strict=True)])),
                float(np.median([run.seconds_until(at) for run, at in zip(runs, until, strict=True)])),
                None if variant is variants[0] or np.isinf(np.median(until)) else speed_up(first, until, cap),
                paper.SPEED_UP[variant.num_agents],
            )
        )
    return Table(
        title=title,
        headings=("agents", "never", "rounds", "environment steps", "CPU seconds", "speed-up in rounds", "paper"),
        rows=rows,
        notes=(
            "Medians over seeds, with 95 % bootstrap intervals. never: seeds that did not reach it; they count as "
            "infinitely many rounds, but with one agent, for the speed-up, as the last round, which makes it smaller "
            "than it is. The target is taken as given. Environment steps: of all agents together. CPU seconds: the "
            "agents play one after another in one process; with a core each they take less.",
        ),
    )


def ablations(rewards: Rewards, rows: list[Ablation], seeds: range) -> Table:
    """Return what each change to the recipe does."""
    cells: list[tuple[Cell, ...]] = []
    for row in rows:
        runs = rewards.all(row.variant, seeds)
        last = last_rewards(runs, WINDOW)
        until = rounds_by_seed(runs, GOAL)
        cells.append(
            (
                row.part,
                row.variant.label,
                num_trained(row.variant),
                estimate(last),
                float(last.min()),
                int((last < DEAD).sum()),
                float(np.median(until)),
                int(np.isinf(until).sum()),
            )
        )
    first = rows[0].variant
    return Table(
        title=f"Ablations of `tuned`: {_seeds(seeds)}, {first.num_agents} agents, {first.config.updates} rounds",
        headings=("part", "", "parameters", f"last {WINDOW}", "worst seed", "dead seeds", f"rounds to {GOAL}", "never"),
        rows=cells,
        notes=(
            f"last {WINDOW}: interquartile mean over seeds, with its 95 % bootstrap interval. Rounds until the running "
            f"mean of {WINDOW} reaches {GOAL}: median over seeds, one that never does counts as infinite.",
        ),
    )


def claims(rewards: Rewards, rows: list[Claim], seeds: range) -> Table:
    """Return what the recipe reaches, seed by seed."""
    cells: list[tuple[Cell, ...]] = []
    for row in rows:
        variant = row.variant
        runs = rewards.all(variant, seeds)
        last = last_rewards(runs, WINDOW)
        goal = GOAL if row.target <= 1.0 else row.target
        cells.append(
            (
                variant.label,
                variant.num_agents,
                num_trained(variant),
                row.target,
                f"{int((last >= row.target - ROUNDING).sum())} of {len(last)}",
                estimate(last),
                " ".join(_number(value) for value in last),
                row.optimum,
                float(np.median(rounds_by_seed(runs, goal))),
            )
        )
    return Table(
        title=f"What `tuned` reaches: {_seeds(seeds)}",
        headings=(
            "run",
            "agents",
            "parameters",
            "aim",
            "seeds that reach it",
            f"last {WINDOW}",
            "seed by seed",
            "optimum",
            f"rounds to {GOAL} (or the aim)",
        ),
        rows=cells,
        notes=(
            f"last {WINDOW}: of the mean reward of the last {WINDOW} of "
            f"{' or '.join(map(str, sorted({row.variant.config.updates for row in rows})))} rounds, interquartile "
            f"mean over seeds with its 95 % bootstrap interval. Rounds: median, until the running mean of "
            f"{WINDOW} is there.",
        ),
    )


def num_trained(variant: Variant) -> int:
    """Return how many numbers are trained."""
    env = make_environment(variant.config.env_id)
    generator = make_generator(variant.config, policy_spec(env, variant.config, variant.config))
    return int(initial_state(generator, variant.config).Theta.vector.size)


def last_rewards(runs: list[Run], rounds: int) -> NDArray[np.float64]:
    """Return each run's mean reward of its last rounds, shape (seeds,)."""
    return np.array([run.rewards[-rounds:].mean() for run in runs])


def end_of_one(rewards: Rewards, one: Variant, seeds: range) -> float:
    """Return the target of Table II and Figure 1 c: what one agent has at its end, interquartile mean over seeds."""
    return float(iqm(last_rewards(rewards.all(one, seeds), LAST)))


def rounds_by_seed(runs: list[Run], target: float) -> NDArray[np.float64]:
    """Return each run's rounds until the running mean reaches a target, shape (seeds,), infinite where it does not."""
    return np.array([rounds_until(run.rewards, target) for run in runs])


def _steps_until(run: Run, rounds: float) -> float:
    return float(run.steps[: int(rounds)].sum()) if math.isfinite(rounds) else math.inf


def _seeds(seeds: range) -> str:
    return f"seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}"


def _shown(cell: Cell) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, Estimate):
        return f"{_number(cell.value)} [{_number(cell.low)}, {_number(cell.high)}]"
    return _number(cell) if isinstance(cell, float) else str(cell)


def _number(value: float) -> str:
    if math.isinf(value):
        return "never"
    return f"{value:.4f}" if abs(value) < 1.0 else f"{value:.2f}" if abs(value) < 20.0 else f"{value:.0f}"


def _plain(cell: Cell, wide: bool) -> list[object]:
    if isinstance(cell, Estimate):
        return [cell.value, cell.low, cell.high]
    return ["" if cell is None else cell, *([""] * 2 if wide else [])]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
