"""What a sweep leaves: the best configuration and a table of all trials, and a line a trial for people."""

import csv
import io
import shlex
from pathlib import Path
from typing import Any, NamedTuple

from qtrl_hpc import files
from qtrl_hpc.run_directory import config_yaml
from qtrl_hpc.sweep.space import Space

BEST, TABLE = "best.yaml", "trials.csv"


class Result(NamedTuple):
    """How a trial stands."""

    number: int
    state: str
    """running, done, pruned or failed."""
    value: float | None
    """What is maximised; of a trial that was pruned, what it was then."""
    values: dict[str, Any]
    """Of the space's dimensions."""
    why: str
    """Of one that failed."""


def best_of(results: list[Result]) -> Result | None:
    """Return the trial with the highest value of those that were done, the first of equals."""
    done = [each for each in results if each.state == "done" and each.value is not None]
    return max(done, key=lambda each: (each.value or 0.0, -each.number), default=None)


def write_results(folder: Path, space: Space, results: list[Result]) -> None:
    """Write ``trials.csv`` and, once a trial is done, ``best.yaml``, which ``qtrl_hpc.train --config`` reads."""
    names = [each.name for each in space.dimensions]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["trial", "state", "value", *names, "why"])
    for each in results:
        values = [each.values.get(name, "") for name in names]
        table.writerow([each.number, each.state, "" if each.value is None else each.value, *values, each.why])
    files.replace(folder / TABLE, text.getvalue().encode())
    if best := best_of(results):
        head = f"# Trial {best.number} of the sweep in {folder}: {best.value}\n"
        files.replace(folder / BEST, (head + config_yaml(space.config_of(best.values))).encode(errors="replace"))


def line(result: Result, best: Result | None) -> str:
    """Return a line about a trial, for people."""
    value = "-" if result.value is None else f"{result.value:.4f}"
    values = " ".join(f"{name}={_short(value)}" for name, value in result.values.items())
    so_far = f"best {best.value:.4f}, trial {best.number}" if best else "none is done yet"
    why = f"  {result.why}" if result.why else ""
    return f"trial {result.number:4d}  {result.state:7s}  {value:>9s}  {values}  ({so_far}){why}"


def summary(folder: Path, results: list[Result]) -> str:
    """Return what has come of it all, where it is, and the next command."""
    counts = {state: sum(each.state == state for each in results) for state in ("done", "pruned", "failed", "running")}
    words = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    best = best_of(results)
    if best is None:
        return f"{len(results)} trials: {words}\n  table  {folder / TABLE}"
    return "\n".join(
        [
            f"{len(results)} trials: {words}; best {best.value:.4f}, trial {best.number}",
            f"  best   {folder / BEST}",
            f"  table  {folder / TABLE}",
            f"  next   python -m qtrl_hpc.train --config {shlex.quote(str(folder / BEST))}",
        ]
    )


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace(" ", "")
