"""Timing calls in turn, so that whatever else the machine does meets all of them alike."""

import statistics
import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

# A call that is quicker is repeated for so long in a round, and the median of those is its time: the first of them
# finds the caches as the call before left them.
SECONDS_A_TURN = 0.02


def wall_seconds(call: Callable[[], object]) -> float:
    """Return how long one call takes, waiting included."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def cpu_seconds(call: Callable[[], object]) -> float:
    """Return how long this process computes for one call, on all its threads.

    On an idle machine that is how long a call of one thread takes. On a busy one it leaves out that others had the core
    in between, which would hit a long call and spare a short one.
    """
    start = time.process_time()
    call()
    return time.process_time() - start


def turn(call: Callable[[], object]) -> float:
    """Return the median CPU seconds of a call over one turn."""
    taken = [cpu_seconds(call)]
    while sum(taken) < SECONDS_A_TURN:
        taken.append(cpu_seconds(call))
    return statistics.median(taken)


def in_turn(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, NDArray[np.float64]]:
    """Time calls one after the other, round by round; a first round, in which much is set up, does not count.

    Args:
        calls: by name, computing on one thread.
        rounds: how many.

    Returns:
        CPU seconds of each call in each round, shape (rounds,). Ratios are to be taken round by round.
    """
    table = [[turn(call) for call in calls.values()] for _ in range(rounds + 1)]
    return dict(zip(calls, np.array(table[1:]).T, strict=True))
