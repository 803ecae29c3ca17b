"""The directory of a run: who may write to it, and what it holds before the first update."""

import errno
import fcntl
import os
from pathlib import Path

import yaml

from qtrl_hpc.checkpoint import NEWEST, Checkpoint, TrainingState, checkpoints, load_newest
from qtrl_hpc.config import TOPICS, Config
from qtrl_hpc.errors import UserError
from qtrl_hpc.policy import PolicySpec
from qtrl_hpc.provenance import git_revision, versions

CONFIG = "config.yaml"
METRICS = "metrics.jsonl"
LOCK = ".lock"


class RunDirectory:
    """A run's directory, held by this process until it ends. Rank 0 alone has one.

    Args:
        path: of the directory.
        resume: whether it must hold a run already.

    Raises:
        UserError: it holds a run (or none, with ``resume``), cannot be written, or another run has it.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        self.path = path
        self.warnings: list[str] = []
        if resume:
            if not (path / CONFIG).is_file():
                raise UserError(f"--run-dir: got {path}, which holds no run, expected one to --resume")
        elif holds_run(path):
            raise UserError(f"--run-dir: got {path}, which holds a run; add --resume to go on with it, or name another")
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise UserError(f"--run-dir: got {path}, which cannot be written to ({error.strerror})") from error
        self._take_lock()
        if not resume and holds_run(path):
            raise UserError(f"--run-dir: got {path}, in which another run has just been started")

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"--run-dir: got {self.path}, which belongs to a run still going on") from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP):
                raise
            self.warnings.append(f"{self.path}: its file system has no locks, so a second run in it would go unnoticed")

    def write_config(self, config: Config) -> None:
        """Write ``config.yaml``, the mark of a run; a resumed run's may have another number of updates."""
        temporary = self.path / f".{CONFIG}.tmp"
        temporary.write_text(config_yaml(config))
        os.replace(temporary, self.path / CONFIG)

    def resume(self, config: Config, num_agents: int, spec: PolicySpec, initial: TrainingState) -> Checkpoint | None:
        """Return the newest whole checkpoint, if this run may go on from it; None if it was stopped before its first.

        Args:
            config: of the run that resumes.
            num_agents: of the run that resumes.
            spec: of its policy.
            initial: a state of the sizes that it needs.

        Raises:
            UserError: none can be read, or it is of another configuration, policy or number of agents.
        """
        if not checkpoints(self.path):
            self.warnings.append(f"{self.path}: holds no checkpoint yet; starting from update 0")
            return None
        checkpoint, damaged = load_newest(self.path)
        self.warnings += [f"{line}; going on from update {checkpoint.state.update}" for line in damaged]
        source = str(self.path / NEWEST)
        config.check_resumes(checkpoint.config, source)
        if num_agents != checkpoint.num_agents:
            raise UserError(
                f"--agents-per-rank: ranks times agents make {num_agents}, expected {checkpoint.num_agents} agents "
                f"as in {source}, which --resume goes on from"
            )
        found = checkpoint.state.Theta
        if spec != checkpoint.policy_spec or (found.vector.size, found.num_angles) != (
            initial.Theta.vector.size,
            initial.Theta.num_angles,
        ):
            raise UserError(f"{source}: is of a policy or circuit of other sizes than this configuration makes")
        return checkpoint


def holds_run(path: Path) -> bool:
    """Return whether a directory holds anything that a run writes."""
    return any((path / name).exists() for name in (CONFIG, METRICS, NEWEST)) or any(path.glob("checkpoint-*.h5*"))


def config_yaml(config: Config) -> str:
    """Return all values by topic as YAML, the versions and the git revision as comments: ``--config`` reads it."""
    values = config.to_dict()
    lines = [f"# {name}: {version}" for name, version in {**versions(), "git revision": git_revision()}.items()]
    for topic in TOPICS:
        lines += ["", f"# {(topic.__doc__ or '').splitlines()[0]}"]
        for name in topic.__annotations__:
            value = values[name]
            flow = yaml.safe_dump(value, default_flow_style=True) if isinstance(value, list) else None
            lines.append((f"{name}: {flow}" if flow else yaml.safe_dump({name: value})).rstrip())
    return "\n".join(lines) + "\n"
