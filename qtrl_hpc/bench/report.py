"""Figures for people and programs: a table, JSON, Markdown."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from qtrl_hpc import files
from qtrl_hpc.bench.rows import HIGH, LOW, Row
from qtrl_hpc.errors import UserError

FORMAT, FORMAT_VERSION = "qtrl_hpc-bench", 1
SPREAD = f"{LOW}–{HIGH} %"
HEADINGS = ("name", "what", "median", SPREAD, "times", "reach", "reached", "others", "note")
# On a terminal too narrow for all, the table has these alone; a file is as wide as all of them need.
NARROW = ("name", "median", SPREAD, "reach", "reached")
WIDTH_OF_ALL = 150
WIDTH_OF_A_FILE = 200


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that one run of the benchmark found."""

    command: str
    quick: bool
    machine: dict[str, Any]
    rows: list[Row]
    seconds: float

    def to_json(self) -> str:
        """Return one JSON object; a row's fields are those of ``Row``."""
        head = {"format": FORMAT, "format_version": FORMAT_VERSION}
        return json.dumps(head | asdict(self), indent=1, allow_nan=False, ensure_ascii=False)

    def to_markdown(self) -> str:
        """Return a page with the machine and a table."""
        lines = [f"# Benchmark, {self.machine['date'][:10]}", "", f"`{self.command}`, {self.seconds:.0f} s", ""]
        lines += [f"- {name}: {_words(value)}" for name, value in self.machine.items()]
        lines += ["", _markdown(HEADINGS), _markdown("---" for _ in HEADINGS)]
        lines += [_markdown(_cells(row)) for row in self.rows]
        return "\n".join([*lines, "", "What each line means: [README.md](README.md).", ""])

    def print(self) -> None:
        """Print the machine and a table."""
        console = Console(highlight=False)
        if not console.is_terminal:
            console.width = WIDTH_OF_A_FILE
        for name, value in self.machine.items():
            console.print(f"{name:22}{_words(value)}", markup=False)
        shown = [name for name in HEADINGS if console.width >= WIDTH_OF_ALL or name in NARROW]
        table = Table(box=None, pad_edge=False)
        for name in shown:
            table.add_column(name, no_wrap=name in NARROW)
        for row in self.rows:
            cells = dict(zip(HEADINGS, _cells(row), strict=True))
            table.add_row(*(Text(cells[name]) for name in shown), style="red" if row.reached is False else None)
        console.print(table)


def report_paths(folder: Path, date: str) -> list[Path]:
    """Return the names of a dated report, Markdown first, in a folder that is made where there is none.

    Raises:
        UserError: it holds a report of that date, or cannot be written to.
    """
    paths = [folder / f"{date}{suffix}" for suffix in (".md", ".json")]
    for path in paths:
        if path.exists():
            raise UserError(f"--output: got {folder}, which holds {path.name} already, expected a folder without it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{date}.tmp"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"--output: got {folder}, which cannot be written to ({error.strerror})") from error
    return paths


def save(report: Report, paths: list[Path]) -> None:
    """Write the report as Markdown and as JSON."""
    for path, text in zip(paths, (report.to_markdown(), report.to_json() + "\n"), strict=True):
        files.replace(path, text.encode())


def number(value: float) -> str:
    """Return three significant digits, in plain figures."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".")


def _cells(row: Row) -> list[str]:
    others = "–" if row.others is None else f"{row.others:.1f}"
    if row.figure is None or row.low is None or row.high is None:
        return [row.name, row.what, "not measured", "–", "0", "–", "–", others, row.note]
    reached = {True: "yes", False: "NO", None: "–"}[row.reached]
    spread = f"{number(row.low)}–{number(row.high)}"
    figure, times, reach = f"{number(row.figure)} {row.unit}", str(row.repetitions), row.reach or "–"
    return [row.name, row.what, figure, spread, times, reach, reached, others, row.note]


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {each}" for name, each in value.items()) or "none"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _markdown(cells: Any) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
