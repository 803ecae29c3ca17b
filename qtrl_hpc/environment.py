"""Gymnasium and MiniGrid environments, and the random streams of a run."""

import enum
import warnings
from typing import Any

import gymnasium
import numpy as np

from qtrl_hpc import registry
from qtrl_hpc.config import EnvironmentConfig, PolicyConfig
from qtrl_hpc.errors import ReturnedError, UserError, one_line
from qtrl_hpc.policy import MLP, PolicySpec
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
    """Make a Gymnasium environment by its name, or by MODULE:OBJECT.

    Args:
        env_id: Gymnasium's name, with MODULE: in front where importing that module registers it; or MODULE:OBJECT, a
            function or class of the user's own that returns an environment.
        render_mode: how it draws, ``rgb_array`` for pictures; None: not at all.

    Raises:
        UserError: there is none of that name, or it cannot be made.
    """
    # Not every constructor knows a render_mode.
    options: dict[str, Any] = {} if render_mode is None else {"render_mode": render_mode}
    is_grid = env_id.startswith(MINIGRID_PREFIXES)
    if is_grid:
        import minigrid  # noqa: F401  (registers its environments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        own, why_not = _of_the_user(env_id)
        if own is not None:
            return _made_by(own, env_id, options)
        try:
            env = gymnasium.make(env_id, **options)
        except Exception as error:  # an environment's own constructor may raise anything
            reason = f"{type(error).__name__}: {one_line(error)}"
            raise UserError(
                f"--env-id: got {env_id!r}, expected an environment that Gymnasium can make{why_not}{_closest(env_id)} "
                f"({reason})"
            ) from error
    return RememberedViews(env) if is_grid and can_remember(env) else env


def _of_the_user(env_id: str) -> tuple[Any, str]:
    """Return the object that MODULE:OBJECT names, or None and in words why not.

    Gymnasium's own MODULE:NAME looks alike where the name has no version: then the module has no such object.
    """
    if ":" not in env_id:
        return None, ""
    registry.look_in_current_folder()
    if not registry.is_own(env_id):
        return None, ""
    try:
        return registry.imported(env_id), ""
    except ValueError as error:
        return None, f", or {str(error).removeprefix('expected ')}"


def _made_by(own: Any, env_id: str, options: dict[str, Any]) -> gymnasium.Env:
    expected = "a function that returns a gymnasium.Env"
    try:
        env = registry.made(expected, lambda: own(**options))
        if not isinstance(env, gymnasium.Env):
            raise ValueError(f"expected {expected}, which returned {registry.kind_of(env)}")
    except ValueError as error:
        raise UserError(f"--env-id: got {env_id!r}, {error}") from None
    return env


def _closest(env_id: str) -> str:
    """Return words: which registered names are close to one, or how many there are."""
    import minigrid  # noqa: F401  (registers its environments)

    close = registry.did_you_mean(env_id, gymnasium.registry, most=3)
    return close or f" (one of {len(gymnasium.registry)} names, which gymnasium.pprint_registry() prints)"


RESET = "(observation, info)"
STEP = "(observation, reward, terminated, truncated, info), the reward a number"


def misreturned(method: str, expected: str, found: object) -> ReturnedError:
    """Return what to raise where an environment's method has returned something else than it must."""
    return ReturnedError(f"expected {method} to return {expected}, got {registry.described(found)}")


def policy_spec(env: gymnasium.Env, environment: EnvironmentConfig, policy: PolicyConfig) -> PolicySpec:
    """Return the policy that fits an environment.

    Raises:
        UserError: its actions are not discrete, there are fewer than asked for, its observation is no box or image, or
            the policy's network is none.
    """
    num_actions = _num_actions(env.action_space, environment)
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
    spec = PolicySpec(
        obs_shape=tuple(map(int, box.shape)),
        hidden_sizes=policy.policy_hidden_sizes,
        num_actions=num_actions,
        activation=policy.policy_activation,
        observation_key=key,
        observation_scale=environment.observation_scale,
        max_episode_steps=environment.max_episode_steps,
    )
    if policy.policy_network == MLP:
        return spec
    from qtrl_hpc.policy_network import with_network  # not at the top: it imports torch

    try:
        return with_network(spec, policy.policy_network)
    except ValueError as error:
        raise UserError(f"--policy-network: got {policy.policy_network!r}, {error}") from None


def _num_actions(actions: gymnasium.Space[Any], environment: EnvironmentConfig) -> int:
    """Return how many actions are used: as many as was asked for, or all."""
    if not isinstance(actions, gymnasium.spaces.Discrete):
        raise UserError(f"--env-id: {environment.env_id} has actions {actions}, expected discrete ones")
    if actions.start != 0:
        raise UserError(f"--env-id: {environment.env_id} numbers its actions from {actions.start}, expected from 0")
    asked = environment.num_actions
    if asked is not None and asked > actions.n:
        raise UserError(f"--num-actions: got {asked}, expected at most {actions.n}, which {environment.env_id} has")
    return int(actions.n) if asked is None else asked


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
