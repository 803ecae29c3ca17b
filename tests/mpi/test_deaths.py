"""Ranks that die under a fault-tolerant mpirun: the others go on, to the same bits if they take its agents over."""

import json
import signal
import sys

import numpy as np
import pytest
from support import QUICK, Job, metrics, result, start, train, updates_done
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from qtrl_hpc.checkpoint import Checkpoint

pytestmark = pytest.mark.mpi

TOLERANT = ["--with-ft", "ulfm"]
GO_ON = [*QUICK, "--reduction=ordered", "--checkpoint-every=7", "--on-agent-failure=continue"]


def killed(run_dir, *flags, ranks, victims, between=2, environ=None):
    """Train, and kill ranks one after another once the others have come on by some updates since the last."""
    job = start(run_dir, *flags, ranks=ranks, launcher=TOLERANT, environ=environ)
    for victim in victims:
        before = updates_done(run_dir)
        job.wait_until(lambda before=before: updates_done(run_dir) > before + between, "updates")
        job.send(signal.SIGKILL, victim)
        job.wait_until(lambda victim=victim: f"rank {victim} died" in job.err, "the others' notice")
    assert job.wait() == 0, job.err
    assert job.processes() == []
    return job


def status(run_dir):
    return json.loads((run_dir / "status.json").read_text())


@pytest.mark.parametrize("mode", [[], ["--steps-per-update=16"]])
def test_run_goes_on_without_ranks_that_die(tmp_path, mode):
    run_dir = tmp_path / "run"
    flags = [*GO_ON, *mode, "--updates=1500"]
    job = killed(run_dir, *flags, ranks=4, victims=[2, 0])  # rank 0 writes the files, so another takes them over
    assert "3 of 4 ranks go on, their agents are no more" in job.err
    ended = status(run_dir)
    assert (ended["state"], ended["update"], ended["agents"]) == ("done", 1500, 4)
    assert [(each["rank"], each["agents"]) for each in ended["left"]] == [(2, [2]), (0, [0])]
    rows = metrics(run_dir)
    assert [row["update"] for row in rows] == list(range(1, 1501))
    assert {row["ranks"] for row in rows} == {4, 3, 2}
    assert [row["left"] for row in rows if row["left"]] == [[2], [0]]
    assert [each["update"] + 1 for each in ended["left"]] == [row["update"] for row in rows if row["left"]]
    checkpoint = Checkpoint.load(run_dir / "checkpoint.h5")
    assert (checkpoint.num_agents, checkpoint.world_size) == (4, 2)
    train(run_dir, "--resume", "--updates=1503", "--on-agent-failure=abort", ranks=4)  # all agents are back


def test_agents_that_are_taken_over_play_on_as_if_nothing_had_been(tmp_path):
    run_dir, undisturbed = tmp_path / "run", tmp_path / "undisturbed"
    flags = [*QUICK, "--reduction=ordered", "--updates=1000", "--checkpoint-every=7"]
    killed(run_dir, *flags, "--on-agent-failure=continue", "--adopt", ranks=4, victims=[3, 0])
    train(undisturbed, *flags, "--agents-per-rank=4")
    *numbers, rows = result(run_dir)
    *expected, expected_rows = result(undisturbed)
    assert numbers == expected
    assert [row["reward_mean"] for row in rows] == [row["reward_mean"] for row in expected_rows]


def test_rank_that_hangs_is_ended_and_the_others_go_on(tmp_path):
    run_dir = tmp_path / "run"
    flags = [*GO_ON, "--updates=3000", "--progress-timeout=12"]
    job = start(run_dir, *flags, ranks=3, launcher=TOLERANT)
    job.wait_until(lambda: updates_done(run_dir) > 2, "updates")
    job.send(signal.SIGSTOP, 1)
    job.wait_until(lambda: "rank 1 died" in job.err, "the others' notice")
    assert "no progress: rank 1 does not answer" in job.err
    assert job.wait() == 0
    assert job.processes() == []
    assert status(run_dir)["state"] == "done"


