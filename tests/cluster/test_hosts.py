"""Several hosts: the same bits as on one, what the doctor says of them, and a network that breaks."""

import json
import sys
import time

import pytest
from hosts import Hosts, skip_where_not_allowed
from support import QUICK, TRAIN, Job, result, train, updates_done

from qtrl_hpc.checkpoint import Checkpoint

pytestmark = [pytest.mark.mpi, pytest.mark.timeout(600)]
RANKS = 4
ORDERED = [*QUICK, "--reduction=ordered", "--checkpoint-every=10"]
MANY = "--updates=1000000"
# mpirun asks a host that is silent for 4 s, once a second; after three questions without an answer it ends the job.
KEEPALIVE = {"time": 4, "intvl": 1, "probes": 3}
SECONDS_TO_NOTICE = 7.0
# What a busy machine may take on top.
GRACE = 30.0


@pytest.fixture
def hosts(tmp_path):
    skip_where_not_allowed()
    with Hosts(2, tmp_path) as found:
        yield found


@pytest.fixture
def warm(hosts, tmp_path):
    """Kernels on disk, so that no rank is compiling when it is timed."""
    train(tmp_path / "warm", *ORDERED, "--updates=1", ranks=2)


def over(hosts, run_dir, *flags, mpirun=()):
    return Job([*hosts.mpirun(RANKS, *mpirun), *TRAIN, *map(str, flags), f"--run-dir={run_dir}"], run_dir.parent)


def keepalive():
    return [
        word for name, value in KEEPALIVE.items() for word in ("--prtemca", f"oob_tcp_keepalive_{name}", str(value))
    ]


def state(run_dir):
    return json.loads((run_dir / "status.json").read_text())["state"]


def wait_until_none_is_left(job, seconds, ranks_only=False):
    """Return the seconds that it took."""
    start = time.monotonic()
    while [rank for _, rank in job.processes() if rank is not None or not ranks_only]:
        if time.monotonic() - start > seconds:
            left = job.processes()
            job.kill()
            pytest.fail(f"after {seconds:g} s there are still {left}\n{job.out[-2000:]}\n{job.err[-4000:]}")
        time.sleep(0.05)
    return time.monotonic() - start


def test_two_hosts_give_the_same_bits_as_one(hosts, tmp_path):
    job = over(hosts, tmp_path / "two", *ORDERED, "--updates=15")
    assert job.wait() == 0, job.err
    train(tmp_path / "one", *ORDERED, "--updates=15", ranks=RANKS)
    assert result(tmp_path / "two") == result(tmp_path / "one")
    assert state(tmp_path / "two") == "done"
    wait_until_none_is_left(job, GRACE)


def test_doctor_tells_both_hosts(hosts, tmp_path):
    job = Job([*hosts.mpirun(RANKS), sys.executable, "-m", "qtrl_hpc.doctor", "--json"], tmp_path)
    assert job.wait() in (0, 1)
    found = json.loads(job.out)
    assert [facts["host"] for facts in found["ranks"]] == [hosts.names[0]] * 2 + [hosts.names[1]] * 2
    assert found["ranks"][0]["reduction_us"] > 0
    text = {finding["topic"]: finding["text"] for finding in found["findings"]}
    assert text["cores"].startswith(f"{hosts.names[0]}, {hosts.names[1]}: 2 ranks on ")
    assert text["same directory"] == "all 4 ranks see what rank 0 writes there"


def test_doctor_ends_where_messages_do_not_arrive(hosts, tmp_path):
    """As with a firewall, or the wrong network: mpirun reaches both hosts, but ranks do not reach each other."""
    hosts.add_dead_network()
    program = "from qtrl_hpc.doctor import __main__ as doctor; doctor.SECONDS_AT_MOST = 5.0; doctor.main([])"
    mpirun = hosts.mpirun(RANKS, "--mca", "btl_tcp_if_include", "eth1")
    job = Job([*mpirun, sys.executable, "-c", program], tmp_path)
    assert job.wait() == 1
    wait_until_none_is_left(job, GRACE)
    assert "starting MPI takes longer than 5 s: messages between ranks do not arrive" in job.err
    assert "btl_tcp_if_include" in job.err


@pytest.mark.usefixtures("warm")
def test_cut_link_ends_the_job_and_the_run_goes_on_to_the_same_bits(hosts, tmp_path):
    run_dir = tmp_path / "run"
    job = over(hosts, run_dir, *ORDERED, MANY, "--progress-timeout=60", mpirun=keepalive())
    job.wait_until(lambda: updates_done(run_dir) > 20, "updates")
    hosts.cut(1)
    took = wait_until_none_is_left(job, SECONDS_TO_NOTICE + GRACE)
    assert "lost communication with a remote daemon" in job.err
    print(f"all processes on both hosts ended after {took:.1f} s, mpirun with exit code {job.wait()}")
    assert state(run_dir) == "running"  # killed, it cannot say more; mpirun's exit code is 0

    hosts.mend(1)
    updates = Checkpoint.load(run_dir / "checkpoint.h5").state.update + 10
    again = over(hosts, run_dir, *ORDERED, f"--updates={updates}", "--resume", mpirun=keepalive())
    assert again.wait() == 0, again.err
    assert state(run_dir) == "done"
    train(tmp_path / "undisturbed", *ORDERED, f"--updates={updates}", ranks=RANKS)
    assert result(run_dir) == result(tmp_path / "undisturbed")


@pytest.mark.usefixtures("warm")
def test_ranks_end_by_themselves_where_mpirun_does_not_notice_a_cut_link(hosts, tmp_path):
    """Without keep-alive mpirun waits for as long as TCP does: a quarter of an hour."""
    run_dir = tmp_path / "run"
    job = over(hosts, run_dir, *ORDERED, MANY, "--progress-timeout=5")
    job.wait_until(lambda: updates_done(run_dir) > 20, "updates")
    hosts.cut(1)
    took = wait_until_none_is_left(job, 5.0 + GRACE, ranks_only=True)
    print(f"all ranks ended after {took:.1f} s; mpirun {'stays' if job.running else 'has ended'}")
    assert any(line.startswith("error: no progress: ") for line in job.errors)
    assert state(run_dir) == "failed"
    job.kill()
