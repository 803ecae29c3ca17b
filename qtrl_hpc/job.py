"""How a job of several ranks begins and ends: one command line, one message, one exit code."""

import os
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from qtrl_hpc.distributed import AgreedError, RanksLostError, World
from qtrl_hpc.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_INTERRUPTED, TrainingError, UserError, WriteError
from qtrl_hpc.launcher import launched_rank
from qtrl_hpc.waiting import any_left_behind

SECONDS_TO_SPEAK = 1.0


def launch(parse: Callable[[], str], command: Callable[[World, str], int]) -> NoReturn:
    """Run a command on every rank and end the process with its exit code. Collective: all ranks.

    Bad input that all ranks agree on is printed once, as one line, and every rank exits with 2. Anything else that a
    rank raises is printed once, with its rank, and ends the whole job at once.

    Args:
        parse: reads the command line; run on rank 0, its text goes to all.
        command: gets the world and that text, and returns the exit code.
    """
    try:
        world = World.connect()
    except UserError as error:
        if launched_rank(os.environ) == 0:
            print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(EXIT_BAD_INPUT)
    try:
        code = _without_the_dead(world, lambda: command(world, world.from_first(parse)))
    except (AgreedError, TrainingError) as error:
        code = EXIT_BAD_INPUT if isinstance(error, AgreedError) else EXIT_FAILED
        if world.rank == 0:
            print(f"error: {error}", file=sys.stderr, flush=True)
    except BaseException as error:
        end_all(world, error)
    world.finish()
    if world.leaves_mpi or any_left_behind():  # a back end that hangs must not keep the process
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def end_all(world: World, error: BaseException) -> NoReturn:
    """Say what this rank alone has met, and end all ranks: the others wait for it."""
    code = EXIT_BAD_INPUT if isinstance(error, UserError) else EXIT_FAILED
    if isinstance(error, UserError | WriteError):
        text = f"error: {error} (rank {world.rank})"
        if world.rank != 0:
            # What is wrong on rank 0 too, a module of the user's own say, is said once: who ends first ends the job.
            time.sleep(SECONDS_TO_SPEAK)
    elif isinstance(error, KeyboardInterrupt):
        text, code = "interrupted: what came after the newest checkpoint is lost", EXIT_INTERRUPTED
    else:
        text = f"rank {world.rank} of {world.size} failed:\n{''.join(traceback.format_exception(error))}"
    with suppress(OSError):  # a full disk may be where it goes
        print(text, file=sys.stderr, flush=True)
    world.abort(code)


def _without_the_dead(world: World, step: Callable[[], int]) -> int:
    """Run a step that ranks may die in; for those left that is their end too. Collective: all ranks."""
    try:
        return step()
    except RanksLostError as loss:
        raise world.end_of(loss) from None
