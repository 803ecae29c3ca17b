"""Time a run against the same run without the circuit: ``mpirun -n 2 python -m qtrl_hpc.bench.replay``, train's flags.

Both play the very same episodes: the thetas that the circuit generated are kept, and the other run plays them again. It
trains theta itself, as ``--policy classical`` does, but what it has trained is never played. Blocks of updates of the
one and the other alternate. Neither writes files.
"""

import json
import sys
import time
from collections import deque
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from qtrl_hpc import mlp
from qtrl_hpc.agents import Agents
from qtrl_hpc.bench.subjects import config
from qtrl_hpc.config import Config
from qtrl_hpc.distributed import World
from qtrl_hpc.environment import make_environment, policy_spec
from qtrl_hpc.errors import EXIT_DONE, TrainingError
from qtrl_hpc.factory import make_generator
from qtrl_hpc.fleet import OneForAll
from qtrl_hpc.generator import ClassicalGenerator, Generator, Theta
from qtrl_hpc.job import launch
from qtrl_hpc.policy import PolicySpec
from qtrl_hpc.stop import StopRequest
from qtrl_hpc.stopwatch import Stopwatch
from qtrl_hpc.updates import Run, initial_state, run_updates

BLOCKS = 20


class Recording:
    """Generate as another generator does, and keep every theta."""

    def __init__(self, generator: Generator, kept: deque[NDArray[np.float64]]) -> None:
        self._generator, self._kept = generator, kept
        self.pullback, self.initial = generator.pullback, generator.initial
        self.concentration = generator.concentration

    def __call__(self, Theta: Theta) -> NDArray[np.float64]:
        """Return theta, shape (k,), float64."""
        theta = self._generator(Theta)
        self._kept.append(theta.copy())
        return theta


class Replaying(ClassicalGenerator):
    """Train theta itself, but play what was kept, in the order in which it was kept."""

    def __init__(self, sizes: tuple[int, ...], kept: deque[NDArray[np.float64]]) -> None:
        super().__init__(lambda rng: mlp.initial_parameters(sizes, rng))
        self._kept = kept

    def __call__(self, Theta: Theta) -> NDArray[np.float64]:
        """Return theta, shape (k,), float64."""
        return self._kept.popleft()


def time_blocks(world: World, flags: list[str], stop: StopRequest) -> list[tuple[float, float]]:
    """Return the seconds of each block of updates, with the circuit and replayed. Collective: all ranks."""
    values = config(*flags)
    threadpool_limits(values.threads)
    spec = policy_spec(make_environment(values.env_id), values, values)
    kept: deque[NDArray[np.float64]] = deque()
    quantum = make_generator(values, spec)
    generators: list[Generator] = [Recording(quantum, kept), Replaying(spec.sizes, kept)]
    agents = [_agents(world, values, spec) for _ in generators]
    states = [initial_state(generator, values) for generator in generators]
    quantum.pullback(quantum(states[0].Theta))  # loads the kernels
    seconds = []
    for end in np.linspace(0, values.updates, BLOCKS + 1).astype(int).tolist()[1:]:
        block, taken = replace(values, updates=end), []
        for side, generator in enumerate(generators):
            world.barrier()
            start = time.perf_counter()
            run = Run(world, block, spec, OneForAll(generator), agents[side], stop, Stopwatch())
            states[side] = run_updates(run, states[side])
            taken.append(time.perf_counter() - start)
        if states[0].baseline != states[1].baseline:  # its means are of all returns of all episodes so far
            raise TrainingError(f"update {end}: the replayed run has played other episodes")
        seconds.append((taken[0], taken[1]))
    return seconds


def _agents(world: World, values: Config, spec: PolicySpec) -> Agents:
    environments = [make_environment(values.env_id) for _ in range(values.agents_per_rank)]
    return Agents(values, spec, environments, first_agent=world.rank * values.agents_per_rank)


def main() -> None:
    """Print the seconds as JSON on rank 0."""
    stop = StopRequest()

    def command(world: World, text: str) -> int:
        seconds = time_blocks(world, json.loads(text), stop)
        if world.rank == 0:
            print(json.dumps(seconds), flush=True)
        return EXIT_DONE

    launch(lambda: json.dumps(sys.argv[1:]), command)


if __name__ == "__main__":
    main()
