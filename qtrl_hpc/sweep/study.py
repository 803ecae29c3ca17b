"""The study that all workers of a sweep share: who works on which trial, and how trials ended. Rank 0 alone has one."""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from qtrl_hpc import files
from qtrl_hpc.checkpoint import checkpoints
from qtrl_hpc.config import RESUMABLE_FIELDS, Config
from qtrl_hpc.errors import UserError, one_line, shown
from qtrl_hpc.status import STATUS
from qtrl_hpc.sweep.results import BEST, TABLE, Result, write_results
from qtrl_hpc.sweep.space import Space

if TYPE_CHECKING:
    import optuna

DEFINITION = "sweep.json"
JOURNAL = "journal.log"
CLAIM = ".claim"
NAME = "sweep"
FORMAT, FORMAT_VERSION = "qtrl_hpc-sweep", 1
PRUNERS = ("median", "halving", "none")
# Reports to the pruner in a trial.
REPORTS = 20
# May differ between the workers of a sweep, and from one start to the next: they do not say what is computed.
FREE_FIELDS = RESUMABLE_FIELDS - {"updates"}

State = Literal["done", "pruned", "failed", "running"]


@dataclass
class Claim:
    """A trial that this worker works on."""

    number: int
    trial: "optuna.Trial"
    config: Config | None
    """None where the values do not go together, as ``unfit`` says."""
    unfit: str
    run_dir: Path
    lock: int | None
    reported: int
    """The last update that the pruner was told of."""

    @property
    def updates(self) -> int:
        """Return how many the trial has in all."""
        return self.config.updates if self.config else 0

    @property
    def resume(self) -> bool:
        """Return whether another worker, or an earlier start of this one, has left a checkpoint."""
        return bool(checkpoints(self.run_dir))


