"""The batch scripts of jobs/ under a real Slurm of four nodes: what a user submits, and all that befalls it.

A run that has been cut up by Slurm must have the bits of one that was made without Slurm and never stopped. How many
updates are to be made stands in a file that the job reads at each start: as many as anybody would wait for until it has
been cut up, and a few more afterwards.
"""

import json
import subprocess
import sys

import pytest
from support import QUICK, REPOSITORY, metrics, result, train

from qtrl_hpc.checkpoint import Checkpoint

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

# A rank takes seconds of a core to start; two on each of four nodes where a test says so.
RANKS_A_NODE = 1
FLAGS = [*QUICK, "--reduction=ordered", "--checkpoint-every=1000"]


class Run:
    """A run directory, with the file that says how many updates are to be made in it."""

    def __init__(self, folder):
        self.directory = folder / "run"
        self.updates = folder / "updates.yaml"
        self.flags = [*FLAGS, f"--config={self.updates}"]
        self.ask_for(1_000_000)

    def ask_for(self, updates):
        self.updates.write_text(f"updates: {updates}\n")

    @property
    def saved(self):
        """Updates in the newest checkpoint."""
        return Checkpoint.load(self.directory / "checkpoint.h5").state.update

    @property
    def status(self):
        return json.loads((self.directory / "status.json").read_text())["state"]

    def ask_for_a_few_more(self):
        self.ask_for(self.saved + 20)

    def check_bits(self):
        """Compare with the same run on one rank, without Slurm."""
        whole = self.directory.with_name("whole")
        agents = Checkpoint.load(self.directory / "checkpoint.h5").num_agents
        train(whole, *self.flags, f"--agents-per-rank={agents}")
        assert result(self.directory) == result(whole)


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def start(submit, run, *options, script="train_cpu.sbatch", flags=(), **environ):
    options = [f"--ntasks-per-node={RANKS_A_NODE}", *options]
    return submit(script, *run.flags, *flags, options=options, RUN_DIR=str(run.directory), **environ)


def finish(job, run):
    """Let a requeued job go on, make a few more updates, and end."""
    run.ask_for_a_few_more()
    saved = run.saved
    job.start_again()
    assert job.wait_for_end() == ("COMPLETED", 0), job.story
    assert f"from update {saved} to {saved + 20}" in job.out
    assert run.status == "done"
    assert (run.directory / "policy.h5").exists()
    run.check_bits()


def errors(job):
    return [line for line in job.out.splitlines() if "error: " in line and not line.startswith(("srun: ", "slurm"))]


def test_run_over_four_nodes_makes_a_policy_that_is_evaluated_without_mpi_and_qiskit(submit, run, tmp_path):
    run.ask_for(50)
    job = start(submit, run, "--ntasks-per-node=2")
    assert job.wait_for_end() == ("COMPLETED", 0), job.story
    assert "agents    8 on 8 rank(s)" in job.out
    assert "start 1 on n[1-4]" in job.out
    run.check_bits()

    missing = tmp_path / "missing"
    missing.mkdir()
    for name in ("mpi4py", "qiskit", "qiskit_aer", "numba"):
        (missing / f"{name}.py").write_text("raise ImportError('not on this machine')\n")
    environ = {"PYTHONPATH": f"{missing}:{REPOSITORY}"}
    policy = run.directory / "policy.h5"
    job = submit("infer.sbatch", policy, "--episodes=5", **environ)
    assert job.wait_for_end() == ("COMPLETED", 0), job.story
    assert json.loads((run.directory / "policy.evaluation.json").read_text())["episodes"] == 5
    job = submit("infer.sbatch")
    assert job.wait_for_end() == ("FAILED", 2)
    assert "got no policy file" in job.out
    job = submit("infer.sbatch", tmp_path / "none.h5")
    assert job.wait_for_end() == ("FAILED", 2)
    assert not list(tmp_path.glob("none*"))


def test_array_trains_a_run_a_seed_of_which_each_is_requeued_by_itself(submit, tmp_path):
    sweep = tmp_path / "sweep"
    run = Run(tmp_path)
    run.directory = sweep / "seed-3"
    options = ["--array=3-4", "--nodes=2", "--ntasks-per-node=1"]
    job = submit("sweep.sbatch", *run.flags, options=options, RUN_DIR=str(sweep))
    array = job.id
    for task in (4, 3):
        job.id = f"{array}_{task}"
        job.wait_for_updates(sweep / f"seed-{task}")
    job.signal("USR1")
    job.wait_for_requeue()
    run.ask_for_a_few_more()
    job.start_again()
    assert job.wait_for_end() == ("COMPLETED", 0), job.story
    checkpoint = Checkpoint.load(run.directory / "checkpoint.h5")
    assert (checkpoint.config.seed, checkpoint.num_agents) == (3, 2)
    assert (run.directory / "policy.h5").exists()
    job.id = f"{array}_4"
    assert (job.state, job.slurm.show(job.id)["Restarts"]) == ("RUNNING", "0")
    assert Checkpoint.load(sweep / "seed-4/checkpoint.h5").config.seed == 4


