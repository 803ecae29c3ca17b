"""Play a policy file in its environment: ``python -m qtrl_hpc.evaluate policy.h5 --episodes 100``."""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import gymnasium
from rich.progress import Progress, track

from qtrl_hpc.animation import check_drawn, check_gif, record_episodes, write_gif
from qtrl_hpc.command import OneLineParser, run_refusing, whole_number
from qtrl_hpc.environment import check_fits, make_environment
from qtrl_hpc.errors import EXIT_DONE, UserError
from qtrl_hpc.evaluation import Outcome, outcome
from qtrl_hpc.inference import Policy, checked_device
from qtrl_hpc.output_file import refusing_unwritable
from qtrl_hpc.play import Act, play_episode
from qtrl_hpc.policy_file import PolicyFile
from qtrl_hpc.registry import naming

GIF_EPISODES = 3


@dataclass(frozen=True, kw_only=True)
class Evaluation(Outcome):
    """What a policy earned over some episodes, and which."""

    policy: str
    env_id: str
    episodes: int
    seed: int
    greedy: bool


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_refusing(command, argv)


def command(argv: list[str]) -> int:
    """Read the command line, play, and print the result.

    Raises:
        UserError: naming the flag or file, what was got and what is expected.
    """
    options = _parser().parse_args(argv)
    animated = _episodes_to_animate(options)
    file = PolicyFile.load(options.policy)
    env_id = chosen_environment(file, options.policy, options.env_id)
    env = make_environment(env_id)
    check_fits(env, file.spec, env_id, str(options.policy))
    policy = Policy(file.spec, file.theta, options.policy_network).to(checked_device(options.device))
    if animated:
        check_drawn(env_id)  # or it would be refused after all episodes were played
    result = evaluate(policy, env, options.policy, env_id, options.episodes, options.seed, greedy=options.greedy)
    print(json.dumps(asdict(result)) if options.json else _sentence(result), flush=True)
    if animated:
        _animate(policy, env_id, options, animated)
    return EXIT_DONE


def chosen_environment(file: PolicyFile, source: Path, given: str | None) -> str:
    """Return the environment to play in: the one that was given, else the policy's own.

    Args:
        file: the policy.
        source: where it comes from, for the refusal.
        given: what ``--env-id`` says.

    Raises:
        UserError: none was given, and the policy's own is in a module, which a stranger's file may not have imported.
    """
    return trusted(f"{source}:", "environment", "--env-id", file.env_id, given)


def trusted(who: str, what: str, flag: str, named: str, given: str | None) -> str:
    """Return what the user names, else what a file does, unless that may be in a module of whoever made the file.

    Args:
        who: names it, for the refusal.
        what: it is, for the refusal.
        flag: by which the user names it.
        named: by the file.
        given: by the user, who may name a module; None where nothing.

    Raises:
        UserError: the file names a module, and the user does not.
    """
    if given is None and ":" in named:
        raise UserError(
            f"{who} names the {what} {named!r}, whose module would be imported; "
            f"expected {flag} {named} from you, if you trust it"
        )
    return named if given is None else given


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
    act = acting(policy, greedy=greedy)
    with naming("env-id", env_id):
        played = [play_episode(act, env, seed, episode, most_steps=policy.spec.max_episode_steps) for episode in shown]
    found = outcome(played, env, seed)
    return Evaluation(policy=str(source), env_id=env_id, episodes=episodes, seed=seed, greedy=greedy, **asdict(found))


def acting(policy: Policy, *, greedy: bool) -> Act:
    """Return what chooses a policy's actions: draws them, or takes the most probable one each time."""
    return (lambda obs, rng: int(policy.act(obs))) if greedy else policy.sample


def _parser() -> OneLineParser:
    parser = OneLineParser(prog="qtrl_hpc.evaluate", description=__doc__, allow_abbrev=False)
    parser.add_argument("policy", type=Path, help="policy file (.h5, .safetensors or .onnx)")
    parser.add_argument("--episodes", type=whole_number(1), default=100, help="episodes to play (default: 100)")
    parser.add_argument("--seed", type=whole_number(0), default=0, help="of every random stream (default: 0)")
    parser.add_argument("--greedy", action="store_true", help="take the most probable action instead of drawing one")
    parser.add_argument("--env-id", help="another environment than the policy was trained in")
    parser.add_argument(
        "--policy-network", metavar="MODULE:OBJECT", help="the policy's network, where it is not ours: it is imported"
    )
    parser.add_argument("--device", default="cpu", help="where the policy runs: cpu or cuda (default: cpu)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--gif", type=Path, metavar="FILE.gif", help="also draw episodes, as an animation")
    parser.add_argument(
        "--gif-episodes",
        type=whole_number(1),
        metavar="N",
        help=f"the first N of them (default: {GIF_EPISODES}; with --video-every as many as there are)",
    )
    parser.add_argument("--video-every", type=whole_number(1), metavar="K", help="every K-th episode alone")
    return parser


def _episodes_to_animate(options: argparse.Namespace) -> range | None:
    """Return the numbers of the episodes to draw, None without ``--gif``.

    Raises:
        UserError: the file could not be written, or flags of it are given without it.
    """
    if options.gif is None:
        for flag, value in (("--gif-episodes", options.gif_episodes), ("--video-every", options.video_every)):
            if value is not None:
                raise UserError(f"{flag}: got {value} without --gif, expected the file to draw to")
        return None
    check_gif(options.gif, "--gif")
    drawn = range(0, options.episodes, options.video_every or 1)
    count = options.gif_episodes or (len(drawn) if options.video_every else GIF_EPISODES)
    return drawn[:count]


def _animate(policy: Policy, env_id: str, options: argparse.Namespace, episodes: range) -> None:
    """Play the episodes once more, by their numbers the same, and draw them: those that count are not disturbed."""
    with Progress(transient=True, disable=not sys.stdout.isatty()) as progress:
        task = progress.add_task("drawing", total=len(episodes))
        frames = record_episodes(
            acting(policy, greedy=options.greedy),
            env_id,
            seed=options.seed,
            episodes=episodes,
            most_steps=policy.spec.max_episode_steps,
            say=lambda _: progress.advance(task),
        )
    with refusing_unwritable(options.gif, "--gif"):
        size = write_gif(options.gif, frames)
    print(f"{options.gif}: {len(episodes)} episodes, {len(frames)} frames, {size / 1000:.0f} kB", file=sys.stderr)


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
