"""Jobs of the test's Slurm: the scripts of jobs/, submitted as a user would."""

import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from slurm import Slurm
from support import REPOSITORY, updates_done

SECONDS = 240.0  # for anything that a job is waited for
# 16 slots of a machine that may have two cores.
CROWDED = {"PRTE_MCA_hwloc_default_binding_policy": "none", "OMPI_MCA_mpi_yield_when_idle": "1"}
LAUNCHERS = ("OMPI_", "PMIX_", "PMI_", "PRTE_", "SLURM_", "SRUN_", "SBATCH_")


@dataclass
class Batch:
    """A job: ``script`` of jobs/ with its flags, in ``folder``, with options of sbatch and variables of its own."""

    slurm: Slurm
    folder: Path
    script: str
    flags: list[str]
    options: list[str] = field(default_factory=list)
    environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        own = {name: value for name, value in os.environ.items() if not name.startswith(LAUNCHERS)}
        path = f"{Path(sys.executable).parent}:{own['PATH']}"
        # What srun and scontrol in a job need is in SLURM_CONF.
        environ = own | CROWDED | {"PATH": path, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}
        environ |= {"SLURM_CONF": self.slurm.environ["SLURM_CONF"], **self.environ}
        words = ["sbatch", "--parsable", "--output", str(self.folder / "%a-%j.out"), *self.options]
        self.id = self.slurm.command(
            "env", "-i", *(f"{name}={value}" for name, value in environ.items()),
            *words, f"jobs/{self.script}", *map(str, self.flags), cwd=REPOSITORY,
        ).strip()  # fmt: skip

    @property
    def out(self):
        """What the job has printed; of an array, all of its tasks."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("*.out")))

    @property
    def story(self):
        """What to tell of a job that did not do as it should."""
        logs = "".join(f"--- {name}\n{self.slurm.log(name)[-1500:]}" for name in ("slurmctld", *self.slurm.nodes))
        return f"{self.slurm.show(self.id)}\n{self.out[-6000:]}\n{logs}"

    @property
    def state(self):
        return self.slurm.show(self.id)["JobState"]

    def wait_until(self, condition, what):
        """A job that takes too long fails the test with its last words."""
        deadline = time.monotonic() + SECONDS
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"{self.script}: waited {SECONDS:.0f} s for {what}\n{self.story}")
            time.sleep(0.1)

    def wait_for_updates(self, run_dir, count=3):
        """Wait until it has made some updates more."""
        before = updates_done(run_dir)
        self.wait_until(lambda: updates_done(run_dir) >= before + count, "updates")

    def wait_for_end(self):
        """Return the job's last state and exit code."""
        ended = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY")
        self.wait_until(lambda: self.state in ended, "its end")
        shown = self.slurm.show(self.id)
        return shown["JobState"], int(shown["ExitCode"].split(":")[0])

    def wait_for_requeue(self, restarts=1):
        """Wait until it is queued once more."""
        self.wait_until(
            lambda: self.state == "PENDING" and int(self.slurm.show(self.id)["Restarts"]) == restarts, "its requeue"
        )

    def start_again(self):
        """Let a requeued job, which Slurm lets wait for two minutes, start now.

        But not in the second in which its last start was ended: Slurm would take the new one for that.
        """
        time.sleep(2)
        self.slurm.command("scontrol", "update", f"jobid={self.id}", "StartTime=now")

    def signal(self, name):
        """Send a signal to the batch script, as Slurm does by itself before a time limit."""
        self.slurm.command("scancel", "--batch", f"--signal={name}", self.id)
