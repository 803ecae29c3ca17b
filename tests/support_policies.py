"""Policies that nobody trained, as files."""

from dataclasses import replace

import numpy as np

from qtrl_hpc.config import EnvironmentConfig, PolicyConfig
from qtrl_hpc.environment import make_environment, policy_spec
from qtrl_hpc.mlp import initial_parameters
from qtrl_hpc.policy_file import PolicyFile


def saved_policy(path, env_id, num_actions, **changes):
    """Write a policy for an environment, and return its path."""
    environment = EnvironmentConfig(env_id=env_id, num_actions=num_actions)
    spec = replace(policy_spec(make_environment(env_id), environment, PolicyConfig()), **changes)
    theta = initial_parameters(spec.sizes, np.random.default_rng(0))
    PolicyFile(theta=theta, spec=spec, env_id=env_id, provenance={}).save(path)
    return path
