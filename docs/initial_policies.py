"""Count initial policies that all but never go forward: ``python docs/initial_policies.py``."""

import numpy as np

from qtrl_hpc import mlp
from qtrl_hpc.cli import parse_train
from qtrl_hpc.environment import Purpose, make_environment, policy_spec, seed_sequence
from qtrl_hpc.factory import make_generator
from qtrl_hpc.policy import flatten_observation, log_softmax, policy_layers

SEEDS = range(1000, 1060)
FORWARD = 2
RARE = 1e-4


def main() -> None:
    """Print, for two presets, how many of the seeds start with π(forward) below 10⁻⁴ at the first observation."""
    for preset in ("qtrl", "tuned"):
        config = parse_train(["--preset", preset, "--qpu", "statevector"]).config
        env = make_environment(config.env_id)
        spec = policy_spec(env, config, config)
        generator = make_generator(config, spec)
        obs = flatten_observation(env.reset(seed=0)[0], spec)
        rare = 0
        for seed in SEEDS:
            theta = generator(generator.initial(np.random.default_rng(seed_sequence(seed, Purpose.INITIAL))))
            logits = mlp.forward(policy_layers(theta, spec), spec.activation, obs)[-1]
            rare += np.exp(log_softmax(logits))[FORWARD] < RARE
        print(f"{preset}: {rare} of {len(SEEDS)}")


if __name__ == "__main__":
    main()
