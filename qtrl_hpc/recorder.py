"""What rank 0 keeps of a run: metrics, checkpoints, and what it tells the person who watches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from qtrl_hpc.checkpoint import NEWEST, Checkpoint, save_newest
from qtrl_hpc.metrics import MetricsFile, ProgressDisplay, recent_reward
from qtrl_hpc.run_directory import METRICS, RunDirectory
from qtrl_hpc.status import Status

RECENT_UPDATES = 100


class RunLog(Protocol):
    """What is told of a run as it goes on."""

    def update(self, row: dict[str, Any]) -> None:
        """Take note of one update's metrics."""
        ...

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Take note of a state to go on from."""
        ...


@dataclass
class Recorder:
    """Write a run's files and its progress. Rank 0 alone has one.

    Args:
        directory: held by this run.
        start: updates already done.
        total: updates in all.
        status: says how the run stands, in a file.
        listeners: each is called with every update's metrics.
        quiet: show nothing.
    """

    directory: RunDirectory
    start: int
    total: int
    status: Status
    listeners: Sequence[Callable[[dict[str, Any]], None]] = ()
    quiet: bool = False

    def __post_init__(self) -> None:
        self._metrics = MetricsFile(self.directory.path / METRICS, keep_until=self.start)
        self._display = None if self.quiet else ProgressDisplay(self.start, self.total)

    def __enter__(self) -> "Recorder":
        self.status.write("running")
        if self._display:
            self._display.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._display:
            self._display.__exit__(kind, error, trace)
        self._metrics.close()

    def cut_back(self, update: int) -> None:
        """Forget what was noted of later updates: they are made again."""
        self._metrics.close()
        self._metrics = MetricsFile(self.directory.path / METRICS, keep_until=update)

    def make_up_for(self, row: dict[str, Any]) -> None:
        """Write the metrics of an update that whoever wrote before did not live to write."""
        if self._metrics.last < row["update"]:
            self._metrics.write(row)

    def update(self, row: dict[str, Any]) -> None:
        """Write one update's metrics, show it, and tell the listeners."""
        self._metrics.write(row)
        if self._display:
            self._display.show(row["update"], row["reward_mean"])
        for listener in self.listeners:
            listener(dict(row))

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Write the newest checkpoint, the metrics up to it first."""
        self._metrics.sync()
        save_newest(checkpoint, self.directory.path)
        self.status.update = checkpoint.state.update
        self.status.write("running")

    def end(self, update: int, resume_command: str | None, why: str | None) -> str:
        """Note the end of the run; return what was done, where the files are, and the next command."""
        self.status.write("stopped" if resume_command else "done", why if resume_command else None)
        path: Path = self.directory.path
        reward, recent = recent_reward(path / METRICS, RECENT_UPDATES)
        earned = "-, no episode ended in them" if reward is None else f"{reward:.3f}"
        head = "stopped after" if resume_command else "done:"
        following = resume_command or f"python -m qtrl_hpc.export {path} --output {path / 'policy.h5'}"
        return "\n".join(
            [
                f"{head} {update} of {self.total} updates; mean reward of the last {recent} {earned}",
                f"  checkpoint  {path / NEWEST}",
                f"  metrics     {path / METRICS}",
                f"  next        {following}",
            ]
        )
