"""The Markdown card beside an exported policy: what it is, how it was trained, what it earns, and what it is not for.

The front matter is that of model cards on the Hugging Face Hub, where the card goes as README.md.
"""

import hashlib
import itertools
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from qtrl_hpc import cli, files
from qtrl_hpc.errors import one_line
from qtrl_hpc.policy import MLP, PolicySpec
from qtrl_hpc.policy_file import PolicyFile

PAPER = "arXiv 2412.08845"
# Where and how far a run computes, no part of how it learns; or said elsewhere on the card.
_NOT_SHOWN = (
    "seed",
    "updates",
    "agents_per_rank",
    "device",
    "threads",
    "checkpoint_every",
    "progress_timeout",
    "qpu_pause",
    "qpu_retries",
    "qpu_timeout",
)
_SEAL = re.compile(r"<!-- Written by qtrl_hpc\.export; sha256 of the lines above: ([0-9a-f]{64}) -->\n\Z")
_KINDS = {
    ".h5": "HDF5, for `qtrl_hpc`; h5py reads it too",
    ".safetensors": "weights by torch's names, for torch, NumPy, JAX",
    ".onnx": "the whole policy as a graph, for ONNX Runtime",
}

_TEMPLATE = """\
# {title}

A reinforcement-learning policy for {env}: an ordinary neural network, {network}, {weights} weights in
float64. {generated} Nothing quantum is needed to run it.

## Training

{training}

## Reward

{reward}

## Observations and actions

- Reads {observation}, flattened row-major{scaled}.
- Gives the probabilities of actions 0 to {last_action}. The policy is stochastic: `sample` draws an action, as in
  training; `act` (`--greedy`) takes the most probable one, which is another policy and may earn more or less.
- Episodes are cut after {max_steps} steps.

## Intended use and limits

For research in {env}, the environment that it was trained in, with the observations that it gives. It knows no other
environment or version of it, nothing was tried of how it fares where observations are disturbed, and no claim of
safety is made: do not let it act where a wrong action harms.

## Files

| file | what | bytes | SHA-256 |
|---|---|---|---|
{files}

Digest of the policy, the same in each format: `{digest}`.

## How to run it

{run}

## Licence

Weights: {licence}. The code of qtrl_hpc is under Apache-2.0, which says nothing about weights that it has trained.

## Versions

{versions}
"""


def write_card(path: Path, text: str) -> bool:
    """Write a card, but not over one that somebody has changed or that is not ours.

    Returns:
        Whether it was written.
    """
    if path.exists() and not _is_ours(path):
        return False
    text = text.encode(errors="replace").decode()  # a path may be no text
    sealed = f"{text}\n<!-- Written by qtrl_hpc.export; sha256 of the lines above: {_digest(text)} -->\n"
    files.replace(path, sealed.encode())
    return True


def card(policy: PolicyFile, outputs: Sequence[Path], *, licence: str | None, not_evaluated: str | None) -> str:
    """Return a policy's card as Markdown.

    Args:
        policy: with its provenance, the evaluation in it.
        outputs: its files, of one folder and stem.
        licence: of the weights; None: not stated.
        not_evaluated: why there is no evaluation; None where there is one.
    """
    spec = policy.spec
    texts = policy.texts({})
    body = _TEMPLATE.format(
        title=f"{_plain(outputs[0].stem)}: a policy for {_plain(policy.env_id)}",
        env=_code(policy.env_id),
        network=_network(spec),
        weights=spec.num_parameters,
        generated=_generated(policy.provenance, spec.num_parameters),
        training=_training(policy.provenance),
        reward=_reward(policy.provenance.get("evaluation"), not_evaluated),
        observation=_observation(policy),
        scaled="" if spec.observation_scale == 1.0 else f" and multiplied by {spec.observation_scale:g}",
        last_action=spec.num_actions - 1,
        max_steps=spec.max_episode_steps,
        files="\n".join(_file_row(path) for path in outputs),
        digest=texts["digest"],
        run=_how_to_run(policy, outputs),
        licence="not stated; ask whoever hands them on" if licence is None else licence,
        versions=", ".join(_code(f"{name} {each}") for name, each in policy.provenance["versions"].items()),
    )
    return f"---\n{_front_matter(policy, outputs[0].stem, licence)}---\n\n{body}"


