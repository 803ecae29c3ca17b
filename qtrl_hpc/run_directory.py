"""The directory of a run: who may write to it, and what it holds before the first update."""

import os
from pathlib import Path

import yaml

from qtrl_hpc import files
from qtrl_hpc.checkpoint import NEWEST, Checkpoint, TrainingState, checkpoints, load_newest, name_newest
from qtrl_hpc.config import TOPICS, Config, title_of
from qtrl_hpc.errors import UserError
from qtrl_hpc.policy import PolicySpec
from qtrl_hpc.provenance import git_revision, versions
from qtrl_hpc.status import STATUS
from qtrl_hpc.trackers.names import NAMES

CONFIG = "config.yaml"
METRICS = "metrics.jsonl"
EVALUATIONS = "evaluations.jsonl"
VIDEOS = "videos"
LOCK = ".lock"
WRITTEN = (*(f".{name}" for name in ("checkpoint", CONFIG, METRICS, EVALUATIONS, STATUS, NAMES)), f"{VIDEOS}/.update-")
"""How names begin of what is written beside before it is renamed."""


class InUseError(UserError):
    """Another run has the directory."""


class RunDirectory:
    """A run's directory, held by this process until ``close``. Rank 0 alone has one.

    Args:
        path: of the directory.
        resume: whether it must hold a run already.

    Raises:
        InUseError: another run has it.
        UserError: it holds a run (or none, with ``resume``), or cannot be written.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        self.path = path
        self.warnings: list[str] = []
        self._lock: int | None = None
        try:
            if resume and not checkpoints(path):
                raise UserError(f"--run-dir: got {path}, which holds no checkpoint, expected a run to --resume")
            if not resume and holds_run(path):
                raise UserError(
                    f"--run-dir: got {path}, which holds a run; add --resume to go on with it, or name another"
                )
            path.mkdir(parents=True, exist_ok=True)
            self._lock = files.hold(path / LOCK)
            if self._lock is None:
                self.warnings.append(f"{path}: its file system has no locks, so a second run in it would go unnoticed")
        except BlockingIOError:
            raise InUseError(f"--run-dir: got {path}, which belongs to a run still going on") from None
        except OSError as error:
            raise UserError(f"--run-dir: got {path}, which cannot be written to ({error.strerror})") from error
        if not resume and holds_run(path):
            self.close()
            raise UserError(f"--run-dir: got {path}, in which another run has just been started")
        try:
            for name in WRITTEN:
                for leftover in path.glob(f"{name}*.tmp"):  # of a run that was killed while writing
                    leftover.unlink()
        except OSError as error:
            self.close()
            raise UserError(f"--run-dir: got {path}, which cannot be written to ({error.strerror})") from error

    def close(self) -> None:
        """Let others have the directory."""
        files.let_go(self._lock)
        self._lock = None

    def write_config(self, config: Config) -> None:
        """Write ``config.yaml``."""
        files.replace(self.path / CONFIG, config_yaml(config).encode())

    def resume(
        self, config: Config, *, num_agents: int, world_size: int, spec: PolicySpec, initial: TrainingState
    ) -> Checkpoint:
        """Return the newest whole checkpoint, if this run may go on from it; set aside the damaged ones before it.

        Args:
            config: of the run that resumes.
            num_agents: of the run that resumes.
            world_size: of the run that resumes.
            spec: of its policy.
            initial: a state of the sizes that it needs.

        Raises:
            UserError: none is whole, or it is of another configuration, policy or number of agents.
        """
        path, checkpoint, damaged = load_newest(self.path)
        _check_continues(path, checkpoint, config, num_agents, spec, initial)
        done = checkpoint.state.update
        for each, reason in damaged.items():
            self.warnings.append(f"{reason}; set aside as {each.name}.damaged, going on from update {done}")
            with files.writing(each):
                os.replace(each, each.with_name(f"{each.name}.damaged"))
        if path.name != NEWEST:
            name_newest(path)
        if world_size != checkpoint.world_size and config.reduction != "ordered":
            self.warnings.append(
                f"the run had {checkpoint.world_size} rank(s) and now has {world_size}: sums are taken in another "
                "order, so the last bits may differ from a run that was not stopped (--reduction ordered avoids it)"
            )
        if config != checkpoint.config:
            self.write_config(config)
        return checkpoint


def holds_run(path: Path) -> bool:
    """Return whether a directory holds results of a run."""
    metrics = path / METRICS
    return bool(checkpoints(path)) or (metrics.exists() and metrics.stat().st_size > 0)


def _check_continues(
    path: Path, checkpoint: Checkpoint, config: Config, num_agents: int, spec: PolicySpec, initial: TrainingState
) -> None:
    """Refuse a checkpoint of another configuration, policy or number of agents, or one that is further already."""
    config.check_resumes(checkpoint.config, str(path))
    if num_agents != checkpoint.num_agents:
        raise UserError(
            f"--agents-per-rank: ranks times agents make {num_agents}, expected {checkpoint.num_agents} agents "
            f"as in {path}, which --resume goes on from"
        )
    if config.updates < checkpoint.state.update:
        raise UserError(
            f"--updates: got {config.updates}, expected at least {checkpoint.state.update}, which {path} has done"
        )
    found = checkpoint.state.Theta
    sizes = (initial.Theta.vector.size, initial.Theta.num_angles)
    if spec != checkpoint.policy_spec or (found.vector.size, found.num_angles) != sizes:
        raise UserError(f"{path}: is of a policy or circuit of other sizes than this configuration makes")


def config_yaml(config: Config) -> str:
    """Return all values by topic as YAML, the versions and the git revision as comments: ``--config`` reads it."""
    values = config.to_dict()
    lines = [f"# {name}: {version}" for name, version in {**versions(), "git revision": git_revision()}.items()]
    for topic in TOPICS:
        lines += ["", f"# {title_of(topic)}"]
        for name in topic.__annotations__:
            value = values[name]
            flow = yaml.safe_dump(value, default_flow_style=True) if isinstance(value, list) else None
            lines.append((f"{name}: {flow}" if flow else yaml.safe_dump({name: value})).rstrip())
    return "\n".join(lines) + "\n"
