"""Act by a policy network of the user's own, and differentiate it: what ``episode.Actor`` and ``mlp`` are to an MLP."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.func import functional_call

from qtrl_hpc import policy_network
from qtrl_hpc.config import ReinforceConfig
from qtrl_hpc.episode import Choice, sample_action
from qtrl_hpc.policy import PolicySpec
from qtrl_hpc.registry import naming
from qtrl_hpc.reinforce import Batch, logits_cotangent


class TorchPolicy:
    """A policy whose logits a torch module computes; theta is its parameters, one after another.

    Args:
        spec: of the policy; its network is imported.
        threads: of torch, in this process.
    """

    def __init__(self, spec: PolicySpec, threads: int) -> None:
        torch.set_num_threads(threads)
        self._spec, self._module = spec, policy_network.build(spec)
        shapes = {name: each.shape for name, each in self._module.named_parameters()}
        self._shapes, self._sizes = shapes, [shape.numel() for shape in shapes.values()]

    def actor(self, theta: NDArray[np.float64]) -> Choice:
        """Return what draws actions from one theta, shape (k,), float64 (see ``episode.Actor``)."""
        parameters = self._split(theta)

        @torch.inference_mode()
        def act(obs: NDArray[np.float64], uniform: float) -> int:
            logits = self._logits(parameters, obs[None])
            return sample_action(logits[0].tolist(), uniform)

        return act

    def gradient(
        self, batch: Batch, theta: NDArray[np.float64], config: ReinforceConfig, update: int
    ) -> tuple[NDArray[np.float64], float]:
        """Return ∂J/∂θ, shape (k,), float64, and the sum of entropies (see ``reinforce.policy_gradient``)."""
        parameters = {name: each.requires_grad_() for name, each in self._split(theta).items()}
        logits = self._logits(parameters, batch.obs)
        d_logits, entropy = logits_cotangent(logits.detach().numpy(), batch, config, update)
        parts = torch.autograd.grad(
            logits, list(parameters.values()), torch.from_numpy(d_logits), allow_unused=True, materialize_grads=True
        )
        return torch.cat([part.reshape(-1) for part in parts]).numpy(), entropy

    def _logits(self, parameters: dict[str, torch.Tensor], obs: NDArray[np.float64]) -> torch.Tensor:
        """Return the module's logits, shape (batch, actions).

        Raises:
            UserError: it returns something else.
        """
        logits: torch.Tensor = functional_call(self._module, parameters, (torch.from_numpy(obs),))
        with naming("policy-network", self._spec.network):
            policy_network.check_logits(logits, (len(obs), self._spec.num_actions))
        return logits

    def _split(self, theta: NDArray[np.float64]) -> dict[str, torch.Tensor]:
        """Return the parameters by name, copies; parameters() and named_parameters() have one order."""
        parts = torch.tensor(theta, dtype=torch.float64).split(self._sizes)
        return {name: part.view(shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)}
