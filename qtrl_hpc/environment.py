"""Gymnasium and MiniGrid environments, and the random streams of a run."""

import enum
import warnings
from typing import Any

import gymnasium
import numpy as np

from qtrl_hpc.config import EnvironmentConfig, PolicyConfig
from qtrl_hpc.errors import UserError, one_line
from qtrl_hpc.policy import PolicySpec
from qtrl_hpc.remembered_views import RememberedViews, can_remember

MINIGRID_PREFIXES = ("MiniGrid-", "BabyAI-")


class Purpose(enum.IntEnum):
    """What a random stream is for: the first word of its key."""

    INITIAL = 0
    ACTIONS = 1
    ENVIRONMENT = 2
    EVALUATION_ACTIONS = 3
    EVALUATION_ENVIRONMENT = 4
    BOOTSTRAP = 5
    FEATURES = 6
    SHOTS = 7
    PERTURBATIONS = 8
    NOISE = 9
    POLICY_SHOTS = 10


def seed_sequence(
    seed: int, purpose: Purpose, agent: int = 0, episode: int = 0, *further: int
) -> np.random.SeedSequence:
    """Return the random stream of one purpose, agent and episode (or update, and its job).

    Streams are counted, not continued: no generator's state lives from one update to the next, so an agent plays the
    same episode on whatever rank it is, and a resumed run needs the update's number alone.
    """
    return np.random.SeedSequence(seed, spawn_key=(int(purpose), agent, episode, *further))


def reset_seed(sequence: np.random.SeedSequence) -> int:
    """Return the number to give to ``env.reset(seed=…)``, or to a simulator."""
    return int(sequence.generate_state(1)[0])


def make_environment(env_id: str, render_mode: str | None = None) -> gymnasium.Env:
    """Make a Gymnasium environment by its name.

    Args:
        env_id: its name.
        render_mode: how it draws, ``rgb_array`` for pictures; None: not at all.

    Raises:
        UserError: there is none of that name, or it cannot be made.
    """
    is_grid = env_id.startswith(MINIGRID_PREFIXES)
    if is_grid:
        import minigrid  # noqa: F401  (registers its environments)
    # Not every constructor knows a render_mode.
    options: dict[str, Any] = {} if render_mode is None else {"render_mode": render_mode}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            env = gymnasium.make(env_id, **options)
    except Exception as error:  # an environment's own constructor may raise anything
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise UserError(
            f"--env-id: got {env_id!r}, expected an environment that Gymnasium can make ({reason})"
        ) from error
    return RememberedViews(env) if is_grid and can_remember(env) else env


def policy_spec(env: gymnasium.Env, environment: EnvironmentConfig, policy: PolicyConfig) -> PolicySpec:
    """Return the policy that fits an environment.

    Raises:
        UserError: its actions are not discrete, there are fewer than asked for, or its observation is no box or image.
    """
    actions = env.action_space
    if not isinstance(actions, gymnasium.spaces.Discrete):
        raise UserError(f"--env-id: {environment.env_id} has actions {actions}, expected discrete ones")
    if actions.start != 0:
        raise UserError(f"--env-id: {environment.env_id} numbers its actions from {actions.start}, expected from 0")
    num_actions = int(actions.n) if environment.num_actions is None else environment.num_actions
    if num_actions > actions.n:
        raise UserError(
            f"--num-actions: got {num_actions}, expected at most {actions.n}, which {environment.env_id} has"
        )
    key, box = _observation_box(env.observation_space)
    if box is None:
        raise UserError(
            f"--env-id: {environment.env_id} observes {env.observation_space}, expected a box of numbers, "
            "or a dictionary with a box named 'image'"
        )
    if 0 in box.shape:
        raise UserError(
            f"--env-id: {environment.env_id} observes {env.observation_space}, expected at least one number"
        )
    return PolicySpec(
        obs_shape=tuple(map(int, box.shape)),
        hidden_sizes=policy.policy_hidden_sizes,
        num_actions=num_actions,
        activation=policy.policy_activation,
        observation_key=key,
        observation_scale=environment.observation_scale,
        max_episode_steps=environment.max_episode_steps,
    )


def check_fits(env: gymnasium.Env, spec: PolicySpec, env_id: str, source: str) -> None:
    """Refuse a policy whose sizes do not fit an environment.

    Raises:
        UserError: naming ``source``, what it needs and what the environment has.
    """
    key, box = _observation_box(env.observation_space)
    if box is None or box.shape != spec.obs_shape or key != spec.observation_key:
        raise UserError(
            f"{source}: reads observations of shape {spec.obs_shape}, but {env_id} has {env.observation_space}"
        )
    actions = env.action_space
    if not isinstance(actions, gymnasium.spaces.Discrete) or actions.start != 0 or actions.n < spec.num_actions:
        raise UserError(f"{source}: chooses among actions 0 to {spec.num_actions - 1}, but {env_id} has {actions}")


def _observation_box(space: gymnasium.Space[Any]) -> tuple[str | None, gymnasium.spaces.Box | None]:
    if isinstance(space, gymnasium.spaces.Box):
        return None, space
    if isinstance(space, gymnasium.spaces.Dict) and isinstance(space.get("image"), gymnasium.spaces.Box):
        return "image", space["image"]  # type: ignore[return-value]
    return None, None
