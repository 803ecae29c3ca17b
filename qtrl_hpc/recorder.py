"""What rank 0 keeps of a run: metrics, checkpoints, and what it tells the person who watches."""

import shlex
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from qtrl_hpc import files
from qtrl_hpc.checkpoint import NEWEST, Checkpoint, save_newest
from qtrl_hpc.config import Config
from qtrl_hpc.metrics import RECENT_UPDATES, MetricsFile, ProgressDisplay, recent_reward
from qtrl_hpc.monitoring import Sight
from qtrl_hpc.run_directory import EVALUATIONS, METRICS, VIDEOS, RunDirectory, config_yaml
from qtrl_hpc.status import Status
from qtrl_hpc.trackers import Tracking, open_trackers


class RunLog(Protocol):
    """What is told of a run as it goes on."""

    def update(self, row: dict[str, Any]) -> None:
        """Take note of one update's metrics."""
        ...

    def seen(self, sight: Sight) -> None:
        """Take note of what the policy was seen to do."""
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
        config: of the run.
        num_ranks: that make the updates.
        status: says how the run stands, in a file.
        listeners: each is called with every update's metrics.
        quiet: show nothing.

    Raises:
        UserError: a tracker does not start.
    """

    directory: RunDirectory
    start: int
    config: Config
    num_ranks: int
    status: Status
    listeners: Sequence[Callable[[dict[str, Any]], None]] = ()
    quiet: bool = False

    def __post_init__(self) -> None:
        self.total = self.config.updates
        self._open_files(self.start)
        trackers = open_trackers(self.config, self.directory.path, self.start, config_yaml(self.config))
        self._tracking = Tracking(trackers, self.config, self.num_ranks, self._metrics.totals)
        self._tracking.catch_up(self._metrics.rows(), self._evaluations.rows(), self.start)
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
        for close in (self._metrics.close, self._evaluations.close, partial(self._tracking.close, done=error is None)):
            # What ended the run is not to be hidden by what then cannot be written either.
            with suppress(Exception) if error else nullcontext():
                close()

    def cut_back(self, update: int) -> None:
        """Forget what was noted of later updates: they are made again."""
        self._metrics.close()
        self._evaluations.close()
        self._open_files(update)
        self._tracking.cut_back(update, self._metrics.totals)

    def _open_files(self, update: int) -> None:
        path = self.directory.path
        self._metrics = MetricsFile(path / METRICS, keep_until=update)
        self._evaluations = MetricsFile(path / EVALUATIONS, keep_until=update)
        for video in (path / VIDEOS).glob("update-*.gif"):
            number = video.stem.removeprefix("update-")
            if number.isdecimal() and int(number) > update:
                with files.writing(video):
                    video.unlink()

    def make_up_for(self, row: dict[str, Any]) -> None:
        """Write the metrics of an update that whoever wrote before did not live to write."""
        if self._metrics.last < row["update"]:
            self._write(row)

    def update(self, row: dict[str, Any]) -> None:
        """Write one update's metrics, show it, and tell the listeners."""
        self._write(row)
        if self._display:
            self._display.show(row["update"], row["reward_mean"])
        for listener in self.listeners:
            listener(dict(row))

    def _write(self, row: dict[str, Any]) -> None:
        self._metrics.write(row)
        self._tracking.update(row)

    def seen(self, sight: Sight) -> None:
        """Write what the policy was seen to do, unless whoever wrote before has done so, and show it."""
        row = sight.evaluation
        if row is not None and self._evaluations.last < sight.update:
            self._evaluations.write(row)
            self._tracking.evaluation(row)
            if self._display:
                self._display.say(_in_words(row))
        path = self.directory.path / VIDEOS / f"update-{sight.update:06d}.gif"
        if sight.gif is not None and not path.exists():
            with files.writing(path):
                path.parent.mkdir(exist_ok=True)
                files.replace(path, sight.gif)
            self._tracking.video(sight.update, path)

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Write the newest checkpoint, the metrics up to it first."""
        self._metrics.sync()
        self._evaluations.sync()
        self._tracking.flush()
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
        following = resume_command or _exporting(path, self.config)
        return "\n".join(
            [
                f"{head} {update} of {self.total} updates; mean reward of the last {recent} {earned}",
                f"  checkpoint  {path / NEWEST}",
                f"  metrics     {path / METRICS}",
                f"  next        {following}",
            ]
        )


def _exporting(path: Path, config: Config) -> str:
    """Return the command that exports a run's policy; modules of the user's own are imported where he names them."""
    command = ["python", "-m", "qtrl_hpc.export", str(path), "--output", str(path / "policy.h5")]
    for flag, name in (("--env-id", config.env_id), ("--policy-network", config.policy_network)):
        command += [flag, name] if ":" in name else []
    return shlex.join(command)


def _in_words(row: dict[str, Any]) -> str:
    """Return an evaluation as a line for people."""
    low, high = row["reward_low"], row["reward_high"]
    interval = "" if low is None or high is None else f" (95% interval {low:.3f} to {high:.3f})"
    return (
        f"evaluation after update {row['update']}: mean reward {row['reward_mean']:.3f}{interval}, "
        f"success {row['success_rate']:.0%}, length {row['episode_length_mean']:.1f}, {row['episodes']} episode(s)"
    )
