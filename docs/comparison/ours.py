"""Train preset tuned until it is learned, as ``sb3.py`` does: ``python docs/comparison/ours.py quantum 0``.

With ``classical`` the same algorithm trains the policy's weights themselves.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from qtrl_hpc import preset, train
from qtrl_hpc.checkpoint import NEWEST, Checkpoint
from qtrl_hpc.environment import make_environment
from qtrl_hpc.inference import Policy
from qtrl_hpc.play import play_episode

WINDOW = 13  # updates of 8 episodes: 104


class UntilLearned:
    """Stop once the last 104 episodes have a mean reward of 0.95; note when the greedy policy's episode has it.

    That episode is always the same, as the environment is. What it takes to play it is not counted.
    """

    def __init__(self, run_dir: Path, checkpoint_every: int) -> None:
        self.run_dir, self.every = run_dir, checkpoint_every
        self.env = make_environment("MiniGrid-Empty-5x5-v0")
        self.checking, self.steps = 0.0, 0
        self.rewards: list[float] = []
        self.greedy: tuple[float, int] | None = None
        self.sampled: tuple[float, int] | None = None

    def _now(self) -> tuple[float, int]:
        return round(time.process_time() - self.checking, 2), self.steps

    def __call__(self, row: dict[str, Any]) -> bool:
        """Take an update's metrics, return whether to go on."""
        if self.greedy is None and row["update"] > 1 and row["update"] % self.every == 1:
            start = time.process_time()
            if self.reward(greedy=True) >= 0.95:
                self.greedy = self._now()
            self.checking += time.process_time() - start
        self.steps += row["steps"]
        self.rewards.append(row["reward_mean"])
        if len(self.rewards) < WINDOW or np.mean(self.rewards[-WINDOW:]) < 0.95:
            return True
        self.sampled = self.sampled or self._now()
        return False

    def reward(self, *, greedy: bool, episodes: int = 1) -> float:
        """Return what the newest checkpoint's policy earns."""
        checkpoint = Checkpoint.load(self.run_dir / NEWEST)
        policy = Policy(checkpoint.policy_spec, checkpoint.theta)
        act = (lambda obs, rng: int(policy.act(obs))) if greedy else policy.sample
        most = checkpoint.policy_spec.max_episode_steps
        played = [play_episode(act, self.env, 1000, episode, most_steps=most) for episode in range(episodes)]
        return float(np.mean([episode.reward for episode in played]))


def main() -> None:
    """Train 8 agents in one process on one thread; print what came of it."""
    policy, seed = sys.argv[1], int(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        values = {"qpu": "statevector", "agents_per_rank": 8, "checkpoint_every": 10}
        learned = UntilLearned(run_dir, 10)
        result = train(preset("tuned", policy=policy, seed=seed, **values), run_dir=run_dir, on_update=learned)
        found = {
            "name": f"ours, {policy}",
            "seed": seed,
            "numbers": len(result.Theta),
            "greedy": learned.greedy,
            "sampled": learned.sampled,
            "evaluated": [learned.reward(greedy=greedy, episodes=104) for greedy in (True, False)],
            "updates": result.update,
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