def test_what_is_watched_goes_on_with_the_new_rank_0(tmp_path):
    """Each update, evaluation and animation once and in order, for all who watch, whoever wrote it."""
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    run_dir, updates = tmp_path / "run", 600
    flags = [*GO_ON, f"--updates={updates}", "--checkpoint-every=100000", "--trackers=[tensorboard,mlflow]"]
    flags += ["--evaluate-every=3", "--evaluate-episodes=2", "--video-every=40", "--quorum=0.3"]
    killed(run_dir, *flags, ranks=3, victims=[1, 0], between=60)
    every, third = list(range(1, updates + 1)), list(range(3, updates + 1, 3))
    videos = list(range(40, updates + 1, 40))
    evaluations = [json.loads(line)["update"] for line in (run_dir / "evaluations.jsonl").read_text().splitlines()]
    assert [row["update"] for row in metrics(run_dir)] == every
    assert evaluations == third
    assert sorted(path.name for path in (run_dir / "videos").iterdir()) == [f"update-{n:06d}.gif" for n in videos]
    board = EventAccumulator(str(run_dir / "tensorboard"), {"scalars": 0, "images": 0}).Reload()
    client = MlflowClient(tracking_uri=f"sqlite:///{run_dir}/mlflow.db")
    identity = json.loads((run_dir / "trackers.json").read_text())["mlflow"]
    for tag, steps in (("train/grad_norm", every), ("eval/mean_reward", third)):
        assert [event.step for event in board.Scalars(tag)] == steps, tag
        assert sorted(metric.step for metric in client.get_metric_history(identity, tag)) == steps, tag
    assert [event.step for event in board.Images("eval/episode")] == videos
    elapsed = [event.value for event in board.Scalars("time/total_timesteps")]
    assert elapsed == np.cumsum([row["steps"] for row in metrics(run_dir)]).tolist()


@pytest.mark.parametrize("killed", ["nobody", "rank 2"])
def test_ranks_at_the_end_and_ranks_in_the_middle_come_together(tmp_path, killed):
    """Some are in ``settle``, one has noticed that something is wrong and shrinks."""
    job = Job([sys.executable, "-m", "settling", killed], tmp_path, 4, {}, TOLERANT)
    assert job.wait() == 0, job.err
    left = 4 if killed == "nobody" else 3
    assert sorted(job.out.split()) == sorted(f"{left}:{left}:10" for _ in range(left))


def test_death_before_anybody_outlives_it_ends_all_alike(tmp_path):
    job = Job([sys.executable, "-m", "tolerating"], tmp_path, 4, {}, TOLERANT)
    job.wait()
    assert job.processes() == []
    assert job.out.splitlines() == ["rank 2 died, and the others end"] * 3


def test_status_says_running_as_soon_as_a_run_goes_on(tmp_path):
    """Killed before its next checkpoint, it must not look like the run that had ended."""
    run_dir = tmp_path / "run"
    flags = [*QUICK, "--checkpoint-every=100000"]
    train(run_dir, *flags, "--updates=20", ranks=2)
    assert status(run_dir)["state"] == "done"
    job = start(run_dir, "--resume", "--updates=100000", ranks=2)
    job.wait_until(lambda: updates_done(run_dir) > 25, "updates")
    assert (status(run_dir)["state"], status(run_dir)["update"]) == ("running", 20)
    job.kill()
    assert status(run_dir)["state"] == "running"


def test_files_that_nobody_can_write_end_the_run_once(tmp_path):
    """Rank 0 dies and the directory is gone: the heir cannot take over, and neither could the next."""
    run_dir = tmp_path / "run"
    job = start(run_dir, *GO_ON, "--updates=100000", "--checkpoint-every=100000", ranks=4, launcher=TOLERANT)
    job.wait_until(lambda: updates_done(run_dir) > 5, "updates")
    run_dir.rename(tmp_path / "elsewhere")
    job.send(signal.SIGKILL, 0)
    job.wait()
    assert job.processes() == []
    [error] = job.errors
    assert "on the rank that is rank 0 now: --run-dir: got" in error
    assert "Traceback" not in job.err