def test_array_trains_a_run_a_configuration_and_refuses_a_line_that_is_not_there(submit, tmp_path):
    for layers in (1, 2):
        (tmp_path / f"layers-{layers}.yaml").write_text(f"layers: {layers}\n")
    configs = tmp_path / "configs.txt"
    configs.write_text("".join(f"{tmp_path}/layers-{layers}.yaml\n" for layers in (1, 2)))
    flags = [*(flag for flag in FLAGS if "--layers" not in flag), "--updates=2"]
    options = ["--array=2-3", "--ntasks-per-node=1"]
    environ = {"RUN_DIR": str(tmp_path / "sweep"), "CONFIGS": str(configs)}
    job = submit("sweep.sbatch", *flags, options=options, **environ)
    array = job.id
    job.id = f"{array}_2"
    assert job.wait_for_end() == ("COMPLETED", 0), job.story
    assert Checkpoint.load(tmp_path / "sweep/2-layers-2/checkpoint.h5").config.layers == 2
    job.id = f"{array}_3"
    assert job.wait_for_end() == ("FAILED", 2)
    assert f"CONFIGS: got {configs}, which has no line 3" in job.out


def test_scancel_leaves_a_checkpoint_of_the_last_update_and_is_final(submit, run, slurm):
    job = start(submit, run)
    job.wait_for_updates(run.directory)
    slurm.command("scancel", job.id)
    assert job.wait_for_end()[0] == "CANCELLED"
    job.wait_until(lambda: not slurm.processes(), "all its processes to end")
    assert "training stopped (exit code 75, after TERM)" in job.out
    assert "not requeued" in job.out
    assert slurm.show(job.id)["Restarts"] == "0"
    assert run.saved == metrics(run.directory)[-1]["update"] > 0
    run.ask_for_a_few_more()
    again = start(submit, run)
    assert again.wait_for_end() == ("COMPLETED", 0), again.story
    run.check_bits()


def test_batch_script_alone_told_to_end_takes_its_time_and_is_final(submit, run, slurm):
    job = start(submit, run)
    job.wait_for_updates(run.directory)
    job.signal("TERM")
    assert job.wait_for_end() == ("FAILED", 75), job.story
    assert "ended from outside, not requeued" in job.out
    assert slurm.show(job.id)["Restarts"] == "0"
    assert (run.status, run.saved) == ("stopped", metrics(run.directory)[-1]["update"])


def test_preempted_job_makes_room_and_goes_on_to_the_same_bits(submit, run, slurm):
    job = start(submit, run, "--partition=scavenge", "--ntasks-per-node=2")
    job.wait_for_updates(run.directory)
    options = ["--partition=urgent", "--exclusive", "--nodes=4", "--ntasks=4"]
    urgent = submit("infer.sbatch", "no-such-policy.h5", options=options)
    urgent.wait_for_end()
    job.wait_for_requeue()
    assert "training stopped (exit code 75, after USR1)" in job.out
    assert run.saved == metrics(run.directory)[-1]["update"]
    finish(job, run)
    assert "start 2 on" in job.out
    assert slurm.show(job.id)["Restarts"] == "1"


def test_job_at_its_time_limit_is_requeued_and_goes_on(submit, run):
    """One minute is Slurm's shortest limit; the signal comes 45 s before it."""
    job = start(submit, run, "--time=1", "--signal=B:USR1@45")
    job.wait_for_requeue()
    assert "after USR1" in job.out
    finish(job, run)


