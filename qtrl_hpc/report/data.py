"""Run directories -> tables of numbers."""

import json
import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from qtrl_hpc import yaml_text
from qtrl_hpc.config import Config
from qtrl_hpc.errors import UserError, one_line
from qtrl_hpc.metrics import RECENT_UPDATES
from qtrl_hpc.run_directory import CONFIG, EVALUATIONS, METRICS
from qtrl_hpc.status import STATUS

QUANTITIES = {
    "reward": ("reward_mean", "reward"),
    "length": ("episode_length_mean", "episode length (steps)"),
    "entropy": ("entropy_mean", "entropy of the policy (nats)"),
    "grad_norm": ("grad_norm", "norm of the gradient"),
    "grad_norm_phi": ("grad_norm_phi", "norm of the gradient of φ"),
    "grad_norm_beta": ("grad_norm_beta", "norm of the gradient of β"),
    "probability_entropy": ("probability_entropy", "entropy of the probabilities (nats)"),
    "participation_ratio": ("participation_ratio", "participation ratio 1/Σp²"),
}
"""Short names of what is drawn most -> key in ``metrics.jsonl``, and words for an axis. Other keys go by themselves."""

POSITIONS = {"updates": "updates", "steps": "environment steps of all agents", "seconds": "seconds in updates"}


@dataclass(frozen=True, kw_only=True)
class RunData:
    """What a run directory tells, but for its checkpoint."""

    path: Path
    config: Config
    made_by: dict[str, str]
    """Versions and git revision, from the head of ``config.yaml``."""
    status: dict[str, Any]
    """Of ``status.json``; empty where an older version wrote none."""
    rows: list[dict[str, Any]]
    """Of ``metrics.jsonl``, one an update."""
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    """Of ``evaluations.jsonl``, where there is one."""

    @property
    def name(self) -> str:
        """Return the directory's own name."""
        return self.path.resolve().name

    @property
    def num_agents(self) -> int | None:
        """Return N, None where no file but the checkpoint would tell."""
        agents = self.status.get("agents")
        return agents if isinstance(agents, int) else None

    def values(self, key: str) -> NDArray[np.float64]:
        """Return one key of each update, shape (updates,), NaN where it is missing or no number."""
        return np.array([_number(row.get(key)) for row in self.rows], np.float64)

    def position(self, x: str) -> NDArray[np.float64]:
        """Return where each update is on the axis ``x``, one of ``POSITIONS``, shape (updates,)."""
        if x == "updates":
            return self.values("update")
        return np.cumsum(np.nan_to_num(self.values(x)))

    @cached_property
    def recent_reward(self) -> float | None:
        """Return the mean reward of the episodes that ended in the last ``RECENT_UPDATES``; None where none did."""
        rewards, episodes = (self.values(key)[-RECENT_UPDATES:] for key in ("reward_mean", "episodes"))
        ended = np.isfinite(rewards)
        weights = np.where(np.isfinite(episodes), episodes, 1.0)[ended]  # older versions did not count them
        return float(np.average(rewards[ended], weights=weights)) if weights.sum() > 0 else None


def load(path: Path) -> RunData:
    """Read a run directory: of a run that is done, still runs, was stopped, or failed.

    Raises:
        UserError: it cannot be read, holds no run, no metrics yet, or a file in it is damaged.
    """
    try:
        there = (path / CONFIG).is_file()
    except OSError as error:
        raise UserError(f"RUN_DIR: got {path}, which cannot be read ({error.strerror})") from error
    if not there:
        raise UserError(f"RUN_DIR: got {path}, expected the directory of a run, which holds {CONFIG}")
    config, made_by = _read_config(path / CONFIG)
    rows = read_lines(path / METRICS)
    if not rows:
        raise UserError(f"RUN_DIR: got {path}, which has no metrics yet; expected at least one update in {METRICS}")
    return RunData(
        path=path,
        config=config,
        made_by=made_by,
        status=_read_status(path / STATUS),
        rows=rows,
        evaluations=read_lines(path / EVALUATIONS),
    )


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file of JSON lines; none where there is no file.

    The last line may be half of one: the run may be writing it, or have been killed while it did.

    Raises:
        UserError: another line is no JSON object.
    """
    try:
        lines = path.read_bytes().splitlines() if path.exists() else []
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("not an object")
        except (ValueError, RecursionError) as error:
            if number == len(lines):
                break
            raise UserError(f"{path}: line {number} is no JSON object ({one_line(error)[:80]})") from error
        rows.append(row)
    return rows


def _read_config(path: Path) -> tuple[Config, dict[str, str]]:
    """Return the configuration, and the comments at its head: who wrote it."""
    try:
        text = yaml_text.read(path)
        written = yaml_text.load(text)
        if not isinstance(written, dict):
            raise ValueError("expected lines KEY: VALUE")
        config = Config.from_dict({str(name): value for name, value in written.items()})
    except (UserError, OSError, ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{path}: {one_line(error)}") from error
    head = text.split("\n\n", 1)[0].splitlines()
    comments = [line[2:].partition(": ") for line in head if line.startswith("# ")]
    return config, {name: value for name, _, value in comments}


def _read_status(path: Path) -> dict[str, Any]:
    try:
        status = json.loads(path.read_text()) if path.exists() else {}
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({one_line(error)[:80]})") from error
    return status if isinstance(status, dict) else {}


def _number(value: object) -> float:
    """Return a number of JSON's as float64 can hold it, else NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value) if math.isfinite(value) else math.nan
    except OverflowError:
        return math.nan
