"""Output that nobody reads, or that cannot be written as it is: commands go on, and end as ever."""

import os
import subprocess
import sys

import pytest
from support import QUICK, TRAIN, Job, metrics
from support_policies import saved_policy

FLOOD = "from qtrl_hpc.streams import harden_streams; harden_streams()\nfor _ in range(20000): print('x' * 50)\n"


def unread(command, stderr=subprocess.PIPE, **settings):
    """Run a command whose stdout goes to a pipe without a reader."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return subprocess.run(command, stdout=writer, stderr=stderr or writer, text=True, timeout=120, **settings)
    finally:
        os.close(writer)


@pytest.mark.parametrize("flags", [[], ["-u"]])
def test_program_goes_on_to_its_end(flags, tmp_path):
    text = f"{FLOOD}open('done', 'w').close()\n"
    found = unread([sys.executable, *flags, "-c", text], cwd=tmp_path)
    assert (found.returncode, found.stderr) == (0, "")
    assert (tmp_path / "done").exists()


def test_without_it_the_same_program_does_not(tmp_path):
    text = FLOOD.replace("harden_streams()\n", "\n")
    assert unread([sys.executable, "-c", text], cwd=tmp_path).returncode != 0


def test_stderr_without_a_reader_is_outlived_too():
    text = "import sys; from qtrl_hpc.streams import harden_streams; harden_streams(); "
    text += "[print('x', file=sys.stderr, flush=True) for _ in range(3)]; sys.exit(3)"
    assert unread([sys.executable, "-c", text], stderr=None).returncode == 3


def test_what_is_read_arrives_whole_and_in_its_encoding():
    text = "from qtrl_hpc.streams import harden_streams; print('ä'); harden_streams(); print('ü' * 100000)"
    environ = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    found = subprocess.run([sys.executable, "-c", text], capture_output=True, check=True, env=environ)
    assert found.stdout == b"\xe4\n" + b"\xfc" * 100000 + b"\n"


def test_a_letter_that_the_encoding_lacks_ends_nothing():
    environ = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "qtrl_hpc.plot", "--help"]
    found = subprocess.run(command, capture_output=True, check=True, env=environ)
    assert b"RUN_DIR [RUN_DIR ?] --output" in b" ".join(found.stdout.split())


def test_streams_closed_from_the_start_go_nowhere():
    text = "import sys; from qtrl_hpc.streams import harden_streams; harden_streams(); "
    text += "print('x'); sys.stdout.flush(); print('x', file=sys.stderr); sys.exit(3)"
    found = subprocess.run(["bash", "-c", 'exec "$0" -c "$1" >&- 2>&-', sys.executable, text], check=False)
    assert found.returncode == 3


def test_a_run_whose_output_nobody_reads_is_trained_to_its_end(tmp_path):
    found = unread([*TRAIN, *QUICK, "--updates=3", "--run-dir=run"], cwd=tmp_path)
    assert (found.returncode, found.stderr) == (0, "")
    assert [row["update"] for row in metrics(tmp_path / "run")] == [1, 2, 3]


def test_episodes_that_nobody_reads_of_are_not_played(tmp_path):
    saved_policy(tmp_path / "policy.h5", "CartPole-v1", 2)
    command = [sys.executable, "-m", "qtrl_hpc.infer", "policy.h5", "--episodes", "1000000"]  # an hour of them
    found = unread(command, cwd=tmp_path)
    assert (found.returncode, found.stderr) == (0, "")


def test_a_second_interrupt_ends_a_run_at_once_with_one_line(tmp_path):
    (tmp_path / "impatient.py").write_text(
        "import os, signal, gymnasium\n"
        "class Env(gymnasium.Wrapper):\n"
        "    def __init__(self):\n"
        "        super().__init__(gymnasium.make('CartPole-v1'))\n"
        "    def step(self, action):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        return super().step(action)\n"
    )
    flags = [flag for flag in QUICK if not flag.startswith("--env-id")]
    job = Job([*TRAIN, *flags, "--env-id=impatient:Env", "--updates=3", "--run-dir=run"], tmp_path)
    assert job.wait() == 130
    assert job.err == "interrupted: what came after the newest checkpoint is lost\n"
    assert '"why": "interrupted"' in (tmp_path / "run/status.json").read_text()


def test_a_card_is_known_again_whatever_the_locale(tmp_path):
    text = "from pathlib import Path; from qtrl_hpc.model_card import write_card; path = Path('card.md'); "
    text += "print([write_card(path, '# \\u00fc\\n') for _ in range(2)])"
    environ = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-c", text]
    found = subprocess.run(command, capture_output=True, check=True, text=True, env=environ, cwd=tmp_path)
    assert found.stdout == "[True, True]\n"
