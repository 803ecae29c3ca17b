"""A policy without qtrl_hpc: python torch_alone.py policy.safetensors observations.npy."""

import json
import sys

import numpy as np
import torch
from safetensors import safe_open

file = safe_open(sys.argv[1], framework="pt")
spec = json.loads(file.metadata()["policy_spec"])
activation = {"relu": torch.relu, "tanh": torch.tanh}[spec["activation"]]
values = torch.from_numpy(np.load(sys.argv[2])).double().flatten(1) * spec["observation_scale"]
for number in range(0, 2 * len(spec["hidden_sizes"]) + 1, 2):  # torch's numbers of the layers
    weight, bias = (file.get_tensor(f"{number}.{name}") for name in ("weight", "bias"))
    values = torch.nn.functional.linear(activation(values) if number else values, weight, bias)
print(*values.argmax(dim=1).tolist())
