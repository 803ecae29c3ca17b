"""One trial after another, each a run of its own, until there is none left."""

import math
import time
from functools import partial
from pathlib import Path
from typing import Any

from qtrl_hpc.cli import TrainOptions
from qtrl_hpc.distributed import AgreedError, World
from qtrl_hpc.errors import EXIT_DONE, EXIT_STOPPED, TrainingError, UserError, one_line
from qtrl_hpc.metrics import RECENT_UPDATES, SECONDS_BETWEEN_LINES, recent_reward
from qtrl_hpc.run_directory import METRICS
from qtrl_hpc.stop import StopRequest
from qtrl_hpc.sweep.results import best_of, line, summary
from qtrl_hpc.sweep.space import Space
from qtrl_hpc.sweep.study import Claim, State, Study
from qtrl_hpc.training import Audience, Ending, check, train

MOST_FAILURES = 5
PRUNED = "pruned"


def search(world: World, space: Space, folder: Path, trials: int, pruner: str, stop: StopRequest) -> int:
    """Run trials until the study has as many as it is to have, or a rank was asked to stop. Collective: all ranks.

    Args:
        world: all ranks take part in each trial.
        space: to draw from.
        folder: of the sweep.
        trials: of the study in all.
        pruner: one of ``study.PRUNERS``.
        stop: whether this rank was asked to stop.

    Returns:
        ``EXIT_DONE``, or ``EXIT_STOPPED`` where it was stopped, the trial in progress with a checkpoint.

    Raises:
        AgreedError: no trial could begin with the fixed values, the folder holds another sweep, or Optuna is missing.
        TrainingError: trial after trial fails, or all have.
    """
    check(world, space.config, stop)
    agents = None if "agents_per_rank" in space.to_dict() else world.size * space.config.agents_per_rank
    study = world.agree(lambda: Study(folder, space, pruner, agents) if world.rank == 0 else None)
    worker = _Worker(study, trials, stop) if study else None
    failures = 0
    while text := world.from_first(lambda: worker.next() if worker else ""):
        stop.asked = None
        ending, why = None, ""
        try:
            audience = Audience((worker.listen,) if worker else (), quiet=True)
            ending = train(world, TrainOptions.from_json(text), stop, audience)
        except (AgreedError, TrainingError) as error:
            why = one_line(error)
        state = world.from_first(partial(worker.conclude, ending, why) if worker else str)
        if state == "running":
            return EXIT_STOPPED
        failures = failures + 1 if state == "failed" else 0
        if failures == MOST_FAILURES:
            raise TrainingError(f"{failures} trials in a row have failed, the last one: {why}")
    if words := world.from_first(lambda: worker.end() if worker else ""):
        raise TrainingError(words)
    return EXIT_STOPPED if world.from_first(lambda: "stopped" if stop.received else "") else EXIT_DONE


class _Worker:
    """Rank 0's part: what the study is asked and told, and what people see."""

    def __init__(self, study: Study, trials: int, stop: StopRequest) -> None:
        self._study, self._trials, self._stop = study, trials, stop
        self._claim: Claim | None = None
        self._last_line = 0.0

    def next(self) -> str:
        """Return the options of the next trial's training; nothing where there is none, or a stop is asked for.

        Raises:
            UserError: values that were drawn do not go together, time and again.
        """
        unfit = ""
        for _ in range(MOST_FAILURES):
            claim = self._claim = None if self._stop.received else self._study.claim(self._trials)
            if claim is None:
                return ""
            if claim.config:
                self._last_line = time.monotonic()
                return TrainOptions(config=claim.config, run_dir=claim.run_dir, resume=claim.resume).to_json()
            unfit = claim.unfit
            self._finish(claim, "failed", why=unfit)
        raise UserError(f"{MOST_FAILURES} times in a row values that were drawn do not go together: {unfit}")

    def listen(self, row: dict[str, Any]) -> None:
        """Take note of an update: tell the pruner now and then, and people."""
        claim, update = self._claim, row["update"]
        assert claim is not None
        shown = time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES
        reports = update % self._study.every == 0 and update < claim.updates
        if not shown and not reports:
            return
        reward, _ = recent_reward(claim.run_dir / METRICS, RECENT_UPDATES)
        if shown:
            self._last_line = time.monotonic()
            earned = "-" if reward is None else f"{reward:.3f}"
            print(f"trial {claim.number:4d}  update {update}/{claim.updates}  reward {earned}", flush=True)
        if reports and reward is not None and self._study.report(claim, update, reward):
            self._stop.asked = f"{PRUNED} at update {update}"

    def conclude(self, ending: Ending | None, why: str) -> str:
        """Note how a training ended, and return what that makes of the trial."""
        claim = self._claim
        assert claim
        if ending is None:
            return self._finish(claim, "failed", why=why)
        if not ending.done:
            return self._finish(claim, "pruned" if (ending.why or "").startswith(PRUNED) else "running")
        reward, _ = recent_reward(claim.run_dir / METRICS, RECENT_UPDATES)
        if reward is None or not math.isfinite(reward):
            return self._finish(claim, "failed", why=f"no episode ended in the last {RECENT_UPDATES} updates")
        return self._finish(claim, "done", reward)

    def end(self) -> str:
        """Say what has come of it, and return what is wrong: all trials have failed."""
        results = self._study.results()
        print(summary(self._study.folder, results), flush=True)
        failures = [each.why for each in results if each.state == "failed"]
        if failures and len(failures) == len(results) and not self._stop.received:
            return f"all {len(failures)} trials have failed, the last one: {failures[-1]}"
        return ""

    def _finish(self, claim: Claim, state: State, value: float | None = None, why: str = "") -> str:
        self._study.finish(claim, state, value, why)
        results = self._study.results()
        best = best_of(results)
        print(line(results[claim.number], best), flush=True)
        return state
