"""Let a policy act: ``python -m qtrl_hpc.infer policy.h5 --episodes 5``. Needs no MPI and nothing quantum."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from qtrl_hpc import npy_format
from qtrl_hpc.command import OneLineParser, run_refusing, whole_number
from qtrl_hpc.environment import check_fits, make_environment
from qtrl_hpc.errors import EXIT_DONE, UserError, one_line
from qtrl_hpc.evaluate import acting, chosen_environment
from qtrl_hpc.inference import Policy, checked_device
from qtrl_hpc.output_file import write_output
from qtrl_hpc.play import play_episode
from qtrl_hpc.policy_file import PolicyFile
from qtrl_hpc.registry import naming
from qtrl_hpc.streams import nobody_reads

_ROWS = 8192  # of a batch, at once


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_refusing(command, argv)


def command(argv: list[str]) -> int:
    """Read the command line, and play episodes or act on a file of observations.

    Raises:
        UserError: naming the flag or file, what was got and what is expected.
    """
    options = _parser().parse_args(argv)
    if (options.observations is None) != (options.output is None):
        given, missing = ("--observations", "--output") if options.output is None else ("--output", "--observations")
        raise UserError(f"{given}: got no {missing} beside it, expected both: a file to read and one to write")
    if options.observations is not None and (unused := _of_episodes(options)):
        raise UserError(f"{unused}: got it beside --observations, expected one of them: no episode is played")
    file = PolicyFile.load(options.policy)
    policy = Policy(file.spec, file.theta, options.policy_network).to(checked_device(options.device))
    if options.observations is not None:
        act_on_file(policy, options)
    else:
        play(policy, file, options)
    return EXIT_DONE


def _of_episodes(options: argparse.Namespace) -> str | None:
    """Return the first flag that was given and says how episodes are played."""
    flags = {"--env-id": options.env_id, "--episodes": options.episodes, "--render": options.render or None}
    return next((flag for flag, value in flags.items() if value is not None), None)


def play(policy: Policy, file: PolicyFile, options: argparse.Namespace) -> None:
    """Play episodes; print the reward and length of each as it ends, then of all, or all as one JSON object.

    Raises:
        UserError: the environment cannot be made or shown, or the policy does not fit it.
    """
    env_id = chosen_environment(file, options.policy, options.env_id)
    if options.render:
        _check_display()
    env = make_environment(env_id, "human" if options.render else None)
    check_fits(env, file.spec, env_id, str(options.policy))
    if options.render and "human" not in (env.metadata.get("render_modes") or ()):
        raise UserError(f"--render: got {env_id}, which has no window, expected an environment that draws")
    act, played = acting(policy, greedy=options.greedy), []
    for episode in range(options.episodes or 1):
        try:
            with naming("env-id", env_id):
                found = play_episode(act, env, options.seed, episode, most_steps=policy.spec.max_episode_steps)
        except gymnasium.error.DependencyNotInstalled as error:
            raise UserError(f"--env-id: {env_id} needs a library that is missing ({one_line(error)})") from error
        played.append(found)
        if not options.json:
            print(f"episode {episode}: reward {found.reward:.4f}, {found.length} steps", flush=True)
        if nobody_reads() and not options.render:
            break
    env.close()
    reward, length = (float(np.mean(values)) for values in list(zip(*played, strict=True))[:2])
    if options.json:
        episodes = [{"reward": one.reward, "length": one.length} for one in played]
        said = {"policy": str(options.policy), "env_id": env_id, "seed": options.seed, "greedy": options.greedy}
        print(json.dumps({**said, "episodes": episodes, "reward_mean": reward, "episode_length_mean": length}))
    else:
        how = "greedy" if options.greedy else "sampled"
        print(f"mean of {len(played)}: reward {reward:.4f}, {length:.1f} steps ({how}, seed {options.seed}, {env_id})")


def act_on_file(policy: Policy, options: argparse.Namespace) -> None:
    """Write an action for each observation of a batch in a ``.npy`` file: int64, shape (batch,).

    Raises:
        UserError: a file is not what it should be, cannot be read or written, or the policy does not fit it.
    """
    observations = _read_array(options.observations)
    _check_replaceable(options.output)
    if observations.shape == policy.spec.obs_shape:
        observations = observations[None]
    rng = np.random.default_rng(options.seed)
    parts = [observations[start : start + _ROWS] for start in range(0, len(observations), _ROWS)]
    try:
        chosen = [policy.act(part) if options.greedy else policy.sample(part, rng) for part in parts]
    except ValueError as error:
        raise UserError(f"--observations: {options.observations}: {one_line(error)}") from error
    actions = np.concatenate([np.asarray(part, np.int64).reshape(-1) for part in chosen])
    write_output(options.output, "--output", npy_format.encode(actions))
    counts = np.bincount(actions, minlength=policy.spec.num_actions).tolist()
    said = {"output": str(options.output), "observations": len(actions), "actions": counts}
    words = ", ".join(f"{count} of {action}" for action, count in enumerate(counts))
    print(json.dumps(said) if options.json else f"{options.output}: {len(actions)} actions: {words}")


def _read_array(path: Path) -> NDArray[Any]:
    """Read a batch of observations; nothing of it is unpickled, nor allocated beyond what the file has."""
    try:
        array = npy_format.decode(path.read_bytes())
    except OSError as error:
        raise UserError(f"--observations: got {path}, which cannot be read ({error.strerror})") from error
    except ValueError as error:
        reason = one_line(error)[:200]
        raise UserError(f"--observations: got {path}, expected a .npy file of numbers ({reason})") from error
    if array.ndim == 0 or array.size == 0:
        raise UserError(f"--observations: got {path} of shape {array.shape}, expected at least one observation")
    if not np.isfinite(array).all():
        raise UserError(f"--observations: got {path}, which holds numbers that are not finite")
    return array


def _check_replaceable(output: Path) -> None:
    """Refuse to overwrite anything but actions."""
    try:
        if not output.exists():
            return
        actions = npy_format.decode(output.read_bytes())
        if actions.ndim != 1 or actions.dtype != np.int64:
            raise ValueError("no actions")
    except (OSError, ValueError) as error:
        raise UserError(f"--output: got {output}, which exists and is no file of actions to be replaced") from error


def _check_display() -> None:
    if not any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")):
        raise UserError(
            "--render: got no display (DISPLAY and WAYLAND_DISPLAY are not set), expected a screen; "
            "python -m qtrl_hpc.evaluate POLICY --gif FILE.gif draws to a file"
        )


def _parser() -> OneLineParser:
    parser = OneLineParser(prog="qtrl_hpc.infer", description=__doc__, allow_abbrev=False)
    parser.add_argument("policy", type=Path, help="policy file (.h5, .safetensors or .onnx)")
    parser.add_argument("--env-id", help="the environment, where it is not the one that the policy was trained in")
    parser.add_argument("--episodes", type=whole_number(1), help="episodes to play (default: 1)")
    parser.add_argument("--seed", type=whole_number(0), default=0, help="of every random stream (default: 0)")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--greedy", action="store_true", help="take the most probable action")
    how.add_argument("--sample", action="store_true", help="draw each action, as in training (the default)")
    parser.add_argument(
        "--policy-network", metavar="MODULE:OBJECT", help="the policy's network, where it is not ours: it is imported"
    )
    parser.add_argument("--device", default="cpu", help="where the policy runs: cpu or cuda (default: cpu)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--render", action="store_true", help="watch it in a window")
    parser.add_argument(
        "--observations", type=Path, metavar="FILE.npy", help="act on these, a batch, instead of in an environment"
    )
    parser.add_argument("--output", type=Path, metavar="FILE.npy", help="write the actions here, one an observation")
    return parser


if __name__ == "__main__":
    sys.exit(main())
