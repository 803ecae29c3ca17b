"""A policy with NumPy and h5py: python numpy_alone.py policy.h5 observations.npy."""

import json
import sys

import h5py
import numpy as np

with h5py.File(sys.argv[1]) as file:
    theta, spec = file["/theta"][()], json.loads(file.attrs["policy_spec"].decode())
act = np.tanh if spec["activation"] == "tanh" else lambda x: np.maximum(x, 0.0)
observations = np.load(sys.argv[2])
x = observations.reshape(len(observations), -1) * spec["observation_scale"]
sizes = [*spec["hidden_sizes"], spec["num_actions"]]
for number, size in enumerate(sizes):
    weight, bias, theta = np.split(theta, [size * x.shape[1], size * (x.shape[1] + 1)])
    x = x @ weight.reshape(size, -1).T + bias
    if number < len(sizes) - 1:
        x = act(x)
print(*x.argmax(axis=1).tolist())
