"""The rewards of finished runs: one HDF5 file for all, and a small one beside it for each run since."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc import hdf5
from qtrl_hpc.config import Config
from qtrl_hpc.errors import UserError
from qtrl_hpc.provenance import git_revision, versions
from qtrl_hpc.reproduce.variants import Variant

FORMAT = "qtrl_hpc-rewards"
FORMAT_VERSION = 1
FILE = "rewards.h5"
RUNS = "runs"
BLOCK = 50
"""Rounds between two readings of the clock."""

Key = tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one seed of a variant did, round by round."""

    rewards: NDArray[np.float64]
    """Mean over the agents of the reward of their episodes, shape (rounds,)."""
    steps: NDArray[np.float64]
    """Environment steps of all agents, shape (rounds,)."""
    seconds: NDArray[np.float64]
    """Of the processor, from the start to the end of each ``BLOCK`` rounds (and of the last), shape (⌈rounds/BLOCK⌉,).

    One thread does all the work, so this is the wall time on a core that does nothing else.
    """

    def first(self, rounds: int) -> "Run":
        """Return the first so many rounds."""
        blocks = -(-rounds // BLOCK)
        return Run(rewards=self.rewards[:rounds], steps=self.steps[:rounds], seconds=self.seconds[:blocks])

    def seconds_until(self, rounds: float) -> float:
        """Return the seconds until a round, interpolated between readings; infinite for a round never reached."""
        if not np.isfinite(rounds):
            return float("inf")
        ends = np.minimum(np.arange(1, len(self.seconds) + 1) * BLOCK, len(self.rewards))
        return float(np.interp(rounds, [0, *ends], [0.0, *self.seconds]))


class Rewards:
    """All finished runs in a folder, by variant and seed.

    Args:
        folder: that holds them, or will.

    Raises:
        UserError: a file in it is damaged or of another kind.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._identities: dict[str, str] = {}
        self._runs: dict[Key, Run] = {}
        for path in [folder / FILE, *sorted((folder / RUNS).glob("*.h5"))]:
            if path.exists():
                self._read(path)

    def find(self, variant: Variant, seed: int) -> Run | None:
        """Return the rounds that a variant asks for, of one seed; None where they have not been run."""
        run = self._runs.get((variant.key, seed))
        rounds = variant.config.updates
        return run.first(rounds) if run and len(run.rewards) >= rounds else None

    def all(self, variant: Variant, seeds: range) -> list[Run]:
        """Return a variant's runs, which have all been run.

        Raises:
            KeyError: one has not.
        """
        found = [self.find(variant, seed) for seed in seeds]
        if None in found:
            raise KeyError(f"{variant.label}: some of the seeds {seeds} have not been run")
        return [run for run in found if run is not None]

    def gather(self) -> None:
        """Write all runs as one file, and drop those beside it."""
        datasets: hdf5.Datasets = {}
        for key in sorted(self._identities):
            seeds = sorted(seed for name, seed in self._runs if name == key)
            runs = [self._runs[key, seed] for seed in seeds]
            datasets[f"/{key}/seeds"] = np.array(seeds, np.float64)
            for name in ("rewards", "steps", "seconds"):
                datasets[f"/{key}/{name}"] = _padded([getattr(run, name) for run in runs])
        _write(self._folder / FILE, self._identities, datasets)
        for path in (self._folder / RUNS).glob("*.h5"):
            path.unlink()
        if (self._folder / RUNS).exists():
            (self._folder / RUNS).rmdir()

    def _read(self, path: Path) -> None:
        attributes, datasets = hdf5.read(path, format=FORMAT, format_version=FORMAT_VERSION, compressed=True)
        try:
            identities = json.loads(str(attributes["identities"]))
            for key, identity in identities.items():
                # Its key anew: fields that the configuration has got since have their defaults, as in a checkpoint.
                variant = Variant(label="", config=Config.from_dict(json.loads(identity)))
                seeds, *columns = (datasets[f"/{key}/{name}"] for name in ("seeds", "rewards", "steps", "seconds"))
                for seed, *rows in zip(seeds, *columns, strict=True):
                    rewards, steps, seconds = (row[~np.isnan(row)] for row in rows)
                    self._runs[variant.key, int(seed)] = Run(rewards=rewards, steps=steps, seconds=seconds)
                self._identities[variant.key] = variant.identity
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: lacks something that a file of rewards has ({error})") from error


def save_run(folder: Path, variant: Variant, seed: int, run: Run) -> None:
    """Write one finished run beside the others."""
    key = variant.key
    (folder / RUNS).mkdir(exist_ok=True)
    datasets = {f"/{key}/seeds": np.array([seed], np.float64)}
    datasets |= {f"/{key}/{name}": getattr(run, name)[None] for name in ("rewards", "steps", "seconds")}
    _write(folder / RUNS / f"{key}-seed{seed}.h5", {key: variant.identity}, datasets)


def _write(path: Path, identities: dict[str, str], datasets: hdf5.Datasets) -> None:
    hdf5.write(
        path,
        format=FORMAT,
        format_version=FORMAT_VERSION,
        attributes={
            "identities": json.dumps(identities, sort_keys=True),
            "creator": "qtrl_hpc.reproduce",
            "versions": json.dumps(versions() | {"git revision": git_revision()}, sort_keys=True),
        },
        datasets=datasets,
        compressed=True,
    )


def _padded(rows: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return rows of different lengths as one array, NaN after each one's end."""
    padded = np.full((len(rows), max(map(len, rows))), np.nan)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return padded
