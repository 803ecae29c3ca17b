"""Starting our own commands as processes, alone or under mpirun, and never leaving one behind."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import qtrl_hpc
from qtrl_hpc.bench.rows import MeasurementError

SECONDS_AT_MOST = 240.0
SECONDS_TO_END = 5.0


@contextmanager
def started(module: str, *arguments: str, ranks: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """Start ``python -m qtrl_hpc.…``; whatever still runs at the end of the ``with`` is ended.

    Args:
        module: within qtrl_hpc.
        arguments: of the command.
        ranks: how many under mpirun; None for a process without it.
    """
    launcher = [] if ranks is None else [_mpirun(), "-n", str(ranks)]
    # The package that is being timed here, wherever from: the same in every process.
    paths = [str(Path(qtrl_hpc.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    process = subprocess.Popen(
        [*launcher, sys.executable, "-m", f"qtrl_hpc.{module}", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        _end(process)


def run(module: str, *arguments: str, ranks: int | None = None) -> str:
    """Run ``python -m qtrl_hpc.…`` to its end and return what it printed.

    Raises:
        MeasurementError: it failed or took too long.
    """
    with started(module, *arguments, ranks=ranks) as process:
        return finish(process, module)


def finish(process: subprocess.Popen[str], module: str) -> str:
    """Wait for a process and return what it printed.

    Raises:
        MeasurementError: it failed or took too long.
    """
    try:
        printed, said = process.communicate(timeout=SECONDS_AT_MOST)
    except subprocess.TimeoutExpired:
        raise MeasurementError(f"qtrl_hpc.{module} took longer than {SECONDS_AT_MOST:g} s") from None
    if process.returncode != 0:
        raise MeasurementError(f"qtrl_hpc.{module} ended with {process.returncode}: {_why(printed + said)}")
    return printed


def run_for_json(module: str, *arguments: str, ranks: int | None = None) -> Any:
    """Run ``python -m qtrl_hpc.…`` to its end and return the JSON in the last line that it printed.

    Raises:
        MeasurementError: it failed, took too long, or printed something else.
    """
    printed = run(module, *arguments, ranks=ranks)
    try:
        return json.loads(printed.splitlines()[-1])
    except (ValueError, IndexError):
        raise MeasurementError(f"qtrl_hpc.{module} printed {printed[-80:]!r}, expected JSON") from None


def train(*flags: str, ranks: int | None = None) -> list[dict[str, float]]:
    """Run a training to its end and return its metrics, one object an update."""
    with run_dir() as path:
        run("train", *flags, f"--run-dir={path}", ranks=ranks)
        return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def seconds_to_first_update(*flags: str, ranks: int) -> float:
    """Return the seconds from launch to the first line of ``metrics.jsonl``."""
    with run_dir() as path:
        start = time.perf_counter()
        with started("train", *flags, "--updates=1", f"--run-dir={path}", ranks=ranks) as process:
            metrics = path / "metrics.jsonl"
            while not (metrics.exists() and metrics.stat().st_size):
                if process.poll() is not None:
                    finish(process, "train")
                    break
                time.sleep(0.005)
            taken = time.perf_counter() - start
            finish(process, "train")
    return taken


@contextmanager
def run_dir() -> Iterator[Path]:
    """Give a run directory that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="qtrl-bench-") as folder:
        yield Path(folder, "run")


def _mpirun() -> str:
    """Return the mpirun beside our own Python, as in a virtual environment, else the one on the path."""
    found = shutil.which("mpirun", path=str(Path(sys.executable).parent)) or shutil.which("mpirun")
    if not found:
        raise MeasurementError("there is no mpirun")
    return found


def _why(printed: str) -> str:
    """Return the line that tells why a command failed: a refusal, a traceback's end, else mpirun's first words."""
    lines = [line.strip() for line in printed.splitlines() if re.search(r"\w", line)]
    refusals = [line for line in lines if line.startswith("error: ")]
    if refusals or not lines:
        return (refusals or ["it printed nothing"])[0]
    return lines[-1] if "Traceback" in printed else f"{lines[0]} (mpirun on one machine: see jobs/env.sh)"


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)  # mpirun ends its ranks, which are not in its process group
        try:
            process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe:
            pipe.close()