@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        (["--on-agent-failure=continue"], "SIGKILL 1 0"),  # nobody can go on yet: there is no checkpoint
        (["--on-agent-failure=abort"], "SIGKILL 0 20"),
        (["--on-agent-failure=abort"], "raise 1 20"),
    ],
)
def test_death_that_is_not_allowed_for_ends_all_and_is_told_once(tmp_path, flags, fault):
    """Under this launcher ranks outlive others whether they want to or not, and mpirun may hang where they abort."""
    run_dir, (what, rank, episode) = tmp_path / "run", fault.split()
    environ = {"QTRL_TEST_FAULT": fault}
    flags = [*QUICK, "--env-id=faulty:Faulty-v0", "--updates=100000", *flags]
    job = start(run_dir, *flags, ranks=3, launcher=TOLERANT, environ=environ)
    assert job.wait() == 1
    assert job.processes() == []
    happened = "failed" if what == "raise" else "died"
    assert job.errors == [f"error: rank {rank} {happened}, and the others end"]
    assert job.err.count("Traceback") == (what == "raise")
    if int(episode):
        assert status(run_dir)["state"] == "failed"
        assert f"rank {rank}" in status(run_dir)["why"]


def test_all_that_fail_at_once_end_with_an_exit_code(tmp_path):
    """mpirun's would be 0 if all had killed themselves."""
    flags = [*QUICK, "--env-id=breaking:Env", "--updates=100"]
    (tmp_path / "breaking.py").write_text(
        "import gymnasium\n"
        "class Env(gymnasium.Wrapper):\n"
        "    episodes = 0\n"
        "    def __init__(self):\n"
        "        super().__init__(gymnasium.make('CartPole-v1'))\n"
        "    def reset(self, **options):\n"
        "        self.episodes += 1\n"
        "        if self.episodes > 5:\n"
        "            raise RuntimeError('the pole broke')\n"
        "        return self.env.reset(**options)\n"
    )
    job = start(tmp_path / "run", *flags, ranks=3, launcher=TOLERANT)
    assert job.wait() == 1
    assert job.processes() == []
    assert "RuntimeError: the pole broke" in job.err
    assert status(tmp_path / "run")["state"] == "failed"


def test_rank_that_raises_leaves_alone(tmp_path):
    run_dir = tmp_path / "run"
    flags = [*GO_ON, "--env-id=faulty:Faulty-v0", "--updates=60"]
    job = start(run_dir, *flags, ranks=3, launcher=TOLERANT, environ={"QTRL_TEST_FAULT": "raise 1 20"})
    assert job.wait() == 0
    assert job.err.count("RuntimeError: the pole broke") == 1
    assert "rank 1 of 3 failed:" in job.err
    ended = status(run_dir)
    assert (ended["state"], [each["rank"] for each in ended["left"]]) == ("done", [1])


def test_too_few_that_are_left_stop_with_a_checkpoint(tmp_path):
    run_dir = tmp_path / "run"
    job = start(run_dir, *GO_ON, "--updates=100000", "--quorum=0.7", ranks=3, launcher=TOLERANT)
    job.wait_until(lambda: updates_done(run_dir) > 2, "updates")
    job.send(signal.SIGKILL, 2)
    job.wait()
    ended = status(run_dir)
    assert ended["state"] == "stopped"
    assert "was delivered by 2 of 3 agents" in ended["why"]
    assert "rank 2: died" in ended["why"]
    assert Checkpoint.load(run_dir / "checkpoint.h5").state.update == ended["update"]


def test_without_a_fault_tolerant_launch_it_is_refused(tmp_path):
    run_dir = tmp_path / "run"
    [error] = train(run_dir, *GO_ON, ranks=2, code=2).errors
    assert "--on-agent-failure: got 'continue', expected a launch by mpirun --with-ft ulfm" in error
    assert not run_dir.exists()
    [error] = train(run_dir, *QUICK, "--adopt", code=2).errors
    assert "--adopt: got True, expected false without --on-agent-failure continue" in error
