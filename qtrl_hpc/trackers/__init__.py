"""Where a run can be watched while it goes on: TensorBoard, Weights & Biases, MLflow."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from qtrl_hpc.config import Config
from qtrl_hpc.extras import require
from qtrl_hpc.trackers.tags import Totals, evaluation_tags, update_tags

VIDEO = "eval/episode"

# What each tracker needs beside this package: the extra that brings it, and the modules that are imported.
_NEEDS = {
    "tensorboard": None,
    "wandb": ("wandb", "wandb"),
    "mlflow": ("mlflow", "mlflow", "sqlalchemy", "alembic"),
}


class Tracker(Protocol):
    """A service or a folder that takes numbers by tag and update."""

    @property
    def logged(self) -> int:
        """Return the last update whose values it held when it was opened."""
        ...

    def log(self, update: int, values: Mapping[str, float]) -> None:
        """Take the values of one update; updates come in order."""
        ...

    def video(self, update: int, tag: str, path: Path) -> None:
        """Take a GIF."""
        ...

    def flush(self) -> None:
        """Keep safe what was taken so far: a checkpoint is about to be written."""
        ...

    def cut_back(self, update: int) -> None:
        """Take what comes next in place of all later updates': they are made again."""
        ...

    def close(self, *, done: bool) -> None:
        """Take nothing more; ``done``: the run did not fail. Bounded in time."""
        ...


def check_installed(config: Config) -> None:
    """Refuse trackers whose packages are missing.

    Raises:
        UserError: naming the flag and what to install.
    """
    for name in config.trackers:
        if needs := _NEEDS[name]:
            require(f"--trackers [{name}]", *needs)


def open_trackers(config: Config, run_dir: Path, update: int, about: str) -> list[Tracker]:
    """Return the trackers that a configuration names, ready to go on after an update.

    Args:
        config: of the run.
        run_dir: of the run, where they keep what they keep.
        update: updates already done; what they hold of later ones is superseded.
        about: the configuration as text.
    """
    # Not at the top: each costs its import, which only who uses it and writes it should pay.
    opened: list[Tracker] = []
    if "tensorboard" in config.trackers:
        from qtrl_hpc.trackers.tensorboard import TensorBoard

        opened.append(TensorBoard(run_dir / "tensorboard", update, about))
    if "wandb" in config.trackers:
        from qtrl_hpc.trackers.wandb import WeightsAndBiases

        opened.append(WeightsAndBiases(run_dir, config, update))
    if "mlflow" in config.trackers:
        from qtrl_hpc.trackers.mlflow import MLflow

        opened.append(MLflow(run_dir, config))
    return opened


class Tracking:
    """Hand on to all trackers of a run what is written of it, by tags.

    Args:
        trackers: of the run.
        config: of the run.
        num_ranks: that make the updates.
        totals: of the updates already done.
    """

    def __init__(self, trackers: list[Tracker], config: Config, num_ranks: int, totals: Totals) -> None:
        self._trackers, self._config, self._num_ranks, self._totals = trackers, config, num_ranks, totals

    def update(self, row: dict[str, Any]) -> None:
        """Hand on one update's metrics."""
        self._totals = self._totals.plus(row)
        if self._trackers:
            values = update_tags(row, self._config, self._totals, self._num_ranks)
            self._each(lambda tracker: tracker.log(row["update"], values))

    def evaluation(self, row: dict[str, Any]) -> None:
        """Hand on an evaluation."""
        self._each(lambda tracker: tracker.log(row["update"], evaluation_tags(row)))

    def video(self, update: int, path: Path) -> None:
        """Hand on a GIF."""
        self._each(lambda tracker: tracker.video(update, VIDEO, path))

    def catch_up(
        self, updates: Iterable[Mapping[str, Any]], evaluations: Iterable[Mapping[str, Any]], update: int
    ) -> None:
        """Hand on what the run's files hold to trackers that lack it.

        One that sends in batches has lost those that were on the way when the process before was killed.

        Args:
            updates: rows of ``metrics.jsonl``, looked at only where a tracker is behind.
            evaluations: objects of ``evaluations.jsonl``, likewise.
            update: the last that is done.
        """
        behind = [tracker for tracker in self._trackers if tracker.logged < update]
        if not behind:
            return
        seen, totals = {row["update"]: row for row in evaluations}, Totals()
        for row in updates:
            number, totals = row["update"], totals.plus(row)
            for tracker in behind:
                if tracker.logged < number:
                    tracker.log(number, update_tags(row, self._config, totals, self._num_ranks))
                    if number in seen:
                        tracker.log(number, evaluation_tags(seen[number]))

    def flush(self) -> None:
        """Let all keep safe what they have."""
        self._each(lambda tracker: tracker.flush())

    def cut_back(self, update: int, totals: Totals) -> None:
        """Go back to an update, and what was done until then."""
        self._totals = totals
        self._each(lambda tracker: tracker.cut_back(update))

    def close(self, *, done: bool) -> None:
        """End with all of them."""
        self._each(lambda tracker: tracker.close(done=done))

    def _each(self, step: Callable[[Tracker], None]) -> None:
        for tracker in self._trackers:
            step(tracker)
