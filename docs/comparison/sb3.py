"""Train Stable-Baselines3 on the environment of preset tuned; export it: ``python docs/comparison/sb3.py PPO 0``.

In a virtual environment of its own:
pip install stable-baselines3==2.9.2 minigrid tensorboard onnx onnxruntime onnxscript
"""

import sys
import time

import gymnasium
import minigrid  # noqa: F401  (registers the environments)
import numpy as np
import onnxruntime
import stable_baselines3
import torch
from gymnasium.wrappers import FlattenObservation, TransformAction
from minigrid.wrappers import ImgObsWrapper
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy


def environment() -> gymnasium.Env:
    """Return the environment with its first three actions: left, right, forward."""
    env = FlattenObservation(ImgObsWrapper(gymnasium.make("MiniGrid-Empty-5x5-v0")))
    return TransformAction(env, lambda action: action, gymnasium.spaces.Discrete(3))


class UntilLearned(BaseCallback):
    """Stop once the mean reward of the last 100 episodes is 0.9."""

    def _on_step(self) -> bool:
        rewards = [episode["r"] for episode in self.model.ep_info_buffer]
        return len(rewards) < 100 or float(np.mean(rewards)) < 0.9


class Logits(torch.nn.Module):
    """The part of an actor-critic that acts."""

    def __init__(self, policy: torch.nn.Module) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """Return the logits of the actions."""
        return self.policy.get_distribution(obs).distribution.logits


def main() -> None:
    """Train, evaluate, export; print what came of it."""
    algorithm, seed = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(1)
    start = time.process_time()
    envs = make_vec_env(environment, n_envs=8, seed=seed)
    model = getattr(stable_baselines3, algorithm)("MlpPolicy", envs, seed=seed, tensorboard_log="runs/sb3")
    model.learn(40_000, callback=UntilLearned())
    seconds = time.process_time() - start
    rewards = [episode["r"] for episode in model.ep_info_buffer]
    mean, spread = evaluate_policy(model, make_vec_env(environment, seed=1000 + seed), n_eval_episodes=100)
    weights = sum(parameter.numel() for parameter in model.policy.parameters())
    print(f"{algorithm} seed {seed}: {weights} weights, {model.num_timesteps} steps, {seconds:.1f} CPU s;", end=" ")
    print(f"last 100 {np.mean(rewards):.3f}, evaluated {mean:.3f} (spread {spread:.3f})")
    obs = torch.as_tensor(envs.reset(), dtype=torch.float32)
    logits = Logits(model.policy).eval()
    torch.onnx.export(logits, (obs,), "runs/sb3.onnx", input_names=["obs"], verbose=False)
    (exported,) = onnxruntime.InferenceSession("runs/sb3.onnx").run(None, {"obs": obs.numpy()})
    print("ONNX, largest difference:", float(np.abs(exported - logits(obs).detach().numpy()).max()))


if __name__ == "__main__":
    main()