def _front_matter(policy: PolicyFile, name: str, licence: str | None) -> str:
    values: dict[str, Any] = {} if licence is None else {"license": licence.lower()}
    values |= {
        "library_name": "qtrl_hpc",
        "pipeline_tag": "reinforcement-learning",
        "tags": ["reinforcement-learning", "quantum-train", policy.env_id],
    }
    if found := policy.provenance.get("evaluation"):
        environment = {"name": policy.env_id, "type": policy.env_id}
        measured = {
            "type": "mean_reward",
            "name": f"mean reward of {found['episodes']} episodes",
            "value": round(found["reward_mean"], 10),
            "args": {"interval_95": [found["reward_low"], found["reward_high"]], "greedy": found["greedy"]},
            "verified": False,
        }
        task = {"type": "reinforcement-learning", "name": "reinforcement-learning"}
        result = {"task": task, "dataset": environment, "metrics": [measured]}
        values["model-index"] = [{"name": name, "results": [result]}]
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    return text


def _generated(provenance: Mapping[str, Any], weights: int) -> str:
    trained = provenance["num_trained"]
    if provenance["config"]["policy"] == "classical":
        return "Its weights were trained directly, without a circuit (`--policy classical`)."
    angles = provenance["num_angles"]
    return (
        f"Its weights were generated by a quantum circuit and a mapping model with {trained} trained numbers "
        f"({angles} angles, {trained - angles} of the mapping model), {trained / weights:.0%} of them."
    )


def _training(provenance: Mapping[str, Any]) -> str:
    agents, config = provenance["num_agents"], provenance["config"]
    name, differing = cli.nearest_preset(config, ignoring=_NOT_SHOWN)
    paper = f"Chen et al., [{PAPER}](https://arxiv.org/abs/{PAPER.split()[1]})"
    averaged = f"REINFORCE with the gradient averaged over {agents} agents"
    if config["policy"] == "classical":
        how = [f"{averaged}, as in Dist-QTRL ({paper}) but without circuits.", ""]
    else:
        how = [f"{averaged}, each with a QPU of its own: Dist-QTRL, {paper}.", ""]
        how.append(f"- Weights from {_code(provenance['theta_source'])} probabilities.")
    lines = [
        *how,
        f"- {provenance['update']} updates, {agents} agents, seed {config['seed']}.",
        f"- Configuration: preset `{name}`" + (", except" if differing else "."),
        *(f"  - {_code(f'{key}: {value}')}" for key, (_, value) in differing.items()),
    ]
    return "\n".join(lines)


def _reward(evaluation: Mapping[str, Any] | None, not_evaluated: str | None) -> str:
    if evaluation is None:
        return f"Not evaluated: {_plain(not_evaluated or 'not asked for')}."
    if evaluation["reward_low"] is None:
        interval = "no interval from one episode"
    else:
        interval = f"95 % bootstrap interval {evaluation['reward_low']:.4f} to {evaluation['reward_high']:.4f}"
    how = "the most probable action taken" if evaluation["greedy"] else "actions sampled"
    return (
        f"Mean reward **{evaluation['reward_mean']:.4f}** ({interval}) over {evaluation['episodes']} episodes of "
        f"{_code(evaluation['env_id'])} after training, {how}, seed {evaluation['seed']}.\n\n"
        f"- Success: {evaluation['success_rate']:.1%} ({_plain(evaluation['success_means'])}).\n"
        f"- Episode length: {evaluation['episode_length_mean']:.1f} steps on average."
    )


