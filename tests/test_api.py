"""Training from Python: the command's bits, a process that is left as it was found, and types that check."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
from support import QUICK, REPOSITORY, metrics, result, train

import qtrl_hpc
from qtrl_hpc.cli import parse_train
from qtrl_hpc.run_directory import RunDirectory

CONFIG = parse_train([*QUICK, "--updates=25", "--checkpoint-every=10", "--seed=3"]).config
CHANGED = {"env_id": "CartPole-v1", "num_actions": 2, "policy_hidden_sizes": [8], "layers": 1, "qpu": "statevector"}
CHANGED |= {"max_episode_steps": 20, "updates": 25, "checkpoint_every": 10, "seed": 3}


def python(code, cwd):
    environ = {**os.environ, "PYTHONPATH": str(Path(qtrl_hpc.__file__).parents[1])}
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=environ, capture_output=True, text=True, timeout=100, check=False
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_the_bits_are_the_command_s_and_the_result_says_what_is_in_the_files(tmp_path):
    found = qtrl_hpc.train(CONFIG, run_dir=tmp_path / "api")
    train(tmp_path / "command", *QUICK, "--updates=25", "--checkpoint-every=10", "--seed=3")
    assert result(tmp_path / "api") == result(tmp_path / "command")
    for name in ("checkpoint-0000000010.h5", "checkpoint-0000000025.h5"):
        ours, theirs = (h5py.File(tmp_path / each / name).attrs["digest"] for each in ("api", "command"))
        assert ours == theirs
    rows = metrics(tmp_path / "api")
    assert (found.update, found.done, found.why, found.config) == (25, True, None, CONFIG)
    assert found.metrics == rows
    assert found.rewards.tolist() == [row["reward_mean"] for row in rows]
    assert found.reward == pytest.approx(np.mean(found.rewards))  # one episode an update
    assert repr(found) == (
        f"TrainingResult(CartPole-v1, 25 of 25 updates, done, reward {found.reward:.3f}, run_dir='{tmp_path / 'api'}')"
    )
    assert (len(found.Theta), len(found.theta)) == (36 + 1445, 58) == (len(found.Theta), found.spec.num_parameters)


def test_policy_is_the_one_that_an_exported_file_holds(tmp_path):
    from qtrl_hpc import export

    found = qtrl_hpc.train(CONFIG, run_dir=tmp_path / "run")
    assert export.main([str(tmp_path / "run"), "--output", str(tmp_path / "policy.h5")]) == 0
    obs = np.random.default_rng(0).normal(size=(50, 4))
    expected = qtrl_hpc.load_policy(tmp_path / "policy.h5").probabilities(obs)
    assert found.policy().probabilities(obs).tobytes() == expected.tobytes()


def test_policy_may_be_of_a_network_of_the_user_s_own(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "docs/examples")
    config = dataclasses.replace(CONFIG, policy_network="my_network:Residual", updates=2)
    policy = qtrl_hpc.train(config, run_dir=tmp_path / "run").policy()
    assert type(policy.layers).__module__ == "my_network"
    assert policy.probabilities(np.zeros(4)).shape == (2,)


def test_on_update_sees_every_row_and_false_stops_after_the_next_update(tmp_path):
    rows = []

    def three(row):
        rows.append(row)
        return row["update"] != 3

    found = qtrl_hpc.train(CONFIG, run_dir=tmp_path / "run", on_update=three)
    assert (found.update, found.done, found.why) == (4, False, "asked to by on_update")
    assert rows == found.metrics == metrics(tmp_path / "run")
    again = qtrl_hpc.train(CONFIG, run_dir=tmp_path / "run", resume=True, on_update=rows.append)
    assert (again.update, again.done, len(again.metrics)) == (25, True, 25)
    assert rows == again.metrics
    whole = qtrl_hpc.train(CONFIG, run_dir=tmp_path / "whole")
    assert whole.Theta.tobytes() == again.Theta.tobytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_signal_stops_with_a_checkpoint_and_handlers_are_put_back(tmp_path, number):
    def handler(number, frame):
        raise AssertionError

    before = signal.signal(number, handler)
    try:
        found = qtrl_hpc.train(
            CONFIG,
            run_dir=tmp_path / "run",
            on_update=lambda row: os.kill(os.getpid(), number) if row["update"] == 5 else None,
        )
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, before)
    assert (found.update, found.done, found.why) == (6, False, "asked to by a signal")
    assert "stopped: asked to by a signal" in repr(found)


def test_second_interrupt_interrupts_at_once_and_leaves_nothing_held(tmp_path):
    def twice(row):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    threads, handler = threading.active_count(), signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        qtrl_hpc.train(CONFIG, run_dir=tmp_path / "run", on_update=twice)
    assert signal.getsignal(signal.SIGINT) is handler
    assert threading.active_count() == threads
    status = json.loads((tmp_path / "run/status.json").read_text())
    assert (status["state"], status["why"]) == ("stopped", "interrupted")
    assert qtrl_hpc.train(CONFIG, run_dir=tmp_path / "run", resume=True).done


def test_runs_in_a_thread_where_no_signal_is_heard(tmp_path):
    found = []
    thread = threading.Thread(target=lambda: found.append(qtrl_hpc.train(CONFIG, run_dir=tmp_path / "run")))
    thread.start()
    thread.join(60)
    assert found[0].done
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_one_process_runs_again_and_again_also_after_a_failure(tmp_path):
    def breaks(row):
        raise ZeroDivisionError

    threads, handles = threading.active_count(), len(os.listdir("/proc/self/fd"))
    with pytest.raises(ZeroDivisionError):
        qtrl_hpc.train(CONFIG, run_dir=tmp_path / "broken", on_update=breaks)
    assert json.loads((tmp_path / "broken/status.json").read_text())["state"] == "failed"
    with pytest.raises(qtrl_hpc.UserError, match=r"--run-dir: got .*/broken, which holds a run"):
        qtrl_hpc.train(CONFIG, run_dir=tmp_path / "broken")
    other = qtrl_hpc.train(qtrl_hpc.read_config(tmp_path / "broken/config.yaml", seed=4), run_dir=tmp_path / "other")
    assert other.config.seed == 4
    RunDirectory(tmp_path / "other", resume=True).close()  # nobody holds it
    assert qtrl_hpc.train(CONFIG, run_dir=tmp_path / "broken", resume=True).done
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == (threads, handles)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: qtrl_hpc.train({"seed": 1}), "config: got dict, expected a Config"),
        (lambda: qtrl_hpc.train(CONFIG, resume=True), "resume: got no run_dir"),
        (lambda: qtrl_hpc.preset("bogus"), "--preset: got 'bogus'"),
        (lambda: qtrl_hpc.preset("tuned", learning_rate=0), "--learning-rate: got 0"),
        (lambda: qtrl_hpc.preset("tuned", lerning_rate=1), "'lerning_rate'"),
        (lambda: qtrl_hpc.read_config("bogus.yaml"), "bogus.yaml: is not there"),
        (lambda: qtrl_hpc.train(qtrl_hpc.preset("tuned", env_id="Bogus-v0")), "--env-id: got 'Bogus-v0'"),
        (lambda: qtrl_hpc.train(qtrl_hpc.preset("tuned", on_agent_failure="continue")), "--on-agent-failure"),
    ],
)
def test_bad_input_is_a_user_error_of_one_line_and_writes_nothing(call, words, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(qtrl_hpc.UserError) as caught:
        call()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_without_a_run_dir_it_makes_a_new_one_below_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = qtrl_hpc.preset("tuned", **{**CHANGED, "updates": 1})
    found = [qtrl_hpc.train(config).run_dir for _ in range(3)]
    assert len(set(found)) == 3
    assert all(path.parent == Path("runs") and "-api-seed3" in path.name for path in found)


def test_preset_with_changes_is_what_flags_make():
    assert qtrl_hpc.preset("tuned", **CHANGED) == CONFIG
    assert qtrl_hpc.Config() != qtrl_hpc.preset("tuned")


LIGHT = """
import sys
import qtrl_hpc
from qtrl_hpc import Config, UserError
heavy = {"mpi4py", "numba", "qiskit", "torch", "gymnasium", "jsonargparse", "optuna"} & set(sys.modules)
assert not heavy, heavy
assert set(qtrl_hpc.__all__) <= set(dir(qtrl_hpc))
try:
    qtrl_hpc.bogus
