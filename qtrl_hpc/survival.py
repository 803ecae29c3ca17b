"""Go on without ranks that have died: those left roll back to one update, share out the agents, and make it again."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from qtrl_hpc.checkpoint import TrainingState
from qtrl_hpc.distributed import AgreedError, RanksLostError
from qtrl_hpc.environment import make_environment
from qtrl_hpc.errors import TrainingError
from qtrl_hpc.fleet import Fleet
from qtrl_hpc.recorder import Recorder
from qtrl_hpc.updates import Moment, Run, look, running_episodes, save

RECOVERIES_FOR_NOTHING = 3


def own_agents(rank: int, agents_per_rank: int) -> list[int]:
    """Return the agents that a rank begins with."""
    return list(range(rank * agents_per_rank, (rank + 1) * agents_per_rank))


def agents_of(members: list[int], agents_per_rank: int, began_with: int, *, adopt: bool) -> dict[int, list[int]]:
    """Return the agents of each rank that is left.

    It depends on who is left alone and not on the order of deaths, so all ranks find the same.

    Args:
        members: ranks that are left, by the numbers they began with.
        agents_per_rank: at the start.
        began_with: ranks at the start.
        adopt: whether those left take over the agents of the dead, one after another; else these are no more.
    """
    shares = {rank: own_agents(rank, agents_per_rank) for rank in members}
    dead = [rank for rank in range(began_with) if rank not in shares]
    orphans = [agent for rank in dead for agent in own_agents(rank, agents_per_rank)]
    for place, agent in enumerate(orphans if adopt else []):
        shares[members[place % len(members)]].append(agent)
    return shares


@dataclass
class Survive:
    """Bring a run back to work after ranks of it have died; see ``updates.Survival``.

    Args:
        make_fleet: builds what turns Theta into theta for some agents.
        record: opens the run's files, cut back to an update, on the rank that is rank 0 now.
        watch: is told which ranks are left.
    """

    make_fleet: Callable[[list[int]], Fleet]
    record: Callable[[int], Recorder]
    watch: Callable[[list[int]], None]
    _in_vain: int = field(default=0, init=False)
    _last_update: int = field(default=-1, init=False)

    def __call__(self, run: Run, past: list[Moment], loss: RanksLostError) -> TrainingState:
        """Return the state to go on from. Collective: all ranks that are left.

        Raises:
            RuntimeError: nobody is missing, time and again.
        """
        start, before = time.monotonic(), list(run.world.members)
        run.stopwatch.at("agreement")
        while True:
            try:
                run.world.shrink()
                update = run.world.least(past[-1].state.update)
                run.stopwatch.at("recovery")
                state = self._recover(run, past, update, before, start, loss)
            except RanksLostError:
                continue
            return state

    def _recover(
        self, run: Run, past: list[Moment], update: int, before: list[int], start: float, loss: RanksLostError
    ) -> TrainingState:
        world, config = run.world, run.config
        dead = [rank for rank in before if rank not in world.members]
        self._in_vain = 0 if dead or update > self._last_update else self._in_vain + 1
        self._last_update = update
        if self._in_vain > RECOVERIES_FOR_NOTHING:
            raise RuntimeError(f"update {update + 1} fails time and again, and no rank is missing: {loss}")
        moment = next(moment for moment in past if moment.state.update == update)
        if moment.running is not None:  # else agents are there already, or play whole episodes
            run.agents.change(moment.numbers, lambda: make_environment(config.env_id), 0)
            run.agents.resume(moment.running)
        unplayed = 1 - run.world.least(-run.agents.furthest())
        self._share_out(run, unplayed)
        known = {each["rank"] for each in run.left}
        run.left += [
            {
                "rank": rank,
                "agents": own_agents(rank, config.agents_per_rank),
                "update": update,
                "why": "died",
                "adopted": config.adopt,
            }
            for rank in dead
            if rank not in known
        ]
        self._open_recorder(run, update)
        if run.recorder:
            self._tell(run, dead, update, time.monotonic() - start)
        self.watch(world.members)
        look(run, moment.state)  # whoever was to do so may be dead
        save(run, moment.state, running_episodes(run))
        return moment.state

    def _open_recorder(self, run: Run, update: int) -> None:
        """Give rank 0 what it writes with; where it cannot, nobody goes on. Collective: all ranks that are left."""

        def record() -> None:
            if run.world.rank != 0:
                return
            # Kept at once: if another rank dies before all agree, the files are this rank's already.
            run.recorder = recorder = self.record(update)
            if run.row.get("update") == update:
                recorder.make_up_for(run.row)

        try:
            run.world.agree(record)
        except AgreedError as error:
            raise TrainingError(f"after update {update}, on the rank that is rank 0 now: {error}") from None

    def _share_out(self, run: Run, unplayed: int) -> None:
        world, config = run.world, run.config
        shares = agents_of(world.members, config.agents_per_rank, world.began_with, adopt=config.adopt)
        numbers = shares[world.number]
        if numbers != run.agents.numbers:
            run.agents.change(numbers, lambda: make_environment(config.env_id), unplayed)
            run.fleet = self.make_fleet(numbers)

    def _tell(self, run: Run, dead: list[int], update: int, seconds: float) -> None:
        """Say on rank 0 who died and how it goes on."""
        left, agents = run.world.size, "their agents are taken over" if run.config.adopt else "their agents are no more"
        who = f"rank {', '.join(map(str, dead))} died" if dead else "a sum was wrong and nobody is missing"
        print(
            f"warning: {who} after update {update}; {left} of {run.world.began_with} ranks go on"
            f"{', ' + agents if dead else ''} ({seconds:.2f} s)",
            file=sys.stderr,
            flush=True,
        )
