"""N agents are N agents, however they are shared out over ranks."""

import numpy as np
import pytest
from support import QUICK, metrics, result, train

from qtrl_hpc.checkpoint import Checkpoint

pytestmark = pytest.mark.mpi

MINIGRID = ["--env-id=MiniGrid-Empty-5x5-v0", "--preset=qtrl", "--max-episode-steps=20", "--seed=1"]
LAYOUTS = [(1, 8), (2, 4), (4, 2), (8, 1)]


@pytest.fixture(scope="module")
def eight_agents(tmp_path_factory):
    """Run eight agents on so many ranks; each layout once."""
    folder, done = tmp_path_factory.mktemp("layouts"), {}

    def run(ranks, *flags):
        if (ranks, flags) not in done:
            run_dir = folder / f"run{len(done)}"
            train(run_dir, f"--agents-per-rank={8 // ranks}", *flags, ranks=ranks)
            done[ranks, flags] = run_dir
        return done[ranks, flags]

    return run


@pytest.mark.parametrize(("ranks", "agents_per_rank"), LAYOUTS[1:])
def test_ordered_reduction_gives_the_same_bits_on_any_number_of_ranks(eight_agents, ranks, agents_per_rank):
    flags = [*QUICK, "--reduction=ordered", "--updates=50", "--episodes-per-update=2"]
    one, many = eight_agents(1, *flags), eight_agents(ranks, *flags)
    assert result(many) == result(one)
    checkpoint = Checkpoint.load(many / "checkpoint.h5")
    assert (checkpoint.state.update, checkpoint.num_agents, checkpoint.world_size) == (50, 8, ranks)
    assert checkpoint.config.agents_per_rank == agents_per_rank


@pytest.mark.parametrize("ranks", [2, 8])
def test_steps_per_update_give_the_same_bits_on_any_number_of_ranks(eight_agents, ranks):
    flags = [*QUICK, "--reduction=ordered", "--updates=30", "--steps-per-update=9"]
    one, many = eight_agents(1, *flags), eight_agents(ranks, *flags)
    assert result(many) == result(one)
    assert [row["steps"] for row in metrics(many)] == [72] * 30
    assert (Checkpoint.load(many / "checkpoint.h5").running.length > 0).sum() > 4


def test_ordered_reduction_gives_the_same_bits_for_the_papers_system_with_aer(eight_agents):
    flags = [*MINIGRID, "--reduction=ordered", "--updates=4"]
    assert result(eight_agents(4, *flags)) == result(eight_agents(1, *flags))


@pytest.mark.parametrize("more", [[], ["--steps-per-update=15"]], ids=["episodes", "steps"])
@pytest.mark.parametrize("ranks", [2, 4])
def test_allreduce_differs_from_the_ordered_sum_by_rounding_alone(eight_agents, ranks, more):
    """With plain gradient ascent: Adam would divide the rounding of a gradient that is zero by itself."""
    flags = [*QUICK, "--updates=6", "--optimizer=sgd", "--learning-rate=1", *more]
    ordered, fast = eight_agents(1, *flags, "--reduction=ordered"), eight_agents(ranks, *flags, "--reduction=allreduce")
    expected, found = (Checkpoint.load(run_dir / "checkpoint.h5").state.to_vector() for run_dir in (ordered, fast))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)
    assert found.tobytes() != expected.tobytes(), "the sums are the same ones"
    for one, other in zip(metrics(ordered), metrics(fast), strict=True):
        for name in ("episodes", "steps", "reward_mean", "episode_length_mean", "entropy_mean", "grad_norm"):
            assert other[name] == pytest.approx(one[name], rel=1e-10)


def test_agents_play_different_episodes(eight_agents):
    """Eight copies of one agent would have a mean return that is a whole number at every update."""
    rows = metrics(
        eight_agents(2, *QUICK, "--updates=6", "--optimizer=sgd", "--learning-rate=1", "--reduction=allreduce")
    )
    assert not all(float(row["reward_mean"]).is_integer() for row in rows)
    assert len({row["reward_mean"] for row in rows}) > 3
