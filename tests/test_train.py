"""The training command in one process: what it writes, what it refuses, and that the chain to an evaluation works."""

import json
import math
import os
import re
import shlex
import shutil
import signal
import sys

import numpy as np
import pytest
from support import QUICK, Job, contents, damage, metrics, result, start, train, train_here, updates_done

from qtrl_hpc import checkpoint as checkpoint_module
from qtrl_hpc import evaluate, export, training
from qtrl_hpc.checkpoint import Checkpoint
from qtrl_hpc.cli import parse_train
from qtrl_hpc.errors import UserError
from qtrl_hpc.evaluation import bootstrap_interval
from qtrl_hpc.factory import make_generator
from qtrl_hpc.policy_file import PolicyFile
from qtrl_hpc.run_directory import RunDirectory

FLAGS = [*QUICK, "--updates=25", "--checkpoint-every=10", "--seed=3"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that was never interrupted, and what it said."""
    run_dir = tmp_path_factory.mktemp("finished") / "run"
    return run_dir, train(run_dir, *FLAGS)


@pytest.fixture
def run(finished, tmp_path):
    """A copy of it, to change."""
    shutil.copytree(finished[0], tmp_path / "run")
    return tmp_path / "run"


def test_run_directory_holds_what_is_documented(finished):
    run_dir, _ = finished
    names = {path.name for path in run_dir.iterdir() if not path.name.startswith(".")}
    numbered = {f"checkpoint-00000000{update}.h5" for update in (10, 20, 25)}
    assert names == {"config.yaml", "metrics.jsonl", "status.json", "checkpoint.h5", "tensorboard", *numbered}
    assert Checkpoint.load(run_dir / "checkpoint.h5").state.update == 25


def test_output_says_what_runs_and_names_the_files_and_the_next_command(finished):
    run_dir, job = finished
    assert job.err == ""
    for words in ("CartPole-v1", "4-8-2", "58 weights", "6 qubits", "36 angles", "update 25/25"):
        assert words in job.out, words
    end = job.out.splitlines()[-4:]
    assert re.match(r"done: 25 of 25 updates; mean reward .* \d+\.\d+$", end[0])
    mean = np.mean([row["reward_mean"] for row in metrics(run_dir)])
    assert float(end[0].split()[-1]) == pytest.approx(mean, abs=5e-4)
    assert [line.split()[1] for line in end[1:3]] == [str(run_dir / "checkpoint.h5"), str(run_dir / "metrics.jsonl")]
    assert end[3].split(maxsplit=1)[1] == f"python -m qtrl_hpc.export {run_dir} --output {run_dir}/policy.h5"


def test_next_command_can_be_pasted(tmp_path, capsys):
    run_dir = tmp_path / "a run"
    train_here(run_dir, *QUICK, "--updates=1", "--policy-network=support_own:network")
    said = capsys.readouterr().out.splitlines()[-1].split(maxsplit=1)[1]
    words = ["python", "-m", "qtrl_hpc.export", str(run_dir), "--output", str(run_dir / "policy.h5")]
    assert shlex.split(said) == [*words, "--policy-network", "support_own:network"]


def test_metrics_have_every_column_of_every_update(finished):
    rows = metrics(finished[0])
    assert [row["update"] for row in rows] == list(range(1, 26))
    phases = [f"seconds_{phase}" for phase in ("circuit", "mapping", "episode", "gradient", "waiting", "reduction")]
    columns = {"update", "episodes", "steps", "reward_mean", "episode_length_mean", "entropy_mean", "grad_norm"}
    columns |= {"grad_norm_phi", "grad_norm_beta", "probability_entropy", "participation_ratio", "baseline"}
    columns |= {"seconds", *phases}
    for row in rows:
        assert set(row) == columns
        assert all(math.isfinite(value) for value in row.values())
        assert (row["episodes"], row["steps"]) == (1, row["episode_length_mean"])
        assert row["reward_mean"] == row["episode_length_mean"] <= 20  # CartPole gives 1 a step; cut after 20
        assert 0 < row["entropy_mean"] <= math.log(2)
        assert row["grad_norm"] == pytest.approx(math.hypot(row["grad_norm_phi"], row["grad_norm_beta"]))
        assert min(row["grad_norm_phi"], row["grad_norm_beta"]) > 0
        assert 0 < row["probability_entropy"] <= math.log(64)
        assert math.exp(row["probability_entropy"]) >= row["participation_ratio"] * (1 - 1e-12) >= 1 - 1e-12
        assert all(row[phase] > 0 for phase in phases)
        assert sum(row[phase] for phase in phases) < row["seconds"]
    assert len({row["episode_length_mean"] for row in rows}) > 3


def test_config_yaml_is_complete_and_makes_the_same_run_again(finished, tmp_path):
    run_dir, _ = finished
    text = (run_dir / "config.yaml").read_text()
    for name in ("qtrl_hpc", "python", "numpy", "qiskit-aer", "mpi4py", "git revision"):
        assert re.search(rf"^# {name}: .+$", text, re.MULTILINE), name
    assert parse_train([f"--config={run_dir}/config.yaml"]).config == parse_train(FLAGS).config
    again = tmp_path / "again"
    train(again, f"--config={run_dir}/config.yaml", "--preset=paper")
    assert result(again) == result(run_dir)


def test_theta_of_every_checkpoint_is_what_its_Theta_generates(finished):
    seen = set()
    for path in finished[0].glob("checkpoint-*.h5"):
        saved = Checkpoint.load(path)
        assert make_generator(saved.config, saved.policy_spec)(saved.state.Theta).tobytes() == saved.theta.tobytes()
        seen.add(saved.theta.tobytes())
    assert len(seen) == 3


def test_seed_decides_everything(finished, tmp_path):
    train(tmp_path / "other", *FLAGS, "--seed=4", "--updates=2")
    rows, others = metrics(finished[0])[:2], metrics(tmp_path / "other")
    assert [row["grad_norm"] for row in rows] != [row["grad_norm"] for row in others]


def test_baseline_is_over_all_returns(tmp_path):
    """CartPole, γ = 1: an episode of T steps has returns T … 1, of mean (T + 1)/2 and mean square (T + 1)(2T + 1)/6."""
    train(tmp_path / "run", *FLAGS, "--gamma=1", "--advantage=baseline", "--baseline-decay=0.75", "--updates=2")
    T = np.array([row["episode_length_mean"] for row in metrics(tmp_path / "run")])
    baseline = Checkpoint.load(tmp_path / "run" / "checkpoint.h5").state.baseline
    weights = np.array([0.75 * 0.25, 0.25])
    assert baseline.weight == pytest.approx(weights.sum())
    assert baseline.mean == pytest.approx(weights @ ((T + 1) / 2))
    assert baseline.mean_square == pytest.approx(weights @ ((T + 1) * (2 * T + 1) / 6))


def test_bits_are_the_same_from_kernels_just_compiled_and_from_kernels_kept(tmp_path):
    """The first run of a fresh installation compiles them, a later one, or another rank, loads them."""
    environ = {"NUMBA_CACHE_DIR": str(tmp_path / "kept")}
    for name in ("compiles", "loads"):
        train(tmp_path / name, *FLAGS, "--layers=3", "--updates=10", environ=environ)
    assert list((tmp_path / "kept").rglob("*.nbc"))
    assert result(tmp_path / "loads") == result(tmp_path / "compiles")


def test_where_compiled_code_cannot_be_kept_it_is_compiled_each_time(tmp_path):
    """A package in a folder that is read-only, and no home: a shared installation, a container."""
    program = (
        "import numba.core.caching as caching, runpy\n"
        "def refuse(self): raise OSError(30, 'Read-only file system')\n"
        "caching._CacheLocator.ensure_cache_path = refuse\n"
        "runpy.run_module('qtrl_hpc.train', run_name='__main__', alter_sys=True)"
    )
    command = [sys.executable, "-c", program, *QUICK, "--updates=1", f"--run-dir={tmp_path}/run"]
    job = Job(command, tmp_path)
    assert job.wait() == 0, job.err
    assert job.err.count("warning: Numba finds no folder to keep machine code in") == 1


def test_a_folder_for_compiled_code_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "file").touch()
    folder = str(tmp_path / "file" / "kept")
    job = train(tmp_path / "run", *FLAGS, code=2, environ={"NUMBA_CACHE_DIR": folder})
    assert job.errors == [f"error: NUMBA_CACHE_DIR: got {folder!r}, expected a folder that can be written to"]
    assert not (tmp_path / "run").exists()


def test_classical_policy_is_trained_directly(tmp_path):
    train(tmp_path / "run", *FLAGS, "--policy=classical", "--updates=10")
    saved = Checkpoint.load(tmp_path / "run" / "checkpoint.h5")
    assert saved.state.Theta.num_angles == 0
    assert saved.theta.tobytes() == saved.state.Theta.vector.tobytes()
    assert saved.theta.shape == (58,)
    assert export.main([str(tmp_path / "run"), "--output", str(tmp_path / "policy.h5")]) == 0
    assert PolicyFile.load(tmp_path / "policy.h5").theta.tobytes() == saved.theta.tobytes()


def test_step_that_overflows_is_said_and_not_saved(tmp_path):
    job = train(tmp_path / "run", *FLAGS, "--optimizer=sgd", "--learning-rate=1e300", "--updates=5", code=1)
    [error] = job.errors
    assert error.startswith("error: update ")
    assert "Traceback" not in job.err
    assert "finite" in error or "overflow" in error
    assert np.isfinite(Checkpoint.load(tmp_path / "run" / "checkpoint.h5").state.to_vector()).all()


def test_stop_asked_for_before_the_first_update_is_heard(finished, tmp_path):
    run_dir = tmp_path / "run"
    train(run_dir, *FLAGS, "--env-id=faulty:Faulty-v0", code=75, environ={"QTRL_TEST_FAULT": "SIGTERM 0 0"})
    assert Checkpoint.load(run_dir / "checkpoint.h5").state.update == updates_done(run_dir) == 1
    train(run_dir, "--resume")
    assert result(run_dir) == result(finished[0])


# --- so many steps an update ---

STEPS = [*FLAGS, "--steps-per-update=6", "--agents-per-rank=3", "--checkpoint-every=7"]


@pytest.fixture(scope="module")
def in_steps(tmp_path_factory):
    """A run of three agents that play six steps each, never interrupted."""
    run_dir = tmp_path_factory.mktemp("in_steps") / "run"
    return run_dir, train(run_dir, *STEPS)


def test_every_update_has_the_same_steps_and_counts_the_episodes_that_ended(in_steps):
    run_dir, job = in_steps
    rows = metrics(run_dir)
    running = Checkpoint.load(run_dir / "checkpoint.h5").running
    assert [row["steps"] for row in rows] == [18] * 25
    for row in rows:
        if row["episodes"]:
            assert 8 <= row["reward_mean"] == row["episode_length_mean"] <= 20
        else:
            assert row["reward_mean"] is row["episode_length_mean"] is None
        assert 0 < row["entropy_mean"] <= math.log(2)
    assert rows[0]["reward_mean"] is None, "no CartPole falls over in six steps"
    assert len({row["episodes"] for row in rows}) > 2
    ended = sum(row["episodes"] * (row["episode_length_mean"] or 0) for row in rows)
    assert ended + running.length.sum() == pytest.approx(25 * 18)
    assert running.episode.sum() == sum(row["episodes"] for row in rows)
    shown = re.match(r"done: 25 of 25 updates; mean reward of the last 25 (\d+\.\d+)$", job.out.splitlines()[-4])
    assert float(shown[1]) == pytest.approx(ended / running.episode.sum(), abs=5e-4)


def test_run_too_short_for_any_episode_says_so(tmp_path):
    job = train(tmp_path / "run", *STEPS, "--updates=1")
    assert "mean reward of the last 1 -, no episode ended in them" in job.out
    assert "NaN" not in (tmp_path / "run" / "metrics.jsonl").read_text()


@pytest.mark.parametrize("update", [7, 14, 21])
def test_run_goes_on_in_the_middle_of_its_episodes(in_steps, tmp_path, update):
    run_dir = tmp_path / "run"
    shutil.copytree(in_steps[0], run_dir) if update > 7 else train(run_dir, *STEPS, "--updates=7")
    os.replace(run_dir / f"checkpoint-{update:010d}.h5", run_dir / "checkpoint.h5")
    for path in run_dir.glob("checkpoint-*.h5"):
        path.unlink()
    assert (Checkpoint.load(run_dir / "checkpoint.h5").running.length > 0).any()
    train(run_dir, "--resume", "--updates=25")
    assert result(run_dir) == result(in_steps[0])


def test_environment_that_does_not_play_the_same_again_is_noticed(tmp_path):
    run_dir = tmp_path / "run"
    train(run_dir, *STEPS, "--env-id=faulty:Faulty-v0", "--updates=7")
    before = contents(run_dir)
    job = train(run_dir, "--resume", code=2, environ={"QTRL_TEST_FAULT": "reseed 0 1"})
    [error] = job.errors
    assert error.startswith("error: --resume: got another observation from the environment of agent 0 after the ")
    assert contents(run_dir) == before


def test_directory_of_whole_episodes_does_not_go_on_in_steps(run, refusal):
    assert "--steps-per-update: got 6, expected None" in refusal(run, "--resume", "--steps-per-update=6")
    assert "--episodes-per-update: got 2, expected 1" in train(run, *STEPS, "--episodes-per-update=2", code=2).err


# --- the chain ---


def test_export_keeps_theta_and_where_it_comes_from(run, capsys):
    policy, saved = run / "policy.h5", Checkpoint.load(run / "checkpoint.h5")
    assert export.main([str(run), "--output", str(policy)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split(maxsplit=1)[1] == f"python -m qtrl_hpc.evaluate {policy}"
    file = PolicyFile.load(policy)
    assert (file.theta.tobytes(), file.spec, file.env_id) == (saved.theta.tobytes(), saved.policy_spec, "CartPole-v1")
    assert (file.provenance["update"], file.provenance["num_agents"]) == (25, 1)
    assert file.provenance["config"] == json.loads(json.dumps(saved.config.to_dict()))
    older = run / "checkpoint-0000000010.h5"
    assert export.main([str(older), "--output", str(policy)]) == 0
    assert PolicyFile.load(policy).theta.tobytes() == Checkpoint.load(older).theta.tobytes()


def test_evaluation_is_the_same_for_the_same_seed(run, capsys):
    policy = str(run / "policy.h5")
    export.main([str(run), "--output", policy])
    capsys.readouterr()

    def evaluated(*flags):
        assert evaluate.main([policy, "--episodes=20", "--json", *flags]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return json.loads(out)

    first = evaluated("--seed=1")
    assert evaluated("--seed=1") == first
    assert first["reward_low"] < first["reward_mean"] < first["reward_high"]
    assert first["reward_mean"] == first["episode_length_mean"]  # CartPole gives 1 a step
    assert first["success_rate"] == 0.0
    assert (first["episodes"], first["seed"], first["greedy"], first["env_id"]) == (20, 1, False, "CartPole-v1")
    assert evaluated("--seed=2")["reward_mean"] != first["reward_mean"]
    assert evaluated("--seed=1", "--greedy")["reward_mean"] != first["reward_mean"]


def test_evaluation_for_people_says_the_same_as_for_programs(run, capsys):
    policy = str(run / "policy.h5")
    export.main([str(run), "--output", policy])
    capsys.readouterr()
    evaluate.main([policy, "--episodes=20", "--json"])
    found = json.loads(capsys.readouterr().out)
    evaluate.main([policy, "--episodes=20"])
    out = capsys.readouterr().out
    for name in ("reward_mean", "reward_low", "reward_high"):
        assert f"{found[name]:.4f}" in out
    assert f"{found['success_rate']:.1%}" in out
    assert f"{found['episode_length_mean']:.1f}" in out
    evaluate.main([policy, "--episodes=1", "--json"])
    assert json.loads(capsys.readouterr().out)["reward_low"] is None


def test_bootstrap_interval_covers_the_mean_as_often_as_it_says():
    """95% of intervals, within four standard deviations of 200 trials: at least 176."""
    rng = np.random.default_rng(0)
    intervals = [bootstrap_interval(rng.exponential(size=60), seed) for seed in range(200)]
    assert 176 <= sum(low < 1.0 < high for low, high in intervals) < 200
    assert bootstrap_interval(np.full(5, 0.7), 0) == (0.7, 0.7)
    assert bootstrap_interval(np.array([0.7]), 0) == (None, None)


# --- what is refused ---


class Alone:
    """The one rank of a world in which nothing needs MPI until the run has been accepted."""

    rank, size, node_rank, node_size = 0, 1, 0, 1
    number, began_with = 0, 1

    def agree(self, step):
        return step()


@pytest.fixture
def refusal(capfd):
    """Expect that a command line is refused in one line, and nothing is written or lost in the folder of the run."""

    def check(run_dir, *argv):
        before = contents(run_dir.parent)
        with pytest.raises(UserError) as caught:
            training.train(Alone(), parse_train([*argv, f"--run-dir={run_dir}"]), None)
        assert contents(run_dir.parent) == before
        assert "\n" not in str(caught.value)
        assert capfd.readouterr() == ("", "")
        return str(caught.value)

    return check


def test_directory_that_holds_a_run_is_refused(run, refusal):
    for pattern in ("config.yaml", "metrics.jsonl", "checkpoint.h5", "checkpoint-*"):
        text = refusal(run, *FLAGS)
        assert text.startswith(f"--run-dir: got {run}, which holds a run")
        assert "--resume" in text
        for path in run.glob(pattern):
            path.unlink()
    RunDirectory(run, resume=False)


def test_directory_that_holds_no_run_cannot_be_resumed(tmp_path, refusal):
    for name in ("none", "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        text = refusal(tmp_path / name, "--resume")
        assert re.match(f"--run-dir: got {tmp_path / name}, which (holds|has) no .*, expected .* run", text)


def test_directory_that_cannot_be_written_is_refused(tmp_path, refusal):
    (tmp_path / "file").write_text("in the way")
    for run_dir in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / ("x" * 300)):
        text = refusal(run_dir, *FLAGS)
        assert text.startswith(f"--run-dir: got {run_dir}, which cannot be written to")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.parametrize("mode", [0o500, 0o000])
def test_directory_in_a_folder_that_is_closed_is_refused(tmp_path, refusal, mode):
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(mode)
    try:
        text = refusal(closed / "run", *FLAGS)
        assert text.startswith(f"--run-dir: got {closed / 'run'}, which cannot be written to")
        assert refusal(closed / "run", "--resume").startswith("--run-dir: ")
    finally:
        closed.chmod(0o700)


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--seed=4", ["--seed: got 4, expected 3"]),
        ("--learning-rate=0.5", ["--learning-rate: got 0.5, expected "]),
        ("--env-id=Acrobot-v1", ["--env-id: got 'Acrobot-v1', expected 'CartPole-v1'"]),
        ("--layers=2", ["--layers: got 2, expected 1"]),
        ("--reduction=ordered", ["--reduction: got 'ordered', expected 'allreduce'"]),
        ("--preset=qtrl", ["expected"]),
        ("--agents-per-rank=2", ["agents", "2", "expected 1"]),
        ("--updates=20", ["--updates: got 20, expected", "25"]),
    ],
)
def test_checkpoint_of_another_configuration_is_refused(run, refusal, flag, words):
    text = refusal(run, "--resume", flag)
    assert [word for word in words if word not in text] == [], text
    assert str(run) in text


def test_directory_without_a_checkpoint_that_can_be_read_is_refused(run, refusal):
    for path in run.glob("checkpoint*.h5"):
        damage(path)
    text = refusal(run, "--resume")
    assert str(run / "checkpoint.h5") in text
    assert "damaged" in text


def test_checkpoint_of_a_newer_version_is_refused(run, refusal, monkeypatch):
    saved = Checkpoint.load(run / "checkpoint.h5")
    monkeypatch.setattr(checkpoint_module, "FORMAT_VERSION", 2)
    checkpoint_module.save_newest(saved, run)
    monkeypatch.undo()
    assert "got format version 2, expected at most 1" in refusal(run, "--resume")


def test_damaged_checkpoint_of_another_configuration_is_refused_and_left_alone(run, refusal):
    for name in ("checkpoint.h5", "checkpoint-0000000025.h5"):
        damage(run / name)
    assert "--seed: got 4" in refusal(run, "--resume", "--seed=4")


def test_refusal_is_one_line_and_exit_code_2(run):
    before = contents(run)
    job = train(run, *FLAGS, code=2)
    assert job.out == ""
    assert re.fullmatch(r"error: --run-dir: got .*\n", job.err)
    job = train(run, "--bogus", code=2)
    assert re.fullmatch(r"error: .*--bogus.*\n", job.err)
    assert contents(run) == before


def test_run_still_going_on_is_refused_and_not_disturbed(tmp_path, refusal):
    run_dir = tmp_path / "run"
    job = start(run_dir, *QUICK, "--updates=1000000")
    job.wait_until(lambda: updates_done(run_dir) >= 2, "its second update")
    for argv in (["--resume"], [*QUICK]):
        with pytest.raises(UserError, match=f"--run-dir: got {run_dir}, which (belongs to a run still|holds a run)"):
            training.train(Alone(), parse_train([*argv, f"--run-dir={run_dir}"]), None)
    assert job.running
    job.send(signal.SIGTERM, rank=0)
    assert job.wait() == 75
    assert Checkpoint.load(run_dir / "checkpoint.h5").state.update == updates_done(run_dir)


# --- going on ---


def test_resume_of_a_finished_run_changes_nothing_but_says_so(run):
    before = result(run)
    assert train(run, "--resume").out.splitlines()[-4].startswith("done: 25 of 25 updates")
    assert result(run) == before


def test_run_killed_between_checkpoints_goes_on_as_if_it_had_not_been(finished, tmp_path):
    """The rows written after the checkpoint are dropped and made again."""
    run_dir = tmp_path / "run"
    environ = {"QTRL_TEST_FAULT": "SIGKILL 0 16"}
    flags = [*FLAGS, "--env-id=faulty:Faulty-v0"]
    assert start(run_dir, *flags, environ=environ).wait() == -signal.SIGKILL
    assert [row["update"] for row in metrics(run_dir)] == list(range(1, 16))
    assert Checkpoint.load(run_dir / "checkpoint.h5").state.update == 10
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.write('{"update": 16, "rew')
    train(run_dir, "--resume")
    assert result(run_dir) == result(finished[0])  # Faulty-v0 without a fault is CartPole-v1


def test_run_killed_before_its_first_checkpoint_can_be_taken_up(finished, tmp_path):
    """It holds a run, so starting again is refused; --resume must then start from its beginning."""
    run_dir = tmp_path / "run"
    flags = [*FLAGS, "--env-id=faulty:Faulty-v0"]
    assert start(run_dir, *flags, environ={"QTRL_TEST_FAULT": "SIGKILL 0 6"}).wait() == -signal.SIGKILL
    assert updates_done(run_dir) == 5
    train(run_dir, "--resume")
    assert result(run_dir) == result(finished[0])


def test_damaged_newest_checkpoint_is_named_and_the_one_before_is_used(run, finished):
    for name in ("checkpoint.h5", "checkpoint-0000000025.h5"):
        damage(run / name)
    job = train(run, "--resume")
    warnings = job.err.splitlines()
    for name, line in zip(("checkpoint.h5", "checkpoint-0000000025.h5"), warnings, strict=True):
        assert line.startswith(f"warning: {run / name}: is damaged")
        assert "going on from update 20" in line
        assert (run / f"{name}.damaged").exists()
    assert "from update 20 to 25" in job.out
    assert result(run) == result(finished[0])


def test_leftovers_of_a_killed_writer_are_swept_up_when_the_run_is_taken_up(run):
    names = [".checkpoint-0000000002.h5.abc123.tmp", ".checkpoint.h5.999999.tmp", ".status.json.a.tmp"]
    leftovers = [run / name for name in [*names, ".trackers.json.a.tmp", "videos/.update-000005.gif.a.tmp"]]
    (run / "videos").mkdir()
    for leftover in leftovers:
        leftover.write_bytes(b"half")
    RunDirectory(run, resume=True)
    assert not any(leftover.exists() for leftover in leftovers)


def test_resume_may_save_at_other_updates(run, finished):
    """Changes none of the bits, so it is not refused."""
    for update in (20, 25):
        (run / f"checkpoint-00000000{update}.h5").unlink()
    shutil.copy(run / "checkpoint-0000000010.h5", run / "checkpoint.h5")
    train(run, "--resume", "--checkpoint-every=7")
    assert Checkpoint.load(run / "checkpoint-0000000021.h5").state.update == 21
    assert result(run) == result(finished[0])


def test_directory_is_held_until_the_process_ends_and_a_lock_file_left_behind_holds_nothing(tmp_path):
    (tmp_path / ".lock").write_text("")
    RunDirectory(tmp_path, resume=False)
    with pytest.raises(UserError, match=f"--run-dir: got {tmp_path}, which belongs to a run still going on"):
        RunDirectory(tmp_path, resume=False)


LATE = """
import os
import signal

from qtrl_hpc import train


class Late:
    def __del__(self, kill=os.kill, pid=os.getpid(), number=signal.SIGUSR1):
        kill(pid, number)


late = Late()
train.main()
"""


def test_signal_while_the_process_ends_does_not_kill_a_run_that_is_done(tmp_path):
    job = Job([sys.executable, "-c", LATE, *FLAGS, "--run-dir=run"], tmp_path)
    assert job.wait() == 0
    assert json.loads((tmp_path / "run/status.json").read_text())["state"] == "done"
