"""Play a policy file in its environment: ``python -m qtrl_hpc.evaluate policy.h5 --episodes 100``."""

import json
import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from qtrl_hpc.cli import OneLineParser, run_refusing, whole_number
from qtrl_hpc.environment import Purpose, check_fits, make_environment, reset_seed, seed_sequence
from qtrl_hpc.errors import EXIT_DONE, UserError
from qtrl_hpc.inference import Policy, checked_device
from qtrl_hpc.policy_file import PolicyFile

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a policy earned over some episodes."""

    policy: str
    env_id: str
    episodes: int
    seed: int
    greedy: bool
    reward_mean: float
    reward_low: float | None
    """Lower end of the 95% bootstrap interval of the mean; None where one episode alone was played."""
    reward_high: float | None
    success_rate: float
    success_means: str
    """What counts as success in this environment."""
    episode_length_mean: float


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_refusing(lambda: command(sys.argv[1:] if argv is None else argv))


def command(argv: list[str]) -> int:
    """Read the command line, play, and print the result.

    Raises:
        UserError: naming the flag or file, what was got and what is expected.
    """
    options = _parser().parse_args(argv)
    file = PolicyFile.load(options.policy)
    if options.env_id is None and ":" in file.env_id:
        raise UserError(
            f"{options.policy}: names the environment {file.env_id!r}, whose module would be imported; "
            f"expected --env-id {file.env_id} from you, if you trust it"
        )
    env_id = file.env_id if options.env_id is None else options.env_id
    env = make_environment(env_id)
    check_fits(env, file.spec, env_id, str(options.policy))
    policy = Policy(file.spec, file.theta, options.policy_network).to(checked_device(options.device))
    result = evaluate(policy, env, options.policy, env_id, options.episodes, options.seed, greedy=options.greedy)
    print(json.dumps(asdict(result)) if options.json else _sentence(result))
    return EXIT_DONE


def evaluate(
    policy: Policy, env: gymnasium.Env, source: Path, env_id: str, episodes: int, seed: int, *, greedy: bool
) -> Evaluation:
    """Play episodes and return what they earned: the same result for the same seed.

    Args:
        policy: to play.
        env: to play in.
        source: the policy's file, for the result.
        env_id: the environment's name, for the result.
        episodes: how many.
        seed: of every random stream.
        greedy: take the most probable action, rather than draw one.
    """
    numbers = range(episodes)
    shown = track(numbers, "evaluating", transient=True) if sys.stdout.isatty() else numbers
    played = [play_episode(policy, env, seed, episode, greedy=greedy) for episode in shown]
    rewards = np.array([reward for reward, _, _ in played])
    threshold = env.spec.reward_threshold if env.spec else None
    if played[0][2] is not None:
        success_means, successes = "the environment's own is_success", np.array([own for _, _, own in played], bool)
    elif threshold is not None:
        success_means, successes = f"a return of at least {threshold}", rewards >= threshold
    else:
        success_means, successes = "a return above 0", rewards > 0.0
    low, high = bootstrap_interval(rewards, seed)
    return Evaluation(
        policy=str(source),
        env_id=env_id,
        episodes=episodes,
        seed=seed,
        greedy=greedy,
        reward_mean=float(rewards.mean()),
        reward_low=low,
        reward_high=high,
        success_rate=float(successes.mean()),
        success_means=success_means,
        episode_length_mean=float(np.mean([length for _, length, _ in played])),
    )


def play_episode(
    policy: Policy, env: gymnasium.Env, seed: int, episode: int, *, greedy: bool
) -> tuple[float, int, bool | None]:
    """Play one episode, to its end or to ``policy.spec.max_episode_steps``.

    Returns:
        Sum of rewards, number of steps, and the environment's own ``is_success`` where it tells.
    """
    rng = np.random.default_rng(seed_sequence(seed, Purpose.EVALUATION_ACTIONS, 0, episode))
    obs, _ = env.reset(seed=reset_seed(seed_sequence(seed, Purpose.EVALUATION_ENVIRONMENT, 0, episode)))
    total, length, over = 0.0, 0, False
    info: dict[str, Any] = {}
    while not over and length < policy.spec.max_episode_steps:
        action = policy.act(obs) if greedy else policy.sample(obs, rng)
        obs, reward, terminated, truncated, info = env.step(action)
        total, length, over = total + float(reward), length + 1, terminated or truncated
    return total, length, info.get("is_success")


def bootstrap_interval(rewards: NDArray[np.float64], seed: int) -> tuple[float | None, float | None]:
    """Return the 95% bootstrap interval (bias-corrected and accelerated) of the mean, shape (episodes,) -> two numbers.

    Where all rewards are the same, so are the ends; from one reward there is no interval.
    """
    from scipy.stats import bootstrap

    if len(rewards) < 2:
        return None, None
    if np.ptp(rewards) == 0.0:
        return float(rewards[0]), float(rewards[0])
    rng = np.random.default_rng(seed_sequence(seed, Purpose.BOOTSTRAP))
    interval = bootstrap((rewards,), np.mean, confidence_level=CONFIDENCE, rng=rng).confidence_interval
    low, high = float(interval.low), float(interval.high)
    return (None, None) if math.isnan(low) or math.isnan(high) else (low, high)


def _parser() -> OneLineParser:
    parser = OneLineParser(prog="qtrl_hpc.evaluate", description=__doc__, allow_abbrev=False)
    parser.add_argument("policy", type=Path, help="policy file (.h5)")
    parser.add_argument("--episodes", type=whole_number(1), default=100, help="episodes to play (default: 100)")
    parser.add_argument("--seed", type=whole_number(0), default=0, help="of every random stream (default: 0)")
    parser.add_argument("--greedy", action="store_true", help="take the most probable action instead of drawing one")
    parser.add_argument("--env-id", help="another environment than the policy was trained in")
    parser.add_argument(
        "--policy-network", metavar="MODULE:OBJECT", help="the policy's network, where it is not ours: it is imported"
    )
    parser.add_argument("--device", default="cpu", help="where the policy runs: cpu or cuda (default: cpu)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _sentence(result: Evaluation) -> str:
    if result.reward_low is None or result.reward_high is None:
        interval = "no interval from one episode"
    else:
        interval = f"95% interval {result.reward_low:.4f} to {result.reward_high:.4f}"
    how = "greedy" if result.greedy else "sampled"
    return (
        f"{result.policy} in {result.env_id}, {result.episodes} episodes, {how}, seed {result.seed}\n"
        f"  mean reward     {result.reward_mean:.4f}  ({interval})\n"
        f"  success rate    {result.success_rate:.1%}  ({result.success_means})\n"
        f"  episode length  {result.episode_length_mean:.1f}"
    )


if __name__ == "__main__":
    sys.exit(main())
