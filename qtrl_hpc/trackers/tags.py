"""What is written of a run -> numbers by tag: Stable-Baselines3's names where it has them (docs/tracking.md)."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from qtrl_hpc.config import Config

# Tag -> key of metrics.jsonl; a key that a row lacks, or that is null in it, has no tag there.
_OF_UPDATE = {
    "rollout/ep_rew_mean": "reward_mean",
    "rollout/ep_len_mean": "episode_length_mean",
    "rollout/episodes": "episodes",
    "time/iterations": "update",
    "train/grad_norm": "grad_norm",
    "train/baseline": "baseline",
    "quantum/probability_entropy": "probability_entropy",
    "quantum/participation_ratio": "participation_ratio",
    "quantum/grad_norm_phi": "grad_norm_phi",
    "quantum/grad_norm_beta": "grad_norm_beta",
    "quantum/delivered": "delivered",
    "quantum/circuits": "circuits",
    "quantum/retries": "retries",
    "mpi/wait": "seconds_waiting",
    "mpi/reduce": "seconds_reduction",
    "seconds/update": "seconds",
    "seconds/circuit": "seconds_circuit",
    "seconds/mapping": "seconds_mapping",
    "seconds/episode": "seconds_episode",
    "seconds/gradient": "seconds_gradient",
}
# Tag -> key of evaluations.jsonl.
_OF_EVALUATION = {
    "eval/mean_reward": "reward_mean",
    "eval/mean_reward_low": "reward_low",
    "eval/mean_reward_high": "reward_high",
    "eval/mean_ep_length": "episode_length_mean",
    "eval/success_rate": "success_rate",
    "eval/seconds": "seconds",
}


class Totals(NamedTuple):
    """Sums over all updates so far."""

    steps: int = 0
    """Environment steps of all agents."""
    seconds: float = 0.0
    """Of the updates on rank 0."""

    def plus(self, row: Mapping[str, Any]) -> "Totals":
        """Return the sums with one more row of ``metrics.jsonl``."""
        return Totals(self.steps + row.get("steps", 0), self.seconds + row.get("seconds", 0.0))

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> "Totals":
        """Return the sums of rows of ``metrics.jsonl``."""
        kept = list(rows)
        return cls(sum(row.get("steps", 0) for row in kept), math.fsum(row.get("seconds", 0.0) for row in kept))


def update_tags(row: Mapping[str, Any], config: Config, totals: Totals, num_ranks: int) -> dict[str, float]:
    """Return the numbers of one update.

    Args:
        row: of ``metrics.jsonl``.
        config: of the run, for what follows from the update's number.
        totals: with this update.
        num_ranks: where the row does not say how many ranks made it.
    """
    before = row["update"] - 1
    values = _tagged(row, _OF_UPDATE)
    values["time/total_timesteps"] = float(totals.steps)
    values["time/time_elapsed"] = totals.seconds
    values["time/fps"] = row["steps"] / row["seconds"]
    values["train/entropy_loss"] = -row["entropy_mean"]
    gain = config.spsa_gain_at(before) if config.gradient == "spsa" else 1.0
    values["train/learning_rate"] = config.learning_rate_at(before) * gain
    values["train/logit_penalty"] = config.logit_penalty_at(before)
    values["mpi/ranks"] = float(row.get("ranks", num_ranks))
    return values


def evaluation_tags(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of one evaluation, an object of ``evaluations.jsonl``."""
    return _tagged(row, _OF_EVALUATION)


def _tagged(row: Mapping[str, Any], tags: Mapping[str, str]) -> dict[str, float]:
    return {tag: float(row[key]) for tag, key in tags.items() if row.get(key) is not None}
