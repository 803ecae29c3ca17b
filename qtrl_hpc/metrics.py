"""What is written for people: one JSON object an update, and progress on rank 0."""

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from qtrl_hpc import files
from qtrl_hpc.launcher import is_launched
from qtrl_hpc.trackers.tags import Totals

SECONDS_BETWEEN_LINES = 5.0
RECENT_UPDATES = 100
"""Over so many the reward of a run is told."""
SMOOTHING = 0.95


class MetricsFile:
    """``metrics.jsonl``, ``evaluations.jsonl``: an object of an update a line, each flushed as it is written.

    Args:
        path: of the file.
        keep_until: drop the lines of later updates first (they were written after the checkpoint resumed from).
    """

    def __init__(self, path: Path, *, keep_until: int) -> None:
        kept: list[tuple[bytes, dict[str, Any]]] = []
        if path.exists():
            # Each with its end, which a full disk may have cut off: or the next would be written behind it.
            lines = [line + b"\n" for line in path.read_bytes().splitlines()]
            kept = [(line, row) for line in lines if (row := _row(line)) and row["update"] <= keep_until]
            files.replace(path, b"".join(line for line, _ in kept))
        rows = [row for _, row in kept]
        self.last: int = rows[-1]["update"] if rows else 0
        """The update of the last line that was kept."""
        self.totals = Totals.of(rows)
        """Of the lines that were kept."""
        self._path = path
        self._file: TextIO | None = None

    def write(self, row: dict[str, Any]) -> None:
        """Append one update's object; the first one makes the file."""
        try:
            if self._file is None:
                self._file = self._path.open("a", buffering=1)
            self._file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise files.unwritable(self._path, error) from error

    def rows(self) -> Iterator[dict[str, Any]]:
        """Return all objects that are in the file, in its order."""
        if self._path.exists():
            with self._path.open("rb") as file:
                yield from filter(None, map(_row, file))

    def close(self) -> None:
        """Write no more."""
        if self._file:
            with files.writing(self._path):
                self._file.close()

    def sync(self) -> None:
        """Wait until all lines are on disk."""
        if self._file:
            with files.writing(self._path):
                self._file.flush()
                os.fsync(self._file.fileno())


class ProgressDisplay:
    """Show how training goes: a bar on a terminal, otherwise a line every few seconds.

    Args:
        start: updates already done.
        total: updates in all.
    """

    def __init__(self, start: int, total: int) -> None:
        self._start, self._total = start, total
        self._began = self._last_line = time.monotonic()
        self._reward: float | None = None
        self._bar: Progress | None = None
        if screen := terminal():
            self._bar = Progress(
                TextColumn("training"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("reward {task.fields[reward]}  {task.fields[rate]:.1f} updates/s"),
                TimeRemainingColumn(),
                console=Console(file=screen, width=os.get_terminal_size(screen.fileno()).columns or None),
                refresh_per_second=2,
            )
            self._task = self._bar.add_task("", total=total, completed=start, reward=self._shown, rate=0.0)

    def __enter__(self) -> "ProgressDisplay":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    @property
    def _shown(self) -> str:
        return "-" if self._reward is None else f"{self._reward:.3f}"

    def say(self, line: str) -> None:
        """Show a line of its own."""
        if self._bar:
            self._bar.console.print(line, highlight=False, soft_wrap=True)
        else:
            print(line, flush=True)

    def show(self, update: int, reward_mean: float | None) -> None:
        """Take note of an update that has been done; ``reward_mean`` is None where no episode ended in it."""
        if reward_mean is not None:
            before = reward_mean if self._reward is None else self._reward
            self._reward = SMOOTHING * before + (1.0 - SMOOTHING) * reward_mean
        now = time.monotonic()
        rate = (update - self._start) / max(now - self._began, 1e-9)
        if self._bar:
            self._bar.update(self._task, completed=update, reward=self._shown, rate=rate)
        elif now - self._last_line >= SECONDS_BETWEEN_LINES or update == self._total:
            self._last_line = now
            left = (self._total - update) / rate
            print(
                f"update {update}/{self._total}  reward {self._shown}  {rate:.1f} updates/s  {clock(left)} left",
                flush=True,
            )


def terminal() -> TextIO | None:
    """Return the terminal that a person watches us on, open for writing; None where there is none.

    Open MPI forwards a rank's output by whole lines, from a pseudo-terminal of its own making. So under a launcher it
    is the launcher's terminal, if it runs on this machine, that counts and is drawn on.
    """
    if not is_launched(os.environ):
        return sys.stdout if sys.stdout.isatty() else None
    try:
        handle = os.open(f"/proc/{os.getppid()}/fd/1", os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError:
        return None
    os.set_blocking(handle, True)  # opened without waiting, lest it be a pipe that nobody reads
    if os.isatty(handle):
        return os.fdopen(handle, "w")
    os.close(handle)
    return None


def recent_reward(path: Path, updates: int) -> tuple[float | None, int]:
    """Return the mean reward of the episodes that ended in the last updates of a ``metrics.jsonl``.

    Returns:
        The mean, None where no episode ended, and how many updates were looked at.
    """
    lines = path.read_text().splitlines()[-updates:] if path.exists() else []
    return mean_reward(map(json.loads, lines)), len(lines)


def mean_reward(rows: Iterable[dict[str, Any]]) -> float | None:
    """Return the mean reward of the episodes that ended in some updates, None where none did."""
    rows = [row for row in rows if row["reward_mean"] is not None]
    episodes = [row.get("episodes", 1) for row in rows]  # a run begun by an older version has rows without
    earned: float = sum(count * row["reward_mean"] for count, row in zip(episodes, rows, strict=True))
    return earned / sum(episodes) if rows else None


def _row(line: bytes) -> dict[str, Any] | None:
    """Return what a line says; None for one that a kill cut short."""
    try:
        row = json.loads(line)
        return row if isinstance(row, dict) and isinstance(row.get("update"), int) else None
    except ValueError:
        return None


def clock(seconds: float) -> str:
    """Return a duration as hours, minutes and seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
