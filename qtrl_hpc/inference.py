"""Run a trained policy: needs torch, NumPy and h5py, and nothing quantum, no MPI, no environment library.

from qtrl_hpc.inference import load_policy
policy = load_policy("policy.h5")
action = policy.act(obs)
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qtrl_hpc import registry
from qtrl_hpc.errors import UserError, one_line
from qtrl_hpc.mlp import split_parameters
from qtrl_hpc.policy import MLP, PolicySpec
from qtrl_hpc.policy_file import PolicyFile, Shapes
from qtrl_hpc.policy_network import with_theta


class Policy(torch.nn.Module):
    """A policy as a torch module: π(a|s) = softmax(W2·act(W1·s + b1) + b2), or of the user's own network, in float64.

    Args:
        spec: its sizes and how observations are read.
        theta: its weights, shape (k,), float64.
        network: MODULE:OBJECT of a network of the user's own, which is imported; a spec that names one does not do.

    Raises:
        UserError: the policy has such a network and none is named, or the other way round, or it does not fit.
    """

    def __init__(self, spec: PolicySpec, theta: NDArray[np.float64], network: str | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.layers: torch.nn.Module
        if network is not None or spec.network != MLP:
            self.layers = _own_network(spec, theta, network)
            return
        modules: list[torch.nn.Module] = []
        for weight, bias in split_parameters(theta, spec.sizes):
            linear = torch.nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64, device="meta")
            linear.weight = torch.nn.Parameter(torch.from_numpy(weight.copy()))
            linear.bias = torch.nn.Parameter(torch.from_numpy(bias.copy()))
            modules += [linear, torch.nn.Tanh() if spec.activation == "tanh" else torch.nn.ReLU()]
        self.layers = torch.nn.Sequential(*modules[:-1])

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the logits, shape (batch, actions), of flattened and scaled observations, shape (batch, obs_size)."""
        logits: torch.Tensor = self.layers(features)
        return logits

    @torch.inference_mode()
    def probabilities(self, obs: Any) -> NDArray[np.float64]:
        """Return π(a|s).

        Args:
            obs: one observation as the environment gives it, or flattened; or a batch: a list of such, or an array
                with one more axis in front.

        Returns:
            Shape (actions,) for one observation, (batch, actions) for a batch; float64.

        Raises:
            ValueError: the observation has another size than the policy reads.
        """
        features, single = self._features(obs)
        parameter = next(self.parameters())
        logits = self(torch.from_numpy(features).to(device=parameter.device, dtype=parameter.dtype))
        pi = torch.softmax(logits, dim=-1).double().cpu().numpy()
        return pi[0] if single else pi

    def act(self, obs: Any) -> Any:
        """Return the most probable action of one observation (int), or of each of a batch (int64, shape (batch,))."""
        pi = self.probabilities(obs)
        return int(pi.argmax()) if pi.ndim == 1 else pi.argmax(axis=-1)

    def sample(self, obs: Any, rng: np.random.Generator) -> Any:
        """Return an action drawn from π for one observation (int), or for each of a batch (int64, shape (batch,))."""
        cumulative = self.probabilities(obs).cumsum(axis=-1)
        uniform = rng.random(cumulative.shape[:-1])[..., None]
        actions = np.minimum((cumulative <= uniform).sum(axis=-1), self.spec.num_actions - 1)
        return int(actions) if actions.ndim == 0 else actions

    def _features(self, obs: Any) -> tuple[NDArray[np.float64], bool]:
        """Return observations as rows of numbers, shape (batch, obs_size), and whether there was but one."""
        key, shape, size = self.spec.observation_key, self.spec.obs_shape, self.spec.obs_size
        if key is not None and isinstance(obs, dict):
            obs = obs[key]
        elif key is not None and isinstance(obs, list | tuple) and obs and isinstance(obs[0], dict):
            obs = [one[key] for one in obs]
        array = np.asarray(obs, np.float64) * self.spec.observation_scale
        if array.shape in (shape, (size,)):
            return array.reshape(1, size), True
        if array.shape[1:] in (shape, (size,)):
            return array.reshape(-1, size), False
        raise ValueError(f"observation: got shape {array.shape}, expected {shape}, or one more axis for a batch")


def parameter_shapes(policy: Policy) -> Shapes:
    """Return the shapes of a policy's weights by torch's names of them in ``policy.layers``, in the order of theta."""
    return {name: tuple(weights.shape) for name, weights in policy.layers.named_parameters()}


def load_policy(path: str | Path, device: str = "cpu", *, network: str | None = None) -> Policy:
    """Read a policy file and put the policy on a device.

    Args:
        path: of a ``policy.h5``, ``policy.safetensors`` or ``policy.onnx`` (``python -m qtrl_hpc.export`` writes
            them), told apart by what is in it. Nothing in it is run: of an ONNX model only the weights are read.
        device: torch's name of it: cpu, cuda, cuda:1, …
        network: MODULE:OBJECT of the policy's network, where that is not ours: a file's word is not enough for a module
            to be imported.

    Raises:
        UserError: the file is not a whole policy file, there is no such device, or the network is not named or none.
    """
    file = PolicyFile.load(Path(path))
    return Policy(file.spec, file.theta, network).to(checked_device(device))


def _own_network(spec: PolicySpec, theta: NDArray[np.float64], network: str | None) -> torch.nn.Module:
    """Return a network of the user's own with theta as its parameters."""
    if network is None:
        raise UserError(
            f"--policy-network: got none, expected {spec.network} (load_policy: network=) from you, if you trust it: "
            "the policy names it, and its module would be imported"
        )
    try:
        if spec.network == MLP:
            raise ValueError("expected none: the policy's network is an mlp")
        registry.check_name(network, ())
        return with_theta(replace(spec, network=network), theta)
    except ValueError as error:
        raise UserError(f"--policy-network: got {network!r}, {error}") from None


def checked_device(device: str) -> torch.device:
    """Return a device that torch can use.

    Raises:
        UserError: there is none of that name here.
    """
    try:
        chosen = torch.device(device)
        if chosen.type not in ("cpu", "cuda"):
            raise RuntimeError("no device that policies run on")
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = one_line(error)[:120]
        raise UserError(
            f"--device: got {device!r}, expected cpu, or cuda where torch finds a GPU ({reason})"
        ) from error
    return chosen
