"""What of the documentation's commands is shortened here, and what cannot run here and is looked at in another way.

The first row that matches a command counts. Whatever no row matches is run as it is written; a row that is never the
first is a mistake.
"""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from support import REPOSITORY

from qtrl_hpc.cli import parse_train
from qtrl_hpc.sweep.__main__ import parse as parse_sweep

# What a page's reader has done before.
PREMISES = {"docs/policies.md": "python -m qtrl_hpc.train --qpu statevector --updates 2 --run-dir runs/first"}
RANKS = 2  # that mpirun starts here, whatever the page says


@dataclass(frozen=True)
class Shortened:
    """Flags that go behind a command: of a flag that is given twice the last counts."""

    pattern: str
    flags: str
    codes: tuple[int, ...] = (0,)  # exit codes that are as good as 0


@dataclass(frozen=True)
class Replaced:
    """A line in whose place another stands."""

    pattern: str
    line: str


@dataclass(frozen=True)
class Bounded:
    """A command that does not end by itself: it must still be there after so many seconds, and is ended."""

    pattern: str
    seconds: int


@dataclass(frozen=True)
class Instead:
    """A command that cannot run here, why, and what is made sure of instead."""

    pattern: str
    why: str
    check: Callable[[str], None]


def target_exists(command):
    """``make TARGET``: the target is one of the Makefile's, and documented."""
    (target,) = [word for word in shlex.split(command)[1:] if "=" not in word]
    assert re.search(rf"^{target}:.*## ", (REPOSITORY / "Makefile").read_text(), re.MULTILINE), target


def parses(command):
    """The shell reads it."""
    subprocess.run(["bash", "-n", "-c", command], check=True)


def job_parses(command):
    """The shell reads it, the script that it submits is there, and training reads the flags behind its name."""
    parses(command)
    script, *flags = re.search(r"jobs/.*", command)[0].split()
    assert (REPOSITORY / script).is_file(), script
    if script == "jobs/search.sbatch":
        parse_sweep(flags)
    elif script != "jobs/infer.sbatch":
        parse_train(flags)


def training_parses(command):
    """Training reads its flags."""
    parse_train(shlex.split(command.split("qtrl_hpc.train", 1)[1]))


def container_parses(command):
    """The shell reads it, its recipe has the arguments that are given, and training reads the flags behind its name."""
    parses(command)
    for recipe in re.findall(r"jobs/containers/[\w.]+", command):
        text = (REPOSITORY / recipe).read_text()
        for argument in re.findall(r"--build-arg (\w+)=", command):
            assert re.search(rf"^(ARG |    ){argument}=", text, re.MULTILINE), argument
    if "qtrl_hpc.train" in command:
        training_parses(command)


def script_has_the_flags(command):
    """The script starts, and its help names every flag that is used."""
    script, *words = shlex.split(command.split("python ", 1)[1])
    done = subprocess.run(
        [sys.executable, script, "--help"], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True
    )
    for flag in (word.split("=")[0] for word in words if word.startswith("--")):
        assert flag in done.stdout, flag


def script_compiles(command):
    """The script, which has no flags, is there and is Python."""
    script = REPOSITORY / shlex.split(command.split("python ", 1)[1])[0]
    compile(script.read_text(), script, "exec")


SLURM = "there is no Slurm here; tests/cluster submits these scripts"
TABLE = (
    # Not here.
    Instead(r"^make \S+", "the Makefile installs, or runs for long; .ci/run calls it", target_exists),
    Instead(r"sbatch .*jobs/", SLURM, job_parses),
    Instead(r"^(squeue|tail -f qtrl-|ls configs|(cat|tail -n 1) runs/qtrl/)", SLURM, parses),
    Instead(r"^(module load|python3 -m venv|pip install)", "it installs, from the network", parses),
    Instead(r"^mpirun --host h0:2,h1:2 ", "there is one host; tests/cluster/test_hosts.py has two", training_parses),
    Instead(r"^mpirun --prtemca ", "as above; tests/cluster/test_hosts.py cuts the network", training_parses),
    Instead(r"^python docs/noise_curves\.py", "it trains for hours", script_compiles),
    Instead(r"^python docs/scaling\.py", "it measures for minutes, even with --quick", script_has_the_flags),
    Instead(r"\b(docker|apptainer) ", "neither is here; tests hold the recipes against setup.cfg", container_parses),
    Instead(r"^git clone |^cd qtrl_hpc$", "this is the clone", parses),
    # Ends when it is told to.
    Bounded(r"^tensorboard ", 8),
    # When it has, however slow this machine is.
    Replaced(r"^sleep 12$", "for _ in $(seq 150); do [ -s runs/second/metrics.jsonl ] && break; sleep 1; done"),
    # Shorter.
    Shortened(r"qtrl_hpc\.train --agents-per-rank 4 --seed 2 .*&$", "--updates 1500"),
    Shortened(r"qtrl_hpc\.train --run-dir runs/second --resume", "--updates 300"),
    Shortened(r"^python docs/convergence\.py", "--quick"),
    Shortened(r"qtrl_hpc\.train --(noise|qpu backend)", "--shots 64 --updates 1 --policy-hidden-sizes [1]"),
    Shortened(r"qtrl_hpc\.train --shots 8192 --gradient spsa$", "--shots 64 --updates 1"),
    Shortened(r"qtrl_hpc\.train .*--(evaluate|video)-every", "--updates 200"),  # one at least
    Shortened(r"qtrl_hpc\.sweep ", "--trials 1 --updates 20"),
    Shortened(r"qtrl_hpc\.train", "--updates 2"),
    Shortened(r"qtrl_hpc\.evaluate .*", "--episodes 2"),
    Shortened(r"^mpirun -n 2 python -m qtrl_hpc\.reproduce table1$", "--quick"),
    # Whether this machine has what hurts a run is not what is tested.
    Shortened(r"qtrl_hpc\.doctor", "", codes=(0, 1)),
)
