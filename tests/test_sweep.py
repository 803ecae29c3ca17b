"""Sweeps: the space is checked first, workers share one study, whatever stops goes on, and the best can be trained."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml
from support import REPOSITORY, Job, contents, metrics, result, updates_done

from qtrl_hpc import api
from qtrl_hpc.cli import parse_train
from qtrl_hpc.errors import UserError
from qtrl_hpc.sweep.__main__ import parse
from qtrl_hpc.sweep.space import Choice, Range, read_space
from qtrl_hpc.sweep.study import Study

FIXED = {"env_id": "CartPole-v1", "num_actions": 2, "policy_hidden_sizes": [8], "qpu": "statevector"}
FIXED |= {"max_episode_steps": 20, "updates": 40, "layers": 1}
SPACE = {
    "learning_rate": {"low": 0.001, "high": 0.1, "log": True},
    "mapping_hidden_sizes": {"choices": [[10], [10, 16, 10]]},
    "gamma": {"low": 0.9, "high": 1.0, "step": 0.05},
}


def written(folder, space=SPACE, **fixed):
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump({**FIXED, **fixed, "space": space}))
    return path


def start(folder, *flags, ranks=None, environ=None):
    command = [sys.executable, "-m", "qtrl_hpc.sweep", f"--config={folder / 'space.yaml'}", *flags]
    return Job(command, folder, ranks, environ or {})


def sweep(folder, *flags, code=0, ranks=None):
    job = start(folder, *flags, ranks=ranks)
    found = job.wait()
    assert found == code, f"exit code {found}, expected {code}\n{job.out[-2000:]}\n{job.err[-4000:]}"
    return job


def rows(folder):
    with (folder / "sweeps/space/trials.csv").open() as file:
        return list(csv.DictReader(file))


def trial(folder, number):
    return folder / f"sweeps/space/trial-{number:04d}"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    written(folder)
    return folder, sweep(folder, "--trials=9")


def test_every_trial_is_a_run_and_the_table_has_them_all(finished):
    folder, job = finished
    found = rows(folder)
    assert [row["trial"] for row in found] == [str(number) for number in range(9)]
    assert {row["state"] for row in found} <= {"done", "pruned"}
    assert job.err == ""
    for row in found:
        run_dir = trial(folder, int(row["trial"]))
        config = parse_train([f"--config={run_dir}/config.yaml"]).config
        assert float(row["learning_rate"]) == config.learning_rate
        assert json.loads(row["mapping_hidden_sizes"]) == list(config.mapping_hidden_sizes)
        assert min(abs(config.gamma - step) for step in (0.9, 0.95, 1.0)) < 1e-12
        assert (config.env_id, config.updates, config.layers) == ("CartPole-v1", 40, 1)
        state = json.loads((run_dir / "status.json").read_text())["state"]
        assert state == {"done": "done", "pruned": "stopped"}[row["state"]]
        if row["state"] == "done":
            rewards = [each["reward_mean"] for each in metrics(run_dir)]  # one episode an update
            assert float(row["value"]) == pytest.approx(sum(rewards) / 40)
    ended = re.findall(r"^trial +(\d+)  (done|pruned)", job.out, re.MULTILINE)
    assert ended == [(row["trial"], row["state"]) for row in found]


def test_best_yaml_trains_the_best_trial_again(finished, tmp_path):
    folder, job = finished
    best = max((row for row in rows(folder) if row["state"] == "done"), key=lambda row: float(row["value"]))
    assert f"best {float(best['value']):.4f}, trial {best['trial']}" in job.out
    api.train(
        parse_train([f"--config={folder}/sweeps/space/best.yaml", "--preset=paper"]).config, run_dir=tmp_path / "run"
    )
    assert result(tmp_path / "run") == result(trial(folder, int(best["trial"])))


def test_the_same_command_does_nothing_more_and_a_larger_number_adds_trials(finished, tmp_path):
    folder, _ = finished
    before = contents(folder / "sweeps")
    again = sweep(folder, "--trials=9")
    assert "9 trials: " in again.out
    assert contents(folder / "sweeps") == before
    flags = [f"--config={folder / 'space.yaml'}", "--trials=10", f"--sweep-dir={tmp_path / 'other'}"]
    other = Job([sys.executable, "-m", "qtrl_hpc.sweep", *flags], tmp_path)
    assert sweep(folder, "--trials=10").wait() == other.wait() == 0
    # The seed decides what is drawn: alone, another sweep draws the same.
    with (tmp_path / "other/trials.csv").open() as file:
        assert list(csv.DictReader(file)) == rows(folder)


def test_workers_share_one_study_and_no_trial_is_lost_or_made_twice(tmp_path):
    written(tmp_path)
    workers = [start(tmp_path, "--trials=8", "--pruner=none") for _ in range(2)]
    assert [worker.wait() for worker in workers] == [0, 0], workers[0].err + workers[1].err
    assert [row["state"] for row in rows(tmp_path)] == ["done"] * 8
    made = [re.findall(r"^trial +(\d+)  done", worker.out, re.MULTILINE) for worker in workers]
    assert sorted(map(int, made[0] + made[1])) == list(range(8))
    assert len(list((tmp_path / "sweeps/space").glob("trial-*"))) == 8


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_trial_goes_on_where_it_was_when_the_command_comes_again(tmp_path, number):
    written(tmp_path, updates=300, checkpoint_every=20)
    job = start(tmp_path, "--trials=2")
    # Not at a multiple of 15, where the pruner is told: who is killed with a lock has the next one wait for 30 s.
    job.wait_until(lambda: updates_done(trial(tmp_path, 0)) >= 33, "update 33 of the first trial")
    job.send(number, rank=0)
    assert job.wait() == (75 if number == signal.SIGTERM else -signal.SIGKILL)
    done = updates_done(trial(tmp_path, 0))
    assert 30 <= done < 300
    if number == signal.SIGTERM:
        assert [row["state"] for row in rows(tmp_path)] == ["running"]
    sweep(tmp_path, "--trials=2")
    assert [row["state"] for row in rows(tmp_path)] == ["done", "done"]
    api.train(parse_train([f"--config={trial(tmp_path, 0)}/config.yaml"]).config, run_dir=tmp_path / "whole")
    assert result(tmp_path / "whole") == result(trial(tmp_path, 0))


def test_a_trial_that_is_being_worked_on_is_left_alone(tmp_path):
    written(tmp_path, updates=100_000)
    job = start(tmp_path, "--trials=1")
    job.wait_until(lambda: updates_done(trial(tmp_path, 0)) >= 2, "the first trial")
    other = sweep(tmp_path, "--trials=1")
    assert "1 trials: 1 running" in other.out
    assert job.running
    job.send(signal.SIGINT, rank=0)
    assert job.wait() == 75


def test_failed_trials_are_not_the_end_but_many_in_a_row_are(tmp_path):
    written(tmp_path, {"learning_rate": {"choices": [0.01, 1.0e308]}})
    sweep(tmp_path, "--trials=6", "--optimizer=sgd")
    states = {row["learning_rate"]: row["state"] for row in rows(tmp_path)}
    assert states["1e+308"] == "failed"
    assert states["0.01"] in ("done", "pruned")
    assert all("is not finite" in row["why"] for row in rows(tmp_path) if row["state"] == "failed")
    assert "learning_rate: 0.01\n" in (tmp_path / "sweeps/space/best.yaml").read_text()
    written(tmp_path, {"learning_rate": {"choices": [1.0e307, 1.0e308]}})
    job = sweep(tmp_path, "--trials=50", "--optimizer=sgd", "--sweep-dir=worse", code=1)
    [error] = job.errors
    assert error.startswith(
        "error: 5 trials in a row have failed, the last one: update 2: the gradient or a reward of rank 0"
    )


def test_where_all_trials_have_failed_the_command_fails(tmp_path):
    written(tmp_path, {"learning_rate": {"choices": [1.0e307, 1.0e308]}})
    job = sweep(tmp_path, "--trials=2", "--optimizer=sgd", code=1)
    [error] = job.errors
    assert error.startswith("error: all 2 trials have failed, the last one: update 2: the gradient or a reward of rank")
    assert "2 trials: 2 failed" in job.out


def test_fixed_values_that_no_trial_could_have_are_refused_before_the_first(tmp_path):
    written(tmp_path)
    job = sweep(tmp_path, "--trials=3", "--ansatz=nowhere_here:x", code=2)
    assert job.out == ""
    assert job.err.startswith("error: --ansatz: got 'nowhere_here:x', expected a module that can be imported")
    assert job.err.count("\n") == 1
    assert not (tmp_path / "sweeps").exists()


def test_a_trial_that_was_cut_off_by_a_second_ctrl_c_goes_on(tmp_path):
    written(tmp_path, env_id="faulty:Faulty-v0")
    job = start(tmp_path, "--trials=2", environ={"QTRL_TEST_FAULT": "sleep 0 3"})
    job.wait_until(lambda: updates_done(trial(tmp_path, 0)) >= 2, "update 2 of the first trial")
    job.send(signal.SIGINT, rank=0)
    job.wait_until(lambda: (job.send(signal.SIGINT, rank=0), time.sleep(0.2), not job.running)[2], "its end")
    assert job.wait() not in (0, 75)
    status = json.loads((trial(tmp_path, 0) / "status.json").read_text())
    assert (status["state"], status["why"]) == ("stopped", "interrupted")
    sweep(tmp_path, "--trials=2")
    assert [row["state"] for row in rows(tmp_path)] == ["done", "done"]


def test_a_trial_whose_process_died_of_an_error_is_failed_and_not_tried_again(tmp_path):
    written(tmp_path, env_id="faulty:Faulty-v0")
    job = start(tmp_path, "--trials=2", environ={"QTRL_TEST_FAULT": "raise 0 3"})
    assert job.wait() == 1
    assert "the pole broke" in job.err
    sweep(tmp_path, "--trials=2")
    assert [(row["state"], row["why"]) for row in rows(tmp_path)] == [
        ("failed", "rank 0: RuntimeError: the pole broke"),
        ("done", ""),
    ]


def test_values_that_do_not_go_together_are_a_failed_trial(tmp_path):
    space = {"steps_per_update": {"choices": [16, 1]}, "gamma": {"low": 0.9, "high": 1.0}}
    path = written(tmp_path, space, advantage="standardised")
    with pytest.raises(UserError, match=r"space: steps_per_update: --steps-per-update: got 1, expected at least 2"):
        read_space(path, {})


def test_another_sweep_in_the_directory_is_refused_with_what_differs(finished):
    folder, _ = finished
    before = contents(folder / "sweeps")
    for values, agents, words in (
        ({"seed": 1}, 1, "seed: got 1, expected 0 as in"),
        ({}, 2, "--agents-per-rank: ranks times agents make 2, expected 1 agents"),
    ):
        with pytest.raises(UserError, match=words):
            Study(folder / "sweeps/space", read_space(folder / "space.yaml", values), "median", agents)
    other = {**SPACE, "gamma": {"low": 0.8, "high": 1.0}}
    (folder / "other.yaml").write_text(yaml.safe_dump({**FIXED, "space": other}))
    flags = [f"--config={folder}/other.yaml", "--trials=9", "--sweep-dir=sweeps/space"]
    job = Job([sys.executable, "-m", "qtrl_hpc.sweep", *flags], folder)
    assert job.wait() == 2
    assert "error: space: gamma: got {'low': 0.8, 'high': 1.0}, expected {'low': 0.9" in job.err
    assert contents(folder / "sweeps") == before


def test_a_last_line_of_the_journal_that_was_not_written_whole_is_cut_off(tmp_path):
    space = read_space(written(tmp_path), {})
    assert Study(tmp_path / "x", space, "none", 1).claim(5).number == 0
    with (tmp_path / "x/journal.log").open("a") as file:
        file.write('{"op_code":')
    study = Study(tmp_path / "x", space, "none", 1)
    assert [study.claim(5).number, study.claim(5).number] == [1, 2]  # the first is still held, by this process
    assert Study(tmp_path / "x", space, "none", 1).claim(3) is None


REFUSED = {
    "no space": ({}, "space: expected NAME: {low, high}"),
    "space of nothing": ({"space": {}}, "space: expected NAME"),
    "misspelt fixed key": ({"lerning_rate": 0.1, "space": SPACE}, "'lerning_rate'"),
    "misspelt key of the space": (
        {"space": {"lerning_rate": {"low": 0, "high": 1}}},
        "space: got the key 'lerning_rate'",
    ),
    "fixed value out of range": ({"layers": 0, "space": SPACE}, "--layers: got 0"),
    "low out of range": ({"space": {"gamma": {"low": -1.0, "high": 1.0}}}, "--gamma: got -1.0"),
    "high out of range": ({"space": {"gamma": {"low": 0.5, "high": 1.5}}}, "space: gamma: --gamma: got 1.5"),
    "choice out of range": ({"space": {"optimizer": {"choices": ["adam", "bogus"]}}}, "--optimizer: got"),
    "no whole number": ({"space": {"layers": {"low": 1.5, "high": 3}}}, "--layers: got 1.5"),
    "text in a range": ({"space": {"gamma": {"low": "much", "high": 1.0}}}, "--gamma: got much"),
    "range of words": ({"space": {"optimizer": {"low": "adam", "high": "sgd"}}}, "space: optimizer: got low and high"),
    "upside down": ({"space": {"gamma": {"low": 1.0, "high": 0.5}}}, "expected a low below high"),
    "log from 0": (
        {"space": {"spsa_alpha": {"low": 0.0, "high": 1.0, "log": True}}},
        "space: spsa_alpha: got log True",
    ),
    "log with steps": ({"space": {"layers": {"low": 1, "high": 3, "log": True, "step": 1}}}, "space: layers: got log"),
    "step that leads past": ({"space": {"layers": {"low": 1, "high": 4, "step": 2}}}, "space: layers: got step 2"),
    "unknown key of a range": (
        {"space": {"gamma": {"low": 0, "high": 1, "lgo": True}}},
        "space: gamma: got the key 'lgo'",
    ),
    "both": ({"space": {"gamma": {"low": 0, "high": 1, "choices": [1]}}}, "space: gamma: got the key 'choices'"),
    "neither": ({"space": {"gamma": 0.5}}, "space: 'gamma': got 0.5, expected {low, high}"),
    "no choices": ({"space": {"gamma": {"choices": []}}}, "space: gamma: got choices []"),
    "a choice twice": ({"space": {"gamma": {"choices": [0.9, 0.9]}}}, "got a choice twice"),
    "fixed too": ({"gamma": 0.9, "space": SPACE}, "space: gamma is fixed in the same file"),
    "no such preset": ({"preset": "bogus", "space": SPACE}, "--preset: got 'bogus'"),
}


@pytest.mark.parametrize(("text", "words"), REFUSED.values(), ids=REFUSED)
def test_space_is_refused_in_one_line_that_names_file_and_key(tmp_path, text, words):
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump(text))
    with pytest.raises(UserError) as caught:
        parse([f"--config={path}", "--trials=5"])
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_space_is_read_with_its_types(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(
        "preset: paper\nspace:\n  learning_rate: {low: 1e-4, high: 1, log: true}\n"
        "  layers: {low: 1, high: 7, step: 2}\n"
        "  logit_penalty_half_life: {choices: [null, 100]}\n  policy_hidden_sizes: {choices: [[8], [16, 16]]}\n"
    )
    space = read_space(path, {"seed": 7})
    assert space.dimensions == (
        Range("learning_rate", 1e-4, 1.0, True),
        Range("layers", 1, 7, False, 2),
        Choice("logit_penalty_half_life", (None, 100.0)),
        Choice("policy_hidden_sizes", ([8], [16, 16])),
    )
    assert (space.config.optimizer, space.config.seed) == ("sgd", 7)
    assert type(space).from_json(space.to_json()) == space
    config = space.config_of({"layers": 5, "policy_hidden_sizes": [16, 16]})
    assert (config.layers, config.policy_hidden_sizes) == (5, (16, 16))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--trials=0"], "--trials"),
        (["--trials=5", "--pruner=bogus"], "--pruner"),
        (["--trials=5", "--gamma=0.5"], "space: gamma is fixed by its flag"),
        (["--trials=5", "--bogus=1"], "--bogus"),
        ([], "--trials"),
    ],
)
def test_flags_are_refused_in_one_line_and_nothing_is_written(tmp_path, flags, words, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = contents(tmp_path) | {(path := written(tmp_path)).relative_to(tmp_path): path.read_bytes()}
    with pytest.raises(UserError, match=words):
        parse([f"--config={path}", *flags])
    assert contents(tmp_path) == before


def test_without_optuna_it_says_what_to_install(tmp_path):
    path = written(tmp_path)
    code = "import sys; sys.modules['optuna'] = None; from qtrl_hpc.sweep.__main__ import main; main()"
    job = Job([sys.executable, "-c", code, f"--config={path}", "--trials=2"], tmp_path)
    assert job.wait() == 2
    assert job.err == "error: qtrl_hpc.sweep: needs Optuna: pip install 'qtrl_hpc[sweep]'\n"
    assert not os.path.exists(tmp_path / "sweeps")


# --- under Slurm ---

MPIRUN = '#!/bin/sh\necho "mpirun $*" >> log\nexit "${MPIRUN_EXITS-0}"\n'
SCONTROL = '#!/bin/sh\necho "scontrol $*" >> log\n'
PYTHON = '#!/bin/sh\n[ "$1" = jobs/without_sigterm.py ] && shift && exec "$@"\n'


@pytest.fixture
def job(tmp_path):
    """A clone with nothing in it but jobs/, and stand-ins that only write down how they are called."""
    shutil.copytree(REPOSITORY / "jobs", tmp_path / "jobs")
    (tmp_path / "bin").mkdir()
    for name, text in (("mpirun", MPIRUN), ("scontrol", SCONTROL), ("python", PYTHON)):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    slurm = {"JOB_ID": "7", "JOB_NAME": "first", "SUBMIT_DIR": str(tmp_path), "JOB_NODELIST": "n1", "NTASKS": "4"}

    def run(**variables):
        environ = {f"SLURM_{name}": value for name, value in slurm.items()} | {"HOME": str(tmp_path)}
        environ |= {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", **variables}
        command = ["bash", tmp_path / "jobs/search.sbatch", "--config", "space.yaml", "--trials", "5"]
        found = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
        return found.returncode, (tmp_path / "log").read_text().splitlines(), found.stderr

    return run


def test_slurm_job_works_on_the_study_of_its_name_and_takes_another(job):
    flags = "--threads 1 --config space.yaml --trials 5"
    command = f"mpirun -n 4 python -m qtrl_hpc.sweep --sweep-dir sweeps/first {flags}"
    assert job()[:2] == (0, [command])
    assert job(SWEEP_DIR="x")[1][1].split()[6:8] == ["--sweep-dir", "x"]


@pytest.mark.parametrize(("code", "requeued"), [(75, True), (137, True), (1, False), (2, False)])
def test_slurm_job_that_was_stopped_comes_back_and_one_that_is_refused_does_not(job, code, requeued):
    found, log, said = job(MPIRUN_EXITS=str(code))
    assert (found, "scontrol requeue 7" in log) == (code, requeued)
    assert f"search {'stopped' if code == 75 else 'refused' if code == 2 else 'failed'} (exit code {code})" in said
    assert "scontrol requeue 7" not in job(MPIRUN_EXITS=str(code), SLURM_RESTART_COUNT="20")[1][len(log) :]
