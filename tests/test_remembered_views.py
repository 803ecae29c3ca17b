"""Views taken from memory are the ones that MiniGrid would compute, bit for bit."""

import gymnasium
import minigrid  # noqa: F401  (registers its environments)
import numpy as np
import pytest

from qtrl_hpc.environment import make_environment
from qtrl_hpc.remembered_views import RememberedViews

# A grid that stays, one that is another each time, walls that hide, a box of balls to carry, doors and keys, lava.
REMEMBERED = (
    "MiniGrid-Empty-5x5-v0",
    "MiniGrid-Empty-Random-6x6-v0",
    "MiniGrid-FourRooms-v0",
    "MiniGrid-DoorKey-6x6-v0",
    "MiniGrid-LockedRoom-v0",
    "MiniGrid-LavaCrossingS9N1-v0",
)


@pytest.mark.parametrize("env_id", REMEMBERED)
@pytest.mark.parametrize("num_actions", [3, 7])
def test_every_step_is_as_without_memory(env_id, num_actions):
    """Every action, those that change the grid included, in episodes of the same grid and of others."""
    ours, plain = make_environment(env_id), gymnasium.make(env_id)
    assert isinstance(ours, RememberedViews)
    rng = np.random.default_rng(0)
    for episode in (0, 1, 0):
        seen, expected = ours.reset(seed=episode)[0], plain.reset(seed=episode)[0]
        over = False
        for _ in range(200):
            assert seen["image"].tobytes() == expected["image"].tobytes()
            assert (seen["direction"], seen["mission"]) == (expected["direction"], expected["mission"])
            if over:
                break
            action = int(rng.integers(num_actions))
            (seen, *ends), (expected, *expected_ends) = ours.step(action), plain.step(action)
            assert ends == expected_ends
            over = ends[1] or ends[2]


def test_an_object_moved_is_seen():
    """Pick up the key, turn away and back: the place is the same, the view another."""
    env = make_environment("MiniGrid-DoorKey-6x6-v0")
    env.reset(seed=0)
    inner = env.unwrapped
    place = next((x, y) for x in range(6) for y in range(6) if getattr(inner.grid.get(x, y), "type", "") == "key")
    inner.agent_pos, inner.agent_dir = (place[0], place[1] + 1), 3
    before = env.step(0)[0] and env.step(1)[0]["image"]
    after = env.step(3)[0]["image"]
    assert inner.carrying is not None
    assert before.tobytes() != after.tobytes()


def test_a_view_is_computed_once_a_place_and_may_be_written_to(monkeypatch):
    env = make_environment("MiniGrid-Empty-5x5-v0")
    computed = []
    slow = env._compute
    monkeypatch.setattr(env, "_compute", lambda: computed.append(1) or slow())
    first = env.reset(seed=0)[0]["image"]
    kept = first.copy()
    first[:] = 0
    for action in (0, 0, 0):
        env.step(action)
    assert (env.step(0)[0]["image"] == kept).all()
    assert len(computed) == 4


@pytest.mark.parametrize("env_id", ["MiniGrid-Dynamic-Obstacles-5x5-v0", "MiniGrid-Fetch-5x5-N2-v0", "CartPole-v1"])
def test_environments_that_do_more_in_a_step_are_left_as_they_are(env_id):
    assert not isinstance(make_environment(env_id), RememberedViews)
