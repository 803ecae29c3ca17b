"""Weights & Biases (extra ``wandb``): without the network unless WANDB_MODE says otherwise."""

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb

from qtrl_hpc.config import Config
from qtrl_hpc.errors import UserError, one_line
from qtrl_hpc.trackers.names import keep_name, known_name
from qtrl_hpc.waiting import within

PROJECT = "qtrl_hpc"
SECONDS_TO_FINISH = 60.0
SECONDS_TO_FINISH_FAILED = 5.0


class WeightsAndBiases:
    """Write what Weights & Biases keeps of a run to ``wandb/`` in its directory; see ``Tracker``.

    A resumed run goes on under the same id. What was logged cannot be taken back, so updates that are made again,
    which have the same values but for the seconds, are not logged again.

    Args:
        run_dir: of the run.
        config: of the run.
        update: to go on after.

    Raises:
        UserError: Weights & Biases refuses to start.
    """

    def __init__(self, run_dir: Path, config: Config, update: int) -> None:
        self.logged, self._last, self._again_until = update, 0, 0
        identity = known_name(run_dir, "wandb") or uuid.uuid4().hex[:8]
        mode: Any = os.environ.get("WANDB_MODE", "offline")  # what is no mode wandb refuses itself
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                id=identity,
                name=os.environ.get("WANDB_NAME", run_dir.resolve().name),
                resume="allow",
                dir=run_dir.resolve(),
                mode=mode,
                config=config.to_dict(),
                settings=wandb.Settings(
                    silent=True, console="off", disable_git=True, disable_code=True, x_disable_stats=True
                ),
            )
        except (wandb.errors.Error, ValueError) as error:
            raise UserError(f"--trackers [wandb]: Weights & Biases does not start: {one_line(error)}") from error
        keep_name(run_dir, "wandb", identity)

    def log(self, update: int, values: Mapping[str, float]) -> None:
        """Log one update's values."""
        self._last = update
        if update > self._again_until:
            self._run.log(dict(values), step=update)

    def video(self, update: int, tag: str, path: Path) -> None:
        """Log a GIF."""
        if update > self._again_until:
            self._run.log({tag: wandb.Video(str(path), format="gif")}, step=update)

    def flush(self) -> None:
        """Do nothing: a process of its own writes what it is sent."""

    def cut_back(self, update: int) -> None:
        """Log nothing until what was logged already has been made again."""
        self._again_until = max(self._again_until, self._last)

    def close(self, *, done: bool) -> None:
        """Let it write, and send, what it has; what takes longer than a minute is left to ``wandb sync``."""
        try:
            code = 0 if done else 1
            within(SECONDS_TO_FINISH if done else SECONDS_TO_FINISH_FAILED, lambda: self._run.finish(exit_code=code))
        except TimeoutError:
            return
