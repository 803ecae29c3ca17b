"""Runs of the training command in processes of their own, with or without mpirun, and what they leave behind."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from qtrl_hpc import api
from qtrl_hpc.checkpoint import Checkpoint
from qtrl_hpc.cli import parse_train

REPOSITORY = Path(__file__).parent.parent
TRAIN = [sys.executable, "-m", "qtrl_hpc.train"]
# A run of a few milliseconds an update, its episodes cut short.
QUICK = ["--env-id=CartPole-v1", "--num-actions=2", "--policy-hidden-sizes=[8]", "--layers=1", "--qpu=statevector"]
QUICK += ["--max-episode-steps=20"]
TIME_LIMIT = 120.0
MARK = "QTRL_TEST_JOB"  # in the environment of every process of a job, so that all can be found


@dataclass
class Job:
    """A command that runs in a session of its own; ``ranks`` says under mpirun with so many."""

    command: list[str]
    directory: Path
    ranks: int | None = None
    environ: dict[str, str] = field(default_factory=dict)
    launcher: list[str] = field(default_factory=list)

    def __post_init__(self):
        self._mark = uuid.uuid4().hex
        launchers = ("OMPI_", "PMIX_", "PMI_", "PRTE_", "SLURM_")
        environ = {name: value for name, value in os.environ.items() if not name.startswith(launchers)}
        environ |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "PYTHONUNBUFFERED": "1"}
        paths = [REPOSITORY, REPOSITORY / "tests", REPOSITORY / "tests" / "mpi", environ.get("PYTHONPATH", "")]
        environ |= {"PYTHONPATH": os.pathsep.join(map(str, paths)), MARK: self._mark, **self.environ}
        launcher = (
            []
            if self.ranks is None
            else [_mpirun(), *self.launcher, "--oversubscribe", "--bind-to", "none", "-n", str(self.ranks)]
        )
        self._texts = [self.directory / f".{self._mark}.{name}" for name in ("out", "err")]
        with self._texts[0].open("wb") as out, self._texts[1].open("wb") as err:
            self._process = subprocess.Popen(
                [*launcher, *self.command],
                cwd=self.directory,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        self._deadline = time.monotonic() + TIME_LIMIT

    @property
    def out(self):
        return self._texts[0].read_text()

    @property
    def err(self):
        return self._texts[1].read_text()

    @property
    def errors(self):
        """The lines in which the command refuses something; mpirun adds words of its own, and ends them by a NUL."""
        lines = self.err.replace("\0", "").splitlines()
        return [line for line in lines if line.startswith("error: ")]

    @property
    def running(self):
        return self._process.poll() is None

    def wait_until(self, condition, what):
        """Look every 10 ms; a job that ends first, or takes too long, fails the test with its last words."""
        while not condition():
            if not self.running and not condition():
                self._fail(f"ended with exit code {self._process.returncode} before {what}")
            if time.monotonic() > self._deadline:
                self._fail(f"waited {TIME_LIMIT:.0f} s for {what}")
            time.sleep(0.01)

    def wait(self):
        """Return the exit code."""
        try:
            return self._process.wait(max(0.0, self._deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._fail(f"still runs after {TIME_LIMIT:.0f} s")

    def processes(self):
        """The job's processes that still run: (process id, rank or None)."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                environ = dict(
                    item.split("=", 1) for item in path.read_text(errors="replace").split("\0") if "=" in item
                )
                state = path.with_name("stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if environ.get(MARK) == self._mark and state != "Z":
                found.append((int(path.parent.name), environ.get("OMPI_COMM_WORLD_RANK")))
        return found

    def send(self, number, rank):
        """Send a signal to one rank."""
        [pid] = [self._process.pid] if self.ranks is None else [p for p, r in self.processes() if r == str(rank)]
        os.kill(pid, number)

    def kill(self):
        """End every process of the job by force."""
        while found := self.processes():
            for pid, _ in found:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.01)
        self._process.wait()

    def _fail(self, why):
        self.kill()
        pytest.fail(
            f"{' '.join(self.command)} on {self.ranks or 'no'} ranks: {why}\n{self.out[-2000:]}\n{self.err[-4000:]}"
        )


def train(run_dir, *flags, ranks=None, code=0, environ=None):
    """Run the command to its end, expect its exit code, and return the finished job."""
    job = start(run_dir, *flags, ranks=ranks, environ=environ)
    found = job.wait()
    assert found == code, f"exit code {found}, expected {code}\n{job.out[-2000:]}\n{job.err[-4000:]}"
    return job


def train_here(run_dir, *flags):
    """The same run in this process, which has imported already what every start of the command imports anew."""
    return api.train(parse_train(list(map(str, flags))).config, run_dir=run_dir)


def start(run_dir, *flags, ranks=None, environ=None, launcher=()):
    """Start the command; ``launcher`` are further flags of mpirun."""
    command = [*TRAIN, *map(str, flags), f"--run-dir={run_dir}"]
    return Job(command, run_dir.parent, ranks, environ or {}, list(launcher))


def result(run_dir):
    """All that must not depend on how a run was cut up: bits of state, theta and episodes, metrics but for the time."""
    checkpoint = Checkpoint.load(run_dir / "checkpoint.h5")
    rows = [{name: row[name] for name in row if not name.startswith("seconds")} for row in metrics(run_dir)]
    running = [values.tobytes() for values in checkpoint.running or ()]
    return checkpoint.state.to_vector().tobytes(), checkpoint.theta.tobytes(), running, rows


def metrics(run_dir):
    path = run_dir / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def updates_done(run_dir):
    path = run_dir / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def contents(directory):
    """Every file below a directory with its bytes, to see that nothing was written or lost."""
    return {path.relative_to(directory): path.is_file() and path.read_bytes() for path in directory.rglob("*")}


def damage(path):
    """Cut a file in half, but not the others that share its bytes."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) // 2])


@contextmanager
def docs_script(name):
    """A script of docs/ as a module; dataclasses look their module up."""
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "docs" / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules[name]


def _mpirun():
    beside = Path(sys.executable).with_name("mpirun")
    return str(beside) if beside.exists() else "mpirun"
