"""A policy without qtrl_hpc: python torch_alone.py policy.safetensors observations.npy."""

import itertools
import json
import math
import sys

import numpy as np
import torch
from safetensors import safe_open

with safe_open(sys.argv[1], framework="pt") as file:
    spec = json.loads(file.metadata()["policy_spec"])
    weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
sizes = [math.prod(spec["obs_shape"]), *spec["hidden_sizes"], spec["num_actions"]]
activation = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh}[spec["activation"]]
layers = [layer for pair in itertools.pairwise(sizes) for layer in (torch.nn.Linear(*pair), activation())]
policy = torch.nn.Sequential(*layers[:-1]).double()
policy.load_state_dict(weights)
observations = torch.from_numpy(np.load(sys.argv[2])).double().flatten(1) * spec["observation_scale"]
print(*policy(observations).argmax(dim=1).tolist())
