"""Time theta and its pullback by the torch path beside the default one: ``python docs/torch_path.py [cpu|cuda]``.

Policies whose weights fill 90 % of 2^n, L = 3, the mapping model 10-64-10; one thread, the best of 7 calls.
The error is that of the gradient, of phi's part and of beta's, in Euclidean norms relative to the first line's.
"""

import itertools
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from qtrl_hpc.config import Config
from qtrl_hpc.factory import make_generator
from qtrl_hpc.policy import PolicySpec

DEVICE = sys.argv[1] if len(sys.argv) > 1 else "cpu"
KINDS = {
    "statevector": {"qpu": "statevector"},
    "statevector, single": {"qpu": "statevector", "precision": "single"},
    "torch, double": {"qpu": "torch", "device": DEVICE},
    "torch, single": {"qpu": "torch", "device": DEVICE, "precision": "single"},
}


def best_seconds(function: Callable[[], object], calls: int = 7) -> float:
    """Return the shortest time of a call: others share this machine."""
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


threadpool_limits(1)
torch.set_num_threads(1)
print(f"{'n':>2} mapping  {'':13}  {'theta':>9}  {'pullback':>9}  error of phi, beta")
for n, activation in itertools.product((13, 16, 20), ("none", "tanh")):
    spec = PolicySpec(
        obs_shape=(round(0.45 * 2**n) - 1,),
        hidden_sizes=(),
        num_actions=2,
        activation="relu",
        observation_key=None,
        observation_scale=1.0,
    )
    expected = None
    for name, values in KINDS.items():
        generator = make_generator(Config(layers=3, mapping_activation=activation, **values), spec)
        rng = np.random.default_rng(0)
        Theta = generator.initial(rng)
        d_theta = rng.normal(size=spec.num_parameters)
        forward = best_seconds(partial(generator, Theta))
        backward = best_seconds(partial(generator.pullback, d_theta))
        gradient = np.split(generator.pullback(d_theta), [Theta.num_angles])
        expected = expected or gradient
        errors = [np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(gradient, expected, strict=True)]
        print(
            f"{n:2} {activation:7}  {name:13}  {1e3 * forward:6.1f} ms  {1e3 * backward:6.1f} ms  "
            f"{errors[0]:.1e} {errors[1]:.1e}",
            flush=True,
        )