def _observation(policy: PolicyFile) -> str:
    shape = "×".join(map(str, policy.spec.obs_shape))
    key = policy.spec.observation_key
    return f"one observation of {shape} numbers" + ("" if key is None else f", entry {_code(key)} of a dictionary")


def _network(spec: PolicySpec) -> str:
    """Return what the network is, in words."""
    if spec.network != MLP:
        return f"{_code(spec.network)} of its maker's own"
    return f"{spec.shape} with {spec.activation if spec.hidden_sizes else 'no hidden layer'}"


def _how_to_run(policy: PolicyFile, outputs: Sequence[Path]) -> str:
    first, names, network = outputs[0].name, {path.suffix: path.name for path in outputs}, policy.spec.network
    flags, named = f" --env-id {policy.env_id}" if ":" in policy.env_id else "", ""
    if network != MLP:
        flags, named = f"{flags} --policy-network {network}", f', network="{network}"'
    load = f"policy = load_policy({json.dumps(first)}{named})"
    ways = [
        ("Played in its environment", "sh", f"python -m qtrl_hpc.infer {shlex.quote(first)}{flags} --episodes 5"),
        (
            "In a program of your own",
            "python",
            f"from qtrl_hpc.inference import load_policy\n\n{load}\naction = policy.act(obs)",
        ),
    ]
    if ".onnx" in names:
        ways.append(
            (
                "With ONNX Runtime, without qtrl_hpc",
                "python",
                _ONNX.format(name=json.dumps(names[".onnx"]), obs=_obs(policy)),
            )
        )
    elif ".safetensors" in names and network == MLP:
        ways.append(("With torch, without qtrl_hpc", "python", _torch(policy, names[".safetensors"])))
    elif ".h5" in names:
        ways.append(("With h5py, without qtrl_hpc: theta", "python", _H5PY.format(name=json.dumps(names[".h5"]))))
    return "\n\n".join(f"{title}:\n\n```{language}\n{text}\n```" for title, language, text in ways)


_ONNX = """\
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession({name})
observations = np.asarray({obs}, np.float32)[None]  # one more axis in front: a batch
logits, probabilities = session.run(["logits", "probabilities"], {{"observation": observations}})"""

_H5PY = """\
import h5py

with h5py.File({name}) as file:
    theta, how_to_read_it = file["/theta"][()], file.attrs["policy_spec"].decode()"""


def _obs(policy: PolicyFile) -> str:
    key = policy.spec.observation_key
    return "obs" if key is None else f"obs[{json.dumps(key)}]"


def _torch(policy: PolicyFile, name: str) -> str:
    sizes, act = policy.spec.sizes, {"relu": "ReLU", "tanh": "Tanh"}[policy.spec.activation]
    linear = [f"torch.nn.Linear({inputs}, {outputs})" for inputs, outputs in itertools.pairwise(sizes)]
    scale = policy.spec.observation_scale
    scaled = "" if scale == 1.0 else f" * {scale:g}"
    return (
        "import torch\nfrom safetensors.torch import load_file\n\n"
        f"policy = torch.nn.Sequential({f', torch.nn.{act}(), '.join(linear)}).double()\n"
        f"policy.load_state_dict(load_file({json.dumps(name)}))\n"
        f"probabilities = torch.softmax(policy(torch.as_tensor({_obs(policy)}).double().flatten(){scaled}), dim=-1)"
    )


def _file_row(path: Path) -> str:
    content = path.read_bytes()
    return f"| {_code(path.name)} | {_KINDS[path.suffix]} | {len(content)} | `{hashlib.sha256(content).hexdigest()}` |"


def _is_ours(path: Path) -> bool:
    """Return whether a card is as we wrote it."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    seal = _SEAL.search(text)
    return seal is not None and seal[1] == _digest(text[: seal.start() - 1])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: object) -> str:
    """Return a value as one line in which Markdown finds nothing."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", one_line(Exception(value)))


def _code(value: object) -> str:
    """Return a value as code in a line."""
    return f"`{one_line(Exception(value)).replace('`', chr(39)).replace('|', '/')}`"
