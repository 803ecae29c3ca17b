"""The rewards of finished runs: one HDF5 file for all, and a small one beside it for each run since."""

import json
from contextlib import suppress
from dataclasses import dataclass, replace
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

    made_by: str = ""
    """Versions and git revision of the code that ran it, as JSON."""

    def first(self, rounds: int) -> "Run":
        """Return the first so many rounds."""
        blocks = -(-rounds // BLOCK)
        return replace(self, rewards=self.rewards[:rounds], steps=self.steps[:rounds], seconds=self.seconds[:blocks])

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
        if (folder / FILE).exists():
            self._read(folder / FILE)
        for path in sorted((folder / RUNS).glob("[!.]*.h5")):
            try:
                self._read(path)
            except UserError as error:
                raise UserError(f"{error}; delete it, and that one run is done again") from error

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

    def join(self) -> None:
        """Write all runs as one file, and drop those beside it."""
        datasets: hdf5.Datasets = {}
        makers = sorted({run.made_by for run in self._runs.values()})
        for key in sorted(self._identities):
            seeds = sorted(seed for name, seed in self._runs if name == key)
            runs = [self._runs[key, seed] for seed in seeds]
            datasets[f"/{key}/seeds"] = np.array(seeds, np.float64)
            datasets[f"/{key}/made_by"] = np.array([makers.index(run.made_by) for run in runs], np.float64)
            for name in ("rewards", "steps", "seconds"):
                datasets[f"/{key}/{name}"] = _padded([getattr(run, name) for run in runs])
        _write(self._folder / FILE, self._identities, makers, datasets)
        for path in (self._folder / RUNS).glob("[!.]*.h5"):
            path.unlink()
        with suppress(OSError):  # a network file system may still show what has been deleted
            (self._folder / RUNS).rmdir()

    def _read(self, path: Path) -> None:
        attributes, datasets = hdf5.read(path, format=FORMAT, format_version=FORMAT_VERSION, compressed=True)
        try:
            identities, makers = json.loads(str(attributes["identities"])), json.loads(str(attributes["made_by"]))
            for key, identity in identities.items():
                # Its key anew: fields that the configuration has got since have their defaults, as in a checkpoint.
                variant = Variant(label="", config=Config.from_dict(json.loads(identity)))
                names = ("seeds", "made_by", "rewards", "steps", "seconds")
                for seed, maker, *rows in zip(*(datasets[f"/{key}/{name}"] for name in names), strict=True):
                    rewards, steps, seconds = (row[~np.isnan(row)] for row in rows)
                    self._runs[variant.key, int(seed)] = Run(
                        rewards=rewards, steps=steps, seconds=seconds, made_by=makers[int(maker)]
                    )
                self._identities[variant.key] = variant.identity
        except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
            raise UserError(f"{path}: lacks something that a file of rewards has ({error})") from error


def clear_leftovers(folder: Path) -> None:
    """Delete what a command left that was killed while writing. Nobody else may be writing to the folder."""
    for path in [*folder.glob(".*.tmp"), *(folder / RUNS).glob(".*.tmp")]:
        path.unlink()


def made_by() -> str:
    """Return the versions and the git revision of the code that runs, as JSON."""
    return json.dumps(versions() | {"git revision": git_revision()}, sort_keys=True)


def save_run(folder: Path, variant: Variant, seed: int, run: Run) -> None:
    """Write one finished run beside the others.

    Raises:
        UserError: it cannot be written.
    """
    key = variant.key
    datasets = {f"/{key}/seeds": np.array([seed], np.float64), f"/{key}/made_by": np.zeros(1)}
    datasets |= {f"/{key}/{name}": getattr(run, name)[None] for name in ("rewards", "steps", "seconds")}
    path = folder / RUNS / f"{key}-seed{seed}.h5"
    try:
        path.parent.mkdir(exist_ok=True)
        _write(path, {key: variant.identity}, [run.made_by], datasets)
    except OSError as error:
        raise UserError(f"--out: got {folder}, in which {path.name} cannot be written ({error.strerror})") from error


def _write(path: Path, identities: dict[str, str], makers: list[str], datasets: hdf5.Datasets) -> None:
    hdf5.write(
        path,
        format=FORMAT,
        format_version=FORMAT_VERSION,
        attributes={
            "identities": json.dumps(identities, sort_keys=True),
            "creator": "qtrl_hpc.reproduce",
            "made_by": json.dumps(makers),
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