class Study:
    """Share out trials among workers, by files in one directory that all of them see.

    Args:
        folder: of the sweep.
        space: to draw from.
        pruner: one of ``PRUNERS``.
        num_agents: of each trial; None where the space says so.

    Raises:
        UserError: Optuna is missing, or the folder holds another sweep or cannot be written.
    """

    def __init__(self, folder: Path, space: Space, pruner: str, num_agents: int | None) -> None:
        self.folder, self.space = folder, space
        self.every = max(1, space.config.updates // REPORTS)
        self._optuna = _import_optuna()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Made with O_EXCL, which all clients of NFS 3 and later agree on, as does every local or parallel file
            # system; byte-range locks need a lock server, symbolic links a file system that has them.
            lock = self._optuna.storages.journal.JournalFileOpenLock
            self._lock = lock(str(folder / "claims"))
            with self._alone():
                self._define(num_agents)
                path = str(folder / JOURNAL)
                _mend(folder / JOURNAL, lock(path))
                backend = self._optuna.storages.journal.JournalFileBackend(path, lock_obj=lock(path))
                storage = self._optuna.storages.JournalStorage(backend)
                if not storage.get_all_studies():
                    self._optuna.create_study(study_name=NAME, storage=storage, direction="maximize")
                self._study = self._optuna.load_study(study_name=NAME, storage=storage, pruner=self._pruner(pruner))
        except OSError as error:
            raise UserError(f"--sweep-dir: got {folder}, which cannot be written to ({error.strerror})") from error
        except (ValueError, KeyError) as error:
            raise UserError(f"{folder / JOURNAL}: cannot be read ({one_line(error)})") from error

    def claim(self, total: int) -> Claim | None:
        """Return a trial to work on: one that nobody works on any more, else a new one.

        Args:
            total: of the trials of all workers; where so many were begun, there is no new one.
        """
        with self._alone():
            trials = self._study.get_trials(deepcopy=False)
            for each in trials:
                if not each.state.is_finished() and (found := self._take_over(each)):
                    return found
            if len(trials) >= total:
                return None
            seed = np.random.SeedSequence([self.space.config.seed, len(trials)]).generate_state(1)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # constant_liar is called experimental
                self._study.sampler = self._optuna.samplers.TPESampler(seed=int(seed[0]), constant_liar=True)
            trial = self._study.ask()
            return self._claimed(trial, self._hold(trial.number))

    def report(self, claim: Claim, update: int, reward: float) -> bool:
        """Tell how a trial goes, and return whether it is to be pruned."""
        if update > claim.reported:
            claim.trial.report(reward, update)
            claim.reported = update
        return claim.trial.should_prune()

    def finish(self, claim: Claim, state: State, value: float | None = None, why: str | None = None) -> None:
        """Note how a trial ended, and write the sweep's results. One that was only stopped is let go as it is."""
        states = self._optuna.trial.TrialState
        with self._alone():
            if why:
                claim.trial.set_user_attr("why", why)
            if state == "done":
                self._study.tell(claim.trial, value)
            elif state != "running":
                self._study.tell(claim.trial, state=states.PRUNED if state == "pruned" else states.FAIL)
            write_results(self.folder, self.space, self.results())
        files.let_go(claim.lock)

    def results(self) -> list[Result]:
        """Return how all trials stand."""
        states = self._optuna.trial.TrialState
        words: dict[Any, State] = {states.COMPLETE: "done", states.PRUNED: "pruned", states.FAIL: "failed"}
        found = []
        for trial in self._study.get_trials(deepcopy=False):
            values = {each.name: each.value(trial.params[each.name]) for each in self._drawn(trial.params)}
            state, why = words.get(trial.state, "running"), trial.user_attrs.get("why", "")
            found.append(Result(trial.number, state, trial.value, values, why))
        return found

    def run_dir(self, number: int) -> Path:
        """Return the directory of a trial's run."""
        return self.folder / f"trial-{number:04d}"

    def _drawn(self, params: dict[str, Any]) -> list[Any]:
        return [each for each in self.space.dimensions if each.name in params]

    def _take_over(self, frozen: "optuna.trial.FrozenTrial") -> Claim | None:
        """Return a trial that was begun and not ended, if nobody works on it."""
        try:
            lock = self._hold(frozen.number)
        except BlockingIOError:
            return None
        if lock is None:  # without locks nobody knows
            return None
        trial = self._optuna.Trial(self._study, frozen._trial_id)
        if why := _failure(self.run_dir(frozen.number)):
            trial.set_user_attr("why", why)
            self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
            files.let_go(lock)
            return None
        return self._claimed(trial, lock, max(frozen.intermediate_values, default=0))

    def _hold(self, number: int) -> int | None:
        run_dir = self.run_dir(number)
        run_dir.mkdir(exist_ok=True)
        return files.hold(run_dir / CLAIM)

    def _claimed(self, trial: "optuna.Trial", lock: int | None, reported: int = 0) -> Claim:
        values = {each.name: each.suggest(trial) for each in self.space.dimensions}
        config, unfit = None, ""
        try:
            config = self.space.config_of(values)
        except UserError as error:
            unfit = str(error)
        return Claim(trial.number, trial, config, unfit, self.run_dir(trial.number), lock, reported)

    def _define(self, num_agents: int | None) -> None:
        """Write what the sweep is, or refuse to go on with one that is another."""
        path = self.folder / DEFINITION
        fixed = {
            name: value
            for name, value in self.space.config.to_dict().items()
            if name not in FREE_FIELDS and name not in self.space.to_dict()
        }
        ours = {"agents": num_agents, "fixed": fixed, "space": self.space.to_dict()}
        if path.exists():
            _check_same(self.folder, _read_definition(path), ours)
            return
        for name in (BEST, TABLE, JOURNAL):
            if (self.folder / name).exists():
                raise UserError(f"--sweep-dir: got {self.folder}, which holds {name} and no sweep, expected another")
        text = json.dumps({"format": FORMAT, "format_version": FORMAT_VERSION, **ours}, indent=1)
        files.replace(path, f"{text}\n".encode())

    def _pruner(self, name: str) -> Any:
        pruners, updates = self._optuna.pruners, self.space.config.updates
        if name == "median":
            return pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=updates // 4, interval_steps=self.every)
        if name == "halving":
            return pruners.SuccessiveHalvingPruner(min_resource=self.every, reduction_factor=4)
        return pruners.NopPruner()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep the other workers from looking for a trial, and from writing results."""
        self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()


def _import_optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise UserError("qtrl_hpc.sweep: needs Optuna: pip install 'qtrl_hpc[sweep]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _mend(path: Path, lock: Any) -> None:
    """Cut off a last line that a machine did not live to write whole: Optuna would read none of those after it."""
    if not path.exists():
        return
    lock.acquire()
    try:
        with path.open("rb+") as file:
            content = file.read()
            file.truncate(content.rfind(b"\n") + 1)
    finally:
        lock.release()


def _failure(run_dir: Path) -> str | None:
    """Return of what a trial's run failed, if it says that it did."""
    try:
        status = json.loads((run_dir / STATUS).read_text())
    except (OSError, ValueError):
        return None
    return str(status.get("why")) if status.get("state") == "failed" else None


def _read_definition(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
        if found["format"] != FORMAT or found["format_version"] != FORMAT_VERSION:
            raise ValueError("of another format")
        return {name: found[name] for name in ("agents", "fixed", "space")}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: is no sweep of this version ({error})") from None


def _check_same(folder: Path, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    """Refuse a sweep whose directory holds another one, naming what differs first."""
    ours = json.loads(json.dumps(ours))
    for part in ("space", "fixed"):
        for name in sorted({*ours[part], *theirs[part]}):
            own, other = (each[part].get(name, "nothing") for each in (ours, theirs))
            if own != other:
                where = "space: " if part == "space" else ""
                raise UserError(
                    f"{where}{name}: got {shown(own)}, expected {shown(other)} as in {folder}, which holds a sweep; "
                    "name another --sweep-dir"
                )
    if ours["agents"] != theirs["agents"]:
        raise UserError(
            f"--agents-per-rank: ranks times agents make {ours['agents']}, expected {theirs['agents']} agents as in "
            f"{folder}, which holds a sweep"
        )
