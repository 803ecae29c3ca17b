"""What trackers are handed, read back with their own readers; evaluations and animations during a training."""

import json
import os
import random
import shutil
import struct
import sys

import numpy as np
import pytest
from support import QUICK, Job, metrics, result, train, train_here
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

from qtrl_hpc import evaluate, export
from qtrl_hpc.animation import gif
from qtrl_hpc.config import Config
from qtrl_hpc.errors import UserError
from qtrl_hpc.monitoring import Sight
from qtrl_hpc.recorder import Recorder
from qtrl_hpc.run_directory import RunDirectory
from qtrl_hpc.status import Status
from qtrl_hpc.trackers import Tracking
from qtrl_hpc.trackers.event_file import masked_crc
from qtrl_hpc.trackers.tags import Totals, evaluation_tags, update_tags
from qtrl_hpc.trackers.tensorboard import TensorBoard

FLAGS = [*QUICK, "--updates=25", "--checkpoint-every=10", "--seed=3"]
# Tag -> what it must be of a row of metrics.jsonl.
SAME = {
    "rollout/ep_rew_mean": "reward_mean",
    "rollout/ep_len_mean": "episode_length_mean",
    "train/grad_norm": "grad_norm",
    "quantum/probability_entropy": "probability_entropy",
    "quantum/participation_ratio": "participation_ratio",
    "quantum/grad_norm_phi": "grad_norm_phi",
    "quantum/grad_norm_beta": "grad_norm_beta",
    "mpi/wait": "seconds_waiting",
    "mpi/reduce": "seconds_reduction",
    "seconds/circuit": "seconds_circuit",
}


def events(run_dir):
    """What TensorBoard reads."""
    found = EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    return found.Reload()


def scalars(found, tag):
    return [(each.step, each.value) for each in found.Scalars(tag)]


def expected(rows, key):
    """Of rows, with the numbers as event files hold them."""
    return [(row["update"], float(np.float32(row[key]))) for row in rows]


