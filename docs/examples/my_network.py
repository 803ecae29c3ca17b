# my_network.py
"""A policy network of your own: layers that add to what they get, normalised."""

import torch

from qtrl_hpc.policy import PolicySpec


class Residual(torch.nn.Module):
    """From flattened observations, shape (batch, obs_size), to logits, shape (batch, num_actions)."""

    def __init__(self, spec: PolicySpec) -> None:
        super().__init__()
        width = spec.hidden_sizes[0]  # --policy-hidden-sizes
        self.first = torch.nn.Linear(spec.obs_size, width)
        self.blocks = torch.nn.ModuleList(torch.nn.Linear(width, width) for _ in spec.hidden_sizes[1:])
        self.norm = torch.nn.LayerNorm(width)
        self.last = torch.nn.Linear(width, spec.num_actions)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        values = torch.tanh(self.first(observations))
        for block in self.blocks:
            values = values + torch.tanh(block(self.norm(values)))
        logits: torch.Tensor = self.last(values)
        return logits
