"""Time the reduction and the circuit of the paper's size, on all ranks at once."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc import jit
from qtrl_hpc.distributed import World
from qtrl_hpc.errors import UserError, one_line

NUMBERS = 1749  # the paper's Theta at L = 3
QUBITS, LAYERS = 13, 3
SECONDS = 1.0
FIRST = 5  # reductions that say how many fit into SECONDS
AT_LEAST, AT_MOST = 5, 100_000
CIRCUITS = 30


def reduction(world: World) -> dict[str, Any]:
    """Time one Allreduce of one update's size, for about a second: fields of ``Facts``. Collective: all ranks."""
    if world.size == 1:
        return {}
    rows = np.ones((1, NUMBERS))
    first = [_timed(lambda: _add(world, rows)) for _ in range(FIRST)]
    # From a sum, so that all ranks make as many.
    mean = float(_add(world, np.array([[sum(first)]]))[0]) / (FIRST * world.size)
    times = [_timed(lambda: _add(world, rows)) for _ in range(_how_many(mean))]
    return {"reduction_us": median(times) * 1e6} if world.rank == 0 else {}


def circuit(world: World | None) -> dict[str, Any]:
    """Time one circuit by our kernels, on all ranks at once: fields of ``Facts``. Collective: all ranks.

    Rank 0 compiles the kernel where it is not on disk yet.
    """
    found: dict[str, Any] = {}

    def load() -> None:
        try:
            jit.check_cache_folder()
            from qtrl_hpc.quantum.qpu import StatevectorQPU

            found["run"] = _runner(StatevectorQPU)
            found["load_seconds"] = _timed(found["run"])
            found["kernels"] = jit.kept_in()
        except (UserError, ImportError, OSError) as error:
            found["circuit_trouble"] = one_line(error)

    if world is None:
        load()
    else:
        world.first_then_others(load)
        world.meet()
    run = found.pop("run", None)
    if run is not None:
        found["circuit_ms"] = median(_timed(run) for _ in range(CIRCUITS)) * 1e3
    return found


def aer() -> dict[str, Any]:
    """Time one circuit by Aer: fields of ``Facts``."""
    try:
        from qtrl_hpc.quantum.qpu import AerQPU

        run = _runner(AerQPU)
        run()
    except Exception as error:  # whatever a broken installation raises
        return {"aer_trouble": one_line(error) or type(error).__name__}
    return {"aer_ms": median(_timed(run) for _ in range(CIRCUITS)) * 1e3}


def _add(world: World, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return world.sum(rows, places=None, count=world.size)


def _how_many(seconds: float) -> int:
    """Return how many calls of so many seconds each take about ``SECONDS``."""
    return int(min(max(SECONDS / max(seconds, 1e-9), AT_LEAST), AT_MOST))


def _runner(qpu: Callable[..., Any]) -> Callable[[], Any]:
    from qtrl_hpc.quantum.ansatz import Ansatz

    ansatz = Ansatz(num_qubits=QUBITS, num_layers=LAYERS)
    device = qpu(ansatz)
    phi = np.linspace(0.1, 1.0, ansatz.num_angles)
    # A state is not run again for the angles that it was run for.
    turn = iter(range(1 << 30))
    return lambda: device.probabilities(phi + 1e-3 * next(turn))


def _timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
