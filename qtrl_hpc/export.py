"""Turn a checkpoint into policy files, each with a card: ``python -m qtrl_hpc.export RUN_DIR --output policy.h5``."""

import argparse
import dataclasses
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from qtrl_hpc import hdf5
from qtrl_hpc.checkpoint import NEWEST, Checkpoint
from qtrl_hpc.command import OneLineParser, run_refusing, whole_number
from qtrl_hpc.environment import check_fits, make_environment
from qtrl_hpc.errors import EXIT_DONE, EXIT_FAILED, UserError
from qtrl_hpc.evaluate import chosen_environment, evaluate
from qtrl_hpc.inference import Policy, parameter_shapes
from qtrl_hpc.model_card import card, write_card
from qtrl_hpc.onnx_export import VerificationError, encode, random_observations, require_onnx, to_onnx, verify
from qtrl_hpc.output_file import refusing_unwritable, write_output
from qtrl_hpc.policy import MLP
from qtrl_hpc.policy_file import SUFFIXES, PolicyFile
from qtrl_hpc.provenance import versions

EPISODES = 100
_OBSERVATIONS = 256  # of the environment, that an ONNX model is verified on


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_refusing(command, argv)


def command(argv: list[str]) -> int:
    """Read the command line, write policy files and cards, evaluate, and say what they hold.

    The files are there before the evaluation begins, and are written anew with what it found.

    Raises:
        UserError: naming the flag or file, what was got and what is expected.
    """
    options = _parser().parse_args(argv)
    outputs: list[Path] = options.output
    for output in outputs:
        _check_output(output, outputs)
    checkpoint = Checkpoint.load(options.source / NEWEST if options.source.is_dir() else options.source)
    for output in outputs:
        _check_replaceable(output)
    file = policy_from(checkpoint)
    policy = _policy(file, outputs, options.policy_network)
    env, not_evaluated = _environment(file, policy, options)
    observations = random_observations(file.spec)
    if env is not None:
        observations = np.concatenate([observations, _observations(env, file)])
    try:
        job = _Export(file, policy, outputs, options.license, observations)
        job.write(not_evaluated or "the evaluation was not finished")
    except VerificationError as error:
        print(f"error: --output: {error}; nothing was written", file=sys.stderr)
        return EXIT_FAILED
    print(_what_was_written(file, checkpoint, outputs), flush=True)
    if env is not None and policy is not None:
        job.file = _evaluated(file, policy, env, options)
        job.write(None)
    for path in job.kept:
        print(f"warning: {path} is not as an export wrote it: left as it is", file=sys.stderr)
    if env is None and options.episodes:
        print(f"warning: not evaluated: {not_evaluated}", file=sys.stderr)
    print(f"  next    python -m qtrl_hpc.evaluate {shlex.quote(str(outputs[0]))}{_own_modules(file)}")
    return EXIT_DONE


class _Export:
    """A policy on its way into files.

    Args:
        file: the policy.
        policy: the same as a module; None is enough for ``.h5``.
        outputs: paths of the files.
        licence: of the weights, for the cards.
        observations: that an ONNX model is verified on, shape (batch, *obs_shape), float32.
    """

    def __init__(
        self,
        file: PolicyFile,
        policy: Policy | None,
        outputs: Sequence[Path],
        licence: str | None,
        observations: NDArray[np.float32],
    ) -> None:
        self.file = file
        self.kept: list[Path] = []
        """Cards that somebody has changed."""
        self._policy, self._outputs, self._licence, self._observations = policy, outputs, licence, observations
        onnx = policy is not None and any(path.suffix == ".onnx" for path in outputs)
        self._model = to_onnx(policy) if policy is not None and onnx else None

    def write(self, not_evaluated: str | None) -> None:
        """Write all files, or none where an ONNX model is not the same policy; then their cards.

        Raises:
            VerificationError: it is not.
            UserError: a file cannot be written.
        """
        contents = {path: self._content(path.suffix) for path in self._outputs}
        for path, content in contents.items():
            write_output(path, "--output", content)
        self.kept = []
        for stem in dict.fromkeys(path.with_suffix("") for path in self._outputs):
            group = [stem.with_name(stem.name + suffix) for suffix in SUFFIXES]
            group = [path for path in group if path in contents or self._is_same(path)]
            path = stem.with_name(f"{stem.name}.md")
            text = card(self.file, group, licence=self._licence, not_evaluated=not_evaluated)
            with refusing_unwritable(path, "--output"):
                if not write_card(path, text):
                    self.kept.append(path)

    def _content(self, suffix: str) -> bytes:
        if suffix == ".h5" or self._policy is None:
            return self.file.to_hdf5()
        shapes = parameter_shapes(self._policy)
        if suffix == ".safetensors":
            return self.file.to_safetensors(shapes)
        content = encode(self._model, self.file.texts(shapes))
        verify(content, self._policy, self._observations)
        return content

    def _is_same(self, path: Path) -> bool:
        """Return whether a file is this policy, from another call."""
        try:
            return PolicyFile.load(path).texts({}) == self.file.texts({})
        except UserError:
            return False


def _policy(file: PolicyFile, outputs: Sequence[Path], network: str | None) -> Policy | None:
    """Return the policy as a module; None where its network is the user's own, is not named, and need not be.

    Raises:
        UserError: it need be, or what is named does not fit.
    """
    if file.spec.network != MLP and network is None and all(path.suffix == ".h5" for path in outputs):
        return None
    policy = Policy(file.spec, file.theta, network)
    weights = torch.nn.utils.parameters_to_vector(policy.layers.parameters())
    assert weights.detach().numpy().tobytes() == file.theta.tobytes(), "torch orders the weights as theta does"
    return policy


