"""What code of the user's own returns at its first call and in mid-training: one line that names it, or its traceback.

Modules of the user's own: support_own.
"""

import json

import pytest
from support import QUICK, train_here, updates_done

from qtrl_hpc.cli import parse_train
from qtrl_hpc.episode import check_plays
from qtrl_hpc.errors import UserError

ROOM = [*QUICK, "--env-id=support_own:Room", "--policy-hidden-sizes=[2]"]
LONG = ["--updates=1000", "--checkpoint-every=10", "--trackers=[]"]
STEP = "expected step to return (observation, reward, terminated, truncated, info), the reward a number, got a tuple of"

AT_FIRST = {
    "NoInfo": "expected reset to return (observation, info), got float32 of (2,)",
    "FourValues": f"{STEP} 4: (float32 of (2,), a float, a bool, a dict)",
    "WordyReward": f"{STEP} 5: (float32 of (2,), a str, a bool, a bool, a dict)",
    "Wide": "expected observations of shape (2,), got float64 of (3,)",
    "Column": "expected observations of shape (2,), got float32 of (2, 1)",
    "Complex": "expected observations of shape (2,), got complex128 of (2,)",
    "Blind": "expected observations of finite numbers",
    "EndlessReward": "expected step to return a finite reward, got inf",
}


@pytest.mark.parametrize("name", AT_FIRST)
def test_environment_that_returns_something_else_is_refused_before_anything_is_written(tmp_path, name):
    with pytest.raises(UserError) as caught:
        train_here(tmp_path / "run", *ROOM, f"--env-id=support_own:{name}", *LONG)
    assert str(caught.value) == f"--env-id: got 'support_own:{name}', {AT_FIRST[name]}"
    assert not (tmp_path / "run").exists()


def test_what_an_environment_raises_at_its_first_step_is_left_as_it_is(tmp_path):
    with pytest.raises(RuntimeError, match=r"^a stone$"):
        train_here(tmp_path / "run", *ROOM, "--env-id=support_own:Stumbles", *LONG)


@pytest.mark.parametrize("env_id", ["support_own:Room", "support_own:room", "support_own:OwnHall-v3"])
def test_environment_that_returns_what_it_must_is_left_alone(env_id):
    config = parse_train([*ROOM, f"--env-id={env_id}"]).config
    check_plays(config)


def test_environment_that_is_there_only_once_at_a_time_can_be_trained_in(tmp_path):
    """A simulator behind a port, say: what was tried before the run is closed before the run's own is made."""
    train_here(tmp_path / "run", *ROOM, "--env-id=support_own:Single", "--updates=2", "--trackers=[]")
    assert updates_done(tmp_path / "run") == 2


MAPPING, QPU = "expected {} to return float64 of shape {}, got {}", "--qpu=support_own:"
LATER = {
    "LateForward": (
        [*QUICK, "--mapping=support_own:LateForward"],
        MAPPING.format("forward", "(58,)", "float64 of (57,)"),
    ),
    "LatePullback": (
        [*QUICK, "--mapping=support_own:LatePullback"],
        MAPPING.format("pullback", "(1445,)", "float32 of (1445,)"),
    ),
    "LateProbabilities": (
        [*QUICK, f"{QPU}LateProbabilities"],
        MAPPING.format("probabilities", "(64,)", "float64 of (65,)"),
    ),
    "LateGradient": ([*QUICK, f"{QPU}LateGradient"], MAPPING.format("pullback", "(36,)", "float64 of (1,)")),
    "LateJobs": (
        [*QUICK, f"{QPU}LateJobs", "--gradient=parameter-shift", "--ansatz=real-amplitudes"],
        "expected jobs to give 24 rows, got 23",
    ),
    "LateJobs, each agent by itself": (
        [*QUICK, f"{QPU}LateJobs", "--gradient=spsa"],
        "expected jobs to give 2 rows, got 1",
    ),
    "Grows": (
        [*QUICK, "--policy-network=support_own:Grows"],
        "expected a network that returns torch.float64 of (1, 2), got torch.float64 of (1, 3)",
    ),
    "LateNoInfo": (
        [*ROOM, "--env-id=support_own:LateNoInfo"],
        "expected reset to return (observation, info), got float32 of (2,)",
    ),
    "LateFourValues": ([*ROOM, "--env-id=support_own:LateFourValues"], f"{STEP} 4: (float32 of (2,), a float, "),
    "LateWide": ([*ROOM, "--env-id=support_own:LateWide"], "expected observations of shape (2,), got float64 of (3,)"),
}


@pytest.mark.parametrize("name", LATER)
def test_something_else_in_mid_training_ends_the_run_in_one_line_that_names_the_object(tmp_path, name):
    flags, words = LATER[name]
    own = name.partition(",")[0]
    with pytest.raises(UserError, match=rf"^--[a-z-]+: got 'support_own:{own}', expected ") as caught:
        train_here(tmp_path / "run", *flags, *LONG)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    status = json.loads((tmp_path / "run/status.json").read_text())
    assert (status["state"], status["why"]) == ("failed", f"rank 0: {caught.value}")
    if name != "Grows":  # in its very first episode
        assert updates_done(tmp_path / "run") > 0


@pytest.mark.parametrize(
    ("flags", "kind", "words"),
    [
        ([*QUICK, "--mapping=support_own:LateRaise"], RuntimeError, "not\ntoday"),
        ([*ROOM, "--env-id=support_own:LateStumble"], ValueError, "a stone"),
    ],
)
def test_what_it_raises_in_mid_training_is_left_as_it_is(tmp_path, flags, kind, words):
    """A ValueError too, which is what most of what is wrong with shapes would raise."""
    with pytest.raises(kind) as caught:
        train_here(tmp_path / "run", *flags, *LONG)
    assert (type(caught.value), str(caught.value)) == (kind, words)
    assert any("support_own" in str(each.path) for each in caught.traceback)
    assert updates_done(tmp_path / "run") > 0