@pytest.mark.parametrize("node", ["n1", "n3"])
def test_job_that_loses_a_node_is_requeued_and_goes_on_from_its_checkpoint(submit, run, slurm, node):
    """n1 is where the batch script runs: then nobody but Slurm can requeue the job."""
    job = start(submit, run, flags=["--checkpoint-every=10"])
    job.wait_for_updates(run.directory, 25)
    assert slurm.show(job.id)["BatchHost"] == "n1"
    slurm.kill_node(node)
    slurm.command("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    job.wait_for_requeue()
    job.wait_until(lambda: not slurm.processes(), "all its processes to end")
    assert run.saved >= 20
    slurm.revive(node)
    slurm.wait_until_idle()
    finish(job, run)


def test_job_of_which_a_rank_dies_is_requeued_and_goes_on_from_its_checkpoint(submit, run, slurm):
    job = start(submit, run, flags=["--checkpoint-every=10"])
    job.wait_for_updates(run.directory, 15)
    slurm.kill_rank("n2")
    job.wait_for_requeue()
    assert "training failed" in job.out
    assert run.saved >= 10
    finish(job, run)


def test_job_whose_ranks_alone_get_a_signal_is_requeued_and_goes_on(submit, run, slurm):
    """As at preemption where Slurm is not told to send the job's own signal."""
    job = start(submit, run)
    job.wait_for_updates(run.directory)
    slurm.command("scancel", "--signal=TERM", job.id)
    job.wait_for_requeue()
    assert "training stopped (exit code 75)" in job.out
    finish(job, run)


def test_job_that_may_lose_a_rank_is_done_without_it_in_one_start(submit, run, slurm):
    run.ask_for(200)
    flags = ["--on-agent-failure=continue"]
    job = start(submit, run, flags=flags, LAUNCHER_FLAGS="--with-ft ulfm --mca coll ^han")
    job.wait_for_updates(run.directory)
    slurm.kill_rank("n2")
    assert job.wait_for_end() == ("COMPLETED", 0), job.story
    assert run.status == "done"
    assert (run.saved, slurm.show(job.id)["Restarts"]) == (200, "0")
    assert "3 of 4 ranks go on" in job.out
    assert (run.directory / "policy.h5").exists()


def test_restarts_are_bounded(submit, run):
    job = start(submit, run, MAX_RESTARTS="0")
    job.wait_for_updates(run.directory)
    job.signal("USR1")
    assert job.wait_for_end() == ("FAILED", 75)
    assert "restarted 0 times already (MAX_RESTARTS=0), not requeued" in job.out
    assert run.saved > 0


def test_restarts_by_slurm_are_bounded_too(submit, run, slurm):
    job = start(submit, run, MAX_RESTARTS="0")
    job.wait_for_updates(run.directory)
    slurm.command("scontrol", "requeue", job.id)
    job.wait_for_requeue()
    job.start_again()
    assert job.wait_for_end() == ("FAILED", 75)
    assert "restart 1 of at most 0 (MAX_RESTARTS): given up" in job.out
    assert "start 2" not in job.out


def test_srun_whose_ranks_mpi_does_not_connect_is_refused_once_and_for_good(submit, run, slurm):
    job = start(submit, run, LAUNCHER="srun", SRUN_MPI="none")
    assert job.wait_for_end() == ("FAILED", 2)
    [error] = errors(job)
    assert "MPI: srun started 4 processes (SLURM_STEP_NUM_TASKS)" in error
    assert slurm.show(job.id)["Restarts"] == "0"
    assert not list(run.directory.iterdir())


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"LAUNCHER": "mpiexec"}, "LAUNCHER: got mpiexec, expected mpirun or srun"),
        ({"MAX_RESTARTS": "-1"}, "MAX_RESTARTS: got -1, expected a whole number"),
    ],
)
def test_setting_that_makes_no_sense_is_refused(submit, run, environ, words):
    job = start(submit, run, **environ)
    assert job.wait_for_end() == ("FAILED", 2)
    assert words in job.out


@pytest.fixture(scope="session")
def srun_with_mpich(tmp_path_factory):
    """Settings of an MPI that srun can start by PMI-2, as the wheel of Open MPI cannot be."""
    folder = tmp_path_factory.mktemp("mpich")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run([*pip, "--ignore-installed", "--prefix", folder, "mpich>=5"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"an MPI for srun cannot be had: pip cannot install mpich: {done.stderr[-500:]}")
    library = folder / "lib"
    return {
        "LAUNCHER": "srun",
        "SRUN_MPI": "pmi2",
        "LD_LIBRARY_PATH": str(library),
        "MPI4PY_LIBMPI": str(library / "libmpi.so.12"),
        "MPIR_CVAR_CH4_NETMOD": "ofi",  # UCX says too much at once for Slurm's PMI-2 (docs/cluster.md)
    }


def test_srun_starts_connected_ranks_which_stop_and_go_on(submit, run, srun_with_mpich):
    job = start(submit, run, **srun_with_mpich)
    job.wait_for_updates(run.directory)
    job.signal("USR1")
    job.wait_for_requeue()
    assert "training stopped (exit code 75, after USR1)" in job.out
    finish(job, run)
    assert "agents    4 on 4 rank(s)" in job.out


def test_srun_that_is_cancelled_leaves_a_checkpoint(submit, run, srun_with_mpich, slurm):
    job = start(submit, run, **srun_with_mpich)
    job.wait_for_updates(run.directory)
    slurm.command("scancel", job.id)
    assert job.wait_for_end()[0] == "CANCELLED"
    job.wait_until(lambda: not slurm.processes(), "all its processes to end")
    assert run.saved == metrics(run.directory)[-1]["update"] > 0


def test_gpu_script_trains_on_what_its_last_flags_say(submit, run, tmp_path):
    run.ask_for(3)
    job = start(submit, run, "--nodes=1", script="train_gpu.sbatch", flags=["--device=cpu"])
    assert job.wait_for_end() == ("COMPLETED", 0), job.story
    assert (run.directory / "policy.h5").exists()


def test_gpu_script_without_a_gpu_is_refused_and_not_requeued(submit, run, slurm):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    job = start(submit, run, "--nodes=1", script="train_gpu.sbatch")
    assert job.wait_for_end() == ("FAILED", 2)
    [error] = errors(job)
    assert "--device" in error
    assert slurm.show(job.id)["Restarts"] == "0"