def _environment(
    file: PolicyFile, policy: Policy | None, options: argparse.Namespace
) -> tuple[gymnasium.Env[Any, Any] | None, str | None]:
    """Return the environment to evaluate in, or None and why there is none.

    Raises:
        UserError: ``--env-id`` names it. The checkpoint's own may be missing here, which must not cost the policy.
    """
    if options.episodes == 0:
        return None, "--episodes 0"
    if policy is None:
        return None, f"expected --policy-network {file.spec.network} from you, if you trust it: it would be imported"
    try:
        env_id = chosen_environment(file, options.source, options.env_id)
        env = make_environment(env_id)
        check_fits(env, file.spec, env_id, str(options.source))
    except UserError as error:
        if options.env_id is not None:
            raise
        return None, str(error)
    return env, None


def _evaluated(
    file: PolicyFile, policy: Policy, env: gymnasium.Env[Any, Any], options: argparse.Namespace
) -> PolicyFile:
    """Play episodes, say what they earned, and return the policy with that in its provenance."""
    env_id = file.env_id if options.env_id is None else options.env_id
    found = evaluate(policy, env, options.source, env_id, options.episodes, options.seed, greedy=False)
    interval = "" if found.reward_low is None else f" (95% interval {found.reward_low:.4f} to {found.reward_high:.4f})"
    print(f"  reward  {found.reward_mean:.4f}{interval}, {found.episodes} episodes, sampled, seed {found.seed}")
    kept = {name: value for name, value in asdict(found).items() if name != "policy"}
    return dataclasses.replace(file, provenance={**file.provenance, "evaluation": kept})


def _observations(env: gymnasium.Env[Any, Any], file: PolicyFile) -> NDArray[np.float32]:
    """Return random observations of an environment, shape (_OBSERVATIONS, *obs_shape), float32."""
    space: Any = env.observation_space
    if file.spec.observation_key is not None:
        space = space[file.spec.observation_key]
    space.seed(0)
    return np.stack([space.sample() for _ in range(_OBSERVATIONS)]).astype(np.float32)


def _check_output(output: Path, outputs: Sequence[Path]) -> None:
    if output.suffix not in SUFFIXES:
        raise UserError(f"--output: got {output}, expected a name that ends in {', '.join(SUFFIXES[:-1])} or .onnx")
    if not output.parent.is_dir():
        raise UserError(f"--output: got {output}, whose folder does not exist")
    if outputs.count(output) > 1:
        raise UserError(f"--output: got {output} twice, expected names that differ")
    if output.suffix == ".onnx":
        require_onnx(f"--output {output}")


def _check_replaceable(output: Path) -> None:
    """Refuse to overwrite anything but a policy file."""
    with refusing_unwritable(output, "--output"):
        if not output.exists():
            return
    try:
        PolicyFile.load(output)
    except UserError as error:
        raise UserError(f"--output: got {output}, which exists and is no policy file that could be replaced") from error


def _what_was_written(file: PolicyFile, checkpoint: Checkpoint, outputs: Sequence[Path]) -> str:
    return (
        f"{', '.join(map(str, outputs))}: policy {file.spec.shape}, {file.spec.num_parameters} weights, after "
        f"{checkpoint.state.update} updates of {checkpoint.num_agents} agents in {file.env_id}"
    )


def _own_modules(file: PolicyFile) -> str:
    """Return the flags by which a user says again what of his own is to be imported."""
    network = "" if file.spec.network == MLP else f" --policy-network {file.spec.network}"
    return network + (f" --env-id {file.env_id}" if ":" in file.env_id else "")


def policy_from(checkpoint: Checkpoint) -> PolicyFile:
    """Return the policy that a checkpoint's theta is, with where it comes from."""
    trained = checkpoint.state.Theta
    return PolicyFile(
        theta=checkpoint.theta,
        spec=checkpoint.policy_spec,
        env_id=checkpoint.config.env_id,
        provenance={
            "config": checkpoint.config.to_dict(),
            "update": checkpoint.state.update,
            "num_agents": checkpoint.num_agents,
            "theta_source": checkpoint.theta_source,
            "num_trained": int(trained.vector.size),
            "num_angles": int(trained.num_angles),
            "Theta_digest": hdf5.content_digest({}, {"phi": trained.phi, "beta": trained.beta}),
            "versions": versions(),
        },
    )


def _licence(text: str) -> str:
    """Read the name of a licence, as SPDX and the Hugging Face Hub write them."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}", text):
        raise argparse.ArgumentTypeError(f"got {text[:80]!r}, expected a licence's short name, as in CC-BY-4.0")
    return text


def _parser() -> OneLineParser:
    parser = OneLineParser(prog="qtrl_hpc.export", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "source", type=Path, help="directory of a run (its checkpoint.h5 is taken), or a checkpoint file"
    )
    parser.add_argument(
        "--output",
        type=Path,
        action="append",
        required=True,
        help=f"policy file to write, ending in {', '.join(SUFFIXES)}; may be given several times",
    )
    parser.add_argument(
        "--episodes",
        type=whole_number(0),
        default=EPISODES,
        help=f"played to say what the policy earns; 0 for none (default: {EPISODES})",
    )
    parser.add_argument("--seed", type=whole_number(0), default=0, help="of these episodes (default: 0)")
    parser.add_argument("--env-id", help="the environment to play them in, where it is not the checkpoint's own")
    parser.add_argument(
        "--policy-network", metavar="MODULE:OBJECT", help="the policy's network, where it is not ours: it is imported"
    )
    parser.add_argument(
        "--license", type=_licence, metavar="NAME", help="of the weights, as in CC-BY-4.0, for the card"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