def evaluations(run_dir):
    return [json.loads(line) for line in (run_dir / "evaluations.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A run with everything on that was not stopped."""
    run_dir = tmp_path_factory.mktemp("watched") / "run"
    flags = ["--evaluate-every=5", "--evaluate-episodes=4", "--video-every=10"]
    train(run_dir, *FLAGS, *flags)
    return run_dir


@pytest.fixture(scope="module")
def resumed(watched, tmp_path_factory):
    """That run as a kill between two checkpoints leaves it, gone on to update 30."""
    run_dir = tmp_path_factory.mktemp("resumed") / "run"
    shutil.copytree(watched, run_dir)
    for name in ("checkpoint.h5", "checkpoint-0000000025.h5"):
        (run_dir / name).unlink()
    (run_dir / "checkpoint.h5").hardlink_to(run_dir / "checkpoint-0000000020.h5")
    train(run_dir, "--resume", "--updates=30")
    return run_dir


def test_tags_of_a_row_by_hand():
    """The third update, 40 steps in half a second; learning rate 0.1·2^(−2/2), SPSA's gain (1 + 1)/(1 + 2 + 1)."""
    row = {"update": 3, "steps": 40, "seconds": 0.5, "reward_mean": None, "entropy_mean": 0.25, "grad_norm": 2.0}
    row |= {"circuits": 6, "seconds_waiting": 0.125}
    config = Config(learning_rate=0.1, learning_rate_half_life=2, logit_penalty=0.5, logit_penalty_half_life=1)
    assert update_tags(row, config, Totals(100, 1.5), 4) == {
        "time/iterations": 3.0,
        "train/grad_norm": 2.0,
        "quantum/circuits": 6.0,
        "mpi/wait": 0.125,
        "seconds/update": 0.5,
        "time/total_timesteps": 100.0,
        "time/time_elapsed": 1.5,
        "time/fps": 80.0,
        "train/entropy_loss": -0.25,
        "train/learning_rate": 0.05,
        "train/logit_penalty": 0.125,
        "mpi/ranks": 4.0,
    }
    spsa = Config(gradient="spsa", learning_rate=0.1, spsa_alpha=1.0, spsa_stability=1.0)
    values = update_tags({**row, "ranks": 3}, spsa, Totals(), 4)
    assert values["train/learning_rate"] == pytest.approx(0.1 * 2.0 / 4.0)
    assert values["mpi/ranks"] == 3.0
    seen = {"update": 5, "reward_mean": 0.5, "reward_low": None, "success_rate": 1.0, "episode_length_mean": 8.0}
    assert evaluation_tags(seen) == {"eval/mean_reward": 0.5, "eval/success_rate": 1.0, "eval/mean_ep_length": 8.0}


@pytest.mark.parametrize("size", [4, 8, 1023, 1024, 1025, 1027, 1028, 1029, 2048, 2050, 5000])
def test_checksum_is_tensorboards(size):
    data = random.Random(size).randbytes(size)
    assert masked_crc(data) == masked_crc32c(data)


def test_tensorboard_reads_what_metrics_say(watched):
    found, rows = events(watched), metrics(watched)
    for tag, key in SAME.items():
        assert scalars(found, tag) == expected(rows, key), tag
    assert [step for step, _ in scalars(found, "time/iterations")] == list(range(1, 26))
    steps = np.cumsum([row["steps"] for row in rows])
    assert [value for _, value in scalars(found, "time/total_timesteps")] == steps.tolist()
    seen = evaluations(watched)
    assert [row["update"] for row in seen] == [5, 10, 15, 20, 25]
    assert scalars(found, "eval/mean_reward") == expected(seen, "reward_mean")
    [text] = found.Tensors("configuration")
    assert "    env_id: CartPole-v1" in text.tensor_proto.string_val[0].decode()


def test_a_resumed_run_has_each_update_once(resumed):
    """Updates 21 to 25 were made twice, in two event files."""
    assert len(list((resumed / "tensorboard").iterdir())) == 2
    found, rows = events(resumed), metrics(resumed)
    assert [row["update"] for row in rows] == list(range(1, 31))
    for tag, key in SAME.items():
        assert scalars(found, tag) == expected(rows, key), tag
    assert [step for step, _ in scalars(found, "eval/mean_reward")] == [5, 10, 15, 20, 25, 30]
    steps = np.cumsum([row["steps"] for row in rows])
    assert [value for _, value in scalars(found, "time/total_timesteps")] == steps.tolist()


def test_evaluations_of_a_resumed_run_are_those_of_one_that_was_not_stopped(resumed, watched):
    without_time = [{name: row[name] for name in row if name != "seconds"} for row in evaluations(resumed)]
    assert [row["update"] for row in without_time] == [5, 10, 15, 20, 25, 30]
    assert without_time[:5] == [{name: row[name] for name in row if name != "seconds"} for row in evaluations(watched)]


def test_updates_cut_back_while_the_run_goes_on_are_read_once(tmp_path):
    tracker = TensorBoard(tmp_path / "tensorboard", 0, "about")
    for update in (1, 2, 3):
        tracker.log(update, {"a": float(update)})
    tracker.cut_back(1)
    tracker.log(2, {"a": 20.0, "b": 1.0})
    tracker.close(done=True)
    assert scalars(events(tmp_path), "a") == [(1, 1.0), (2, 20.0)]


def test_event_file_of_a_second_start_is_read_last(tmp_path):
    """Both starts are within one second, and readers go by names."""
    for update in (0, 1):
        tracker = TensorBoard(tmp_path / "tensorboard", update, "about")
        tracker.log(update + 1, {"a": float(update)})
        tracker.close(done=True)
    assert scalars(events(tmp_path), "a") == [(1, 0.0), (2, 1.0)]


def test_watching_changes_nothing_of_what_is_trained(watched, tmp_path):
    train_here(tmp_path / "run", *FLAGS, "--trackers=[]")
    assert result(tmp_path / "run") == result(watched)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert not names & {"tensorboard", "evaluations.jsonl", "videos", "trackers.json"}


def test_evaluation_is_what_the_command_finds(watched, tmp_path, capsys):
    """The last evaluation has the weights of the last checkpoint, and the same episodes."""
    policy = str(tmp_path / "policy.h5")
    assert export.main([str(watched), "--output", policy, "--episodes=0"]) == 0
    capsys.readouterr()
    assert evaluate.main([policy, "--episodes=4", "--seed=3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    last = evaluations(watched)[-1]
    assert last["episodes"] == 4
    for key in ("reward_mean", "reward_low", "reward_high", "success_rate", "episode_length_mean"):
        assert last[key] == found[key], key


def test_animations_are_in_the_run_and_on_tensorboards_page(watched, resumed):
    assert sorted(path.name for path in (watched / "videos").iterdir()) == ["update-000010.gif", "update-000020.gif"]
    images = events(watched).Images("eval/episode")
    assert [image.step for image in images] == [10, 20]
    content = (watched / "videos" / "update-000010.gif").read_bytes()
    assert images[0].encoded_image_string == content
    assert content.startswith(b"GIF89a")
    size = [int.from_bytes(content[at : at + 2], "little") for at in (6, 8)]
    assert [images[0].width, images[0].height] == size
    assert min(size) > 100
    names = sorted(path.name for path in (resumed / "videos").iterdir())
    assert names == [f"update-0000{update}.gif" for update in (10, 20, 30)]


def test_training_imports_no_torch_for_it(tmp_path):
    program = (
        "import sys, runpy\n"
        "try: runpy.run_module('qtrl_hpc.train', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules and 'tensorflow' not in sys.modules"
    )
    flags = [*QUICK, "--updates=2", "--evaluate-every=1", "--evaluate-episodes=2", "--video-every=2"]
    job = Job([sys.executable, "-c", program, *flags, f"--run-dir={tmp_path}/run"], tmp_path)
    assert job.wait() == 0, job.err
    assert "evaluation after update 2: mean reward" in job.out


@pytest.mark.parametrize(
    ("flag", "module", "extra"),
    [
        ("--trackers=[tensorboard,wandb]", "wandb", "wandb"),
        ("--trackers=[mlflow]", "alembic", "mlflow"),
        ("--video-every=5", "imageio", "report"),
    ],
)
def test_a_missing_package_is_refused_at_the_start(tmp_path, monkeypatch, flag, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError) as refusal:
        train_here(tmp_path / "run", *FLAGS, flag)
    line = str(refusal.value)
    assert line.startswith(flag.partition("=")[0])
    assert module in line
    assert line.endswith(f"pip install 'qtrl_hpc[{extra}]'")
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """A run for both services that a kill between two checkpoints has left at update 25, gone on from 20 to 27."""
    pytest.importorskip("wandb")
    pytest.importorskip("mlflow")
    run_dir = tmp_path_factory.mktemp("tracked") / "run"
    job = train(run_dir, *FLAGS, "--trackers=[wandb,mlflow]")
    assert job.err == ""
    assert "wandb" not in job.out
    (run_dir / "checkpoint-0000000025.h5").unlink()
    (run_dir / "checkpoint.h5").unlink()
    (run_dir / "checkpoint.h5").hardlink_to(run_dir / "checkpoint-0000000020.h5")
    train(run_dir, "--resume", "--updates=27")
    return run_dir


def test_weights_and_biases_goes_on_under_one_id(tracked):
    identity = json.loads((tracked / "trackers.json").read_text())["wandb"]
    first, second = (
        _wandb_rows(folder / f"run-{identity}.wandb")
        for folder in sorted((tracked / "wandb").glob(f"offline-run-*-{identity}"))
    )
    assert [row["_step"] for row in first] == list(range(1, 26))
    assert [row["_step"] for row in second] == list(range(21, 28))
    entropies = [row["quantum/probability_entropy"] for row in first[:20] + second]
    assert entropies == [row["probability_entropy"] for row in metrics(tracked)]


def _wandb_rows(path):
    """The history in a file of W&B's: LevelDB's log format (blocks of 32 KiB, pieces of records) after 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, data, rows = path.read_bytes(), 7, b"", []
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        size, kind = struct.unpack("<HB", content[at + 4 : at + 7])
        data += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last piece
            record = Record.FromString(data)
            data = b""
            if record.HasField("history"):
                items = record.history.item
                rows.append({item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items})
    return rows


def test_mlflow_goes_on_in_one_run_and_has_each_update_once(tracked):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{tracked}/mlflow.db")
    identity = json.loads((tracked / "trackers.json").read_text())["mlflow"]
    run = client.get_run(identity)
    assert run.info.status == "FINISHED"
    assert run.data.params["env_id"] == "CartPole-v1"
    history = client.get_metric_history(identity, "quantum/participation_ratio")
    found = sorted((metric.step, metric.value) for metric in history)
    assert found == [(row["update"], row["participation_ratio"]) for row in metrics(tracked)]


def test_mlflow_is_told_what_was_on_the_way_when_the_process_before_was_killed(tmp_path):
    """Of eleven updates, each with an evaluation, it was sent four; then one is taken back and made again."""
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    from qtrl_hpc.trackers.mlflow import MLflow

    config = Config()
    rows = [{"update": n, "steps": 4, "seconds": 0.5, "entropy_mean": 0.1, "grad_norm": n / 8} for n in range(1, 12)]
    seen = [{"update": n, "reward_mean": n / 4} for n in range(1, 12)]
    killed = Tracking([MLflow(tmp_path, config)], config, 2, Totals())
    for row, evaluation in zip(rows, seen, strict=True):
        killed.update(row)
        killed.evaluation(evaluation)
        if row["update"] == 4:
            killed.flush()
    heir = Tracking([MLflow(tmp_path, config)], config, 2, Totals.of(rows[:10]))
    heir.catch_up(rows[:10], seen[:10], 10)
    heir.cut_back(9, Totals.of(rows[:9]))
    for row, evaluation in zip(rows[9:], seen[9:], strict=True):
        heir.update(row)
        heir.evaluation(evaluation)
    heir.close(done=True)
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    identity = json.loads((tmp_path / "trackers.json").read_text())["mlflow"]

    def history(tag):
        return sorted((metric.step, metric.value) for metric in client.get_metric_history(identity, tag))

    assert history("train/grad_norm") == [(n, n / 8) for n in range(1, 12)]
    assert history("eval/mean_reward") == [(n, n / 4) for n in range(1, 12)]
    assert history("time/total_timesteps") == [(n, 4.0 * n) for n in range(1, 12)]


def test_what_was_seen_already_is_not_told_again(tmp_path):
    """Where ranks die, those left look at the policy of the update that they go back to."""
    directory = RunDirectory(tmp_path / "run", resume=False)
    recorder = Recorder(directory, 0, Config(updates=9), 1, Status(directory.path, 9, 1), quiet=True)
    sight = Sight(3, {"update": 3, "reward_mean": 0.5, "episodes": 1}, gif([np.zeros((20, 30, 3), np.uint8)]))
    with recorder:
        recorder.seen(sight)
        recorder.cut_back(3)
        recorder.seen(sight)
    found = events(directory.path)
    assert [image.step for image in found.Images("eval/episode")] == [3]
    assert scalars(found, "eval/mean_reward") == [(3, 0.5)]
    assert [row["update"] for row in evaluations(directory.path)] == [3]


def test_what_ended_a_run_is_not_hidden_by_files_that_cannot_be_closed(tmp_path, monkeypatch):
    """A full disk: the row that could not be written is tried once more when its file is closed."""
    closed = []
    monkeypatch.setattr(Tracking, "close", lambda self, *, done: closed.append(done))
    recorder = Recorder(
        RunDirectory(tmp_path / "run", resume=False), 0, Config(), 1, Status(tmp_path, 9, 1), quiet=True
    )
    monkeypatch.setattr(recorder._metrics, "close", lambda: os.write(os.open("/dev/full", os.O_WRONLY), b"x"))
    with pytest.raises(KeyError), recorder:
        raise KeyError
    assert closed == [False]