except AttributeError as error:
    print(error)
"""


def test_the_package_imports_light_and_knows_its_names(tmp_path):
    assert python(LIGHT, tmp_path) == "module 'qtrl_hpc' has no attribute 'bogus'\n"


@pytest.mark.parametrize(
    "imports",
    [
        "import qtrl_hpc.train; from qtrl_hpc import train",
        "from qtrl_hpc import train; import qtrl_hpc.train",
        "from qtrl_hpc.train import main; from qtrl_hpc import *",
        "import qtrl_hpc; train = qtrl_hpc.train",
    ],
)
def test_train_is_function_and_module_whatever_was_imported_first(imports, tmp_path):
    shown = "print(callable(qtrl_hpc.train.main), *inspect.signature(train).parameters)"
    assert python(f"{imports}\nimport inspect, qtrl_hpc\n{shown}", tmp_path) == "True config run_dir resume on_update\n"


SCRIPT = """
import numpy as np
from numpy.typing import NDArray
from qtrl_hpc import Config, TrainingResult, load_policy, preset, train

def watch(row: dict[str, object]) -> bool | None:
    return None

config: Config = preset("tuned", seed=1)
result: TrainingResult = train(config, run_dir="run", on_update=watch)
rewards: NDArray[np.float64] = result.rewards
probabilities: NDArray[np.float64] = load_policy("policy.h5").probabilities([0.0])
reveal_type(result.update)
train(config, run_dirr="x")
train("tuned")
"""


def test_a_user_s_script_is_type_checked_strictly(tmp_path, pytestconfig):
    """mypy keeps what it knows of torch and NumPy from one call of the tests to the next."""
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--cache-dir",
        str(pytestconfig.cache.mkdir("mypy")),
        "script.py",
    ]
    environ = {**os.environ, "MYPYPATH": str(Path(qtrl_hpc.__file__).parents[1])}
    found = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=200, check=False)
    own = [line for line in found.stdout.splitlines() if line.startswith("script.py")]
    assert [line.split(":")[1] for line in own if ": error:" in line] == ["14", "15"], found.stdout
    assert 'note: Revealed type is "int"' in " ".join(own).replace("builtins.", "")


def test_the_notebook_of_docs_runs(tmp_path):
    code = (REPOSITORY / "docs/examples/notebook.py").read_text()
    out = python(code, tmp_path)
    assert "600 of 600 updates, done" in out
    [folder] = (tmp_path / "runs").iterdir()
    assert (folder / "policy.h5").is_file()
