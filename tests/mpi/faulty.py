"""CartPole that goes wrong on one rank at one of its episodes: QTRL_TEST_FAULT="raise 1 3" (what, rank, episode).

Episode 0 is when it is made. The time of it is written to the file QTRL_TEST_STRUCK, if there is such a variable.
"""

import os
import signal
import sys
import time
from pathlib import Path

import gymnasium
import numpy as np

RANK = os.environ.get("OMPI_COMM_WORLD_RANK", "0")


class Faulty(gymnasium.Wrapper):
    def __init__(self, render_mode=None):
        super().__init__(gymnasium.make("CartPole-v1"))
        self._episode = 0
        self._strike()

    def reset(self, *, seed=None, options=None):
        self._episode += 1
        self._strike()
        return self.env.reset(seed=seed + (self._fault == "reseed"), options=options)

    def step(self, action):
        obs, reward, *rest = self.env.step(action)
        while self._fault == "sleep":
            time.sleep(1.0)
        while self._fault == "spin":
            pass
        obs = {"shape": np.zeros(3), "nothing": None, "nanobs": np.full(4, np.nan)}.get(self._fault, obs)
        reward = {"nan": float("nan"), "inf": float("inf"), "text": "much"}.get(self._fault, reward)
        return obs, reward, *rest

    def _strike(self):
        what, rank, episode = os.environ.get("QTRL_TEST_FAULT", "none 0 0").split()
        self._fault = what if (RANK, self._episode) == (rank, int(episode)) else None
        if self._fault and "QTRL_TEST_STRUCK" in os.environ:
            Path(os.environ["QTRL_TEST_STRUCK"]).write_text(str(time.time()))
        if self._fault == "raise":
            raise RuntimeError("the pole broke")
        if self._fault == "drift":
            _drift()
        if self._fault in ("nangrad", "infgrad"):
            _spoil(float(self._fault.removesuffix("grad")))
        if self._fault and self._fault.startswith("SIG"):
            os.kill(os.getpid(), getattr(signal, self._fault))


def _drift():
    """From now on this rank's optimiser takes another step than the others'."""
    updates = sys.modules["qtrl_hpc.updates"]
    ascend = updates.ascend

    def other(vector, *rest):
        following, state = ascend(vector, *rest)
        return following + 1e-15, state

    updates.ascend = other


def _spoil(value):
    """From now on a number of this rank's gradients is not finite."""
    agents = sys.modules["qtrl_hpc.agents"].Agents
    reinforce = agents.reinforce

    def spoiled(self, *arguments):
        gradients, statistics = reinforce(self, *arguments)
        gradients[-1][len(gradients[-1]) // 2] = value
        return gradients, statistics

    agents.reinforce = spoiled


gymnasium.register("Faulty-v0", Faulty)
if RANK == "0":
    gymnasium.register("OnlyOnRank0-v0", Faulty)
