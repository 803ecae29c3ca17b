"""Train Stable-Baselines3 on tuned's environment; export its actor: ``python docs/comparison/sb3.py A2C 0``.

A2C and PPO have the library's own settings; PPO-zoo has those of its zoo for MiniGrid, but for its normalisation of
observations and rewards, with which seed 1000 learned nothing in 200 000 steps. In a virtual environment of its own:
pip install stable-baselines3==2.9.2 minigrid tensorboard onnx onnxruntime onnxscript
"""

import json
import os
import sys
import time

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import gymnasium
import minigrid  # noqa: F401  (registers the environments)
import numpy as np
import onnxruntime
import stable_baselines3
import torch
from gymnasium.wrappers import FlattenObservation, TransformAction
from minigrid.wrappers import ImgObsWrapper
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

MOST_STEPS = 200_000
ZOO = {"n_steps": 128, "batch_size": 64, "learning_rate": 2.5e-4, "n_epochs": 10}  # its hyperparams/ppo.yml


def environment() -> gymnasium.Env:
    """Return the environment with its first three actions: left, right, forward."""
    env = FlattenObservation(ImgObsWrapper(gymnasium.make("MiniGrid-Empty-5x5-v0")))
    return TransformAction(env, lambda action: action, gymnasium.spaces.Discrete(3))


class UntilLearned(BaseCallback):
    """Stop once the last 100 episodes have a mean reward of 0.95; note when the greedy policy's episode has it.

    That episode is always the same, as the environment is. What it takes to play it is not counted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.env = environment()
        self.checking, self.checked = 0.0, 0
        self.greedy: tuple[float, int] | None = None
        self.sampled: tuple[float, int] | None = None

    def _now(self) -> tuple[float, int]:
        return round(time.process_time() - self.checking, 2), self.num_timesteps

    def _on_rollout_start(self) -> None:
        if self.greedy is None and self.num_timesteps - self.checked >= 400:
            start, self.checked = time.process_time(), self.num_timesteps
            if self._greedy_reward() >= 0.95:
                self.greedy = self._now()
            self.checking += time.process_time() - start

    def _greedy_reward(self) -> float:
        obs, ended, total = self.env.reset(seed=0)[0], False, 0.0
        while not ended:
            action, _ = self.model.predict(obs, deterministic=True)
            obs, reward, terminated, truncated, _ = self.env.step(int(action))
            total, ended = total + float(reward), terminated or truncated
        return total

    def _on_step(self) -> bool:
        rewards = [episode["r"] for episode in self.model.ep_info_buffer]
        if len(rewards) < 100 or float(np.mean(rewards)) < 0.95:
            return True
        self.sampled = self._now()
        return False


class Logits(torch.nn.Module):
    """The part of an actor-critic that acts."""

    def __init__(self, policy: torch.nn.Module) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """Return the logits of the actions."""
        return self.policy.action_net(self.policy.mlp_extractor.forward_actor(obs))


def make(name: str, seed: int) -> BaseAlgorithm:
    """Return an algorithm with eight environments in this process."""
    envs = make_vec_env(environment, n_envs=8, seed=seed)
    algorithm = getattr(stable_baselines3, name.removesuffix("-zoo"))
    settings = ZOO if name.endswith("-zoo") else {}
    return algorithm("MlpPolicy", envs, seed=seed, tensorboard_log="runs/sb3", device="cpu", **settings)


def export(model: BaseAlgorithm, path: str) -> float:
    """Write the actor as ONNX; return the largest difference of a logit under onnxruntime."""
    obs = torch.as_tensor(model.get_env().reset(), dtype=torch.float32)
    logits = Logits(model.policy).eval()
    torch.onnx.export(logits, (obs,), path, input_names=["obs"], verbose=False)
    (exported,) = onnxruntime.InferenceSession(path).run(None, {"obs": obs.numpy()})
    return float(np.abs(exported - logits(obs).detach().numpy()).max())


def main() -> None:
    """Train, evaluate, export; print what came of it."""
    name, seed = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(1)
    model, learned = make(name, seed), UntilLearned()
    model.learn(MOST_STEPS, callback=learned)
    found = {
        "name": name,
        "seed": seed,
        "numbers": sum(parameter.numel() for parameter in model.policy.parameters()),
        "greedy": learned.greedy,
        "sampled": learned.sampled,
        "evaluated": [
            float(evaluate_policy(model, model.get_env(), 104, deterministic=greedy)[0]) for greedy in (True, False)
        ],
        "onnx_difference": export(model, "runs/sb3.onnx"),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
