"""What is timed: the one place where the benchmark takes hold of the project's own classes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import gymnasium
import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.cli import parse_train
from qtrl_hpc.config import Config
from qtrl_hpc.environment import Purpose, make_environment, policy_spec, seed_sequence
from qtrl_hpc.episode import Actor
from qtrl_hpc.factory import make_generator, num_qubits_for
from qtrl_hpc.fleet import Fleet
from qtrl_hpc.fleet_factory import make_fleet
from qtrl_hpc.generator import Theta
from qtrl_hpc.mapping import make_mapping
from qtrl_hpc.policy import PolicySpec, write_observation
from qtrl_hpc.quantum.adjoint import AdjointGradient
from qtrl_hpc.quantum.ansatz import Ansatz
from qtrl_hpc.quantum.qpu import QPUS

NUM_WEIGHTS = 4835
"""k of the paper's policy 147-32-3."""
NUM_QUBITS = num_qubits_for(NUM_WEIGHTS)
NUM_LAYERS = 3
THREADS = 1
SEED = 0


@dataclass(frozen=True)
class Circuit:
    """A circuit with angles, and a cotangent of its probabilities, all drawn from ``SEED``."""

    ansatz: Ansatz
    phi: NDArray[np.float64]
    cotangent: NDArray[np.float64]
    """Shape (2^n,), zero beyond the k weights that the policy has, as in a run."""


def circuit(num_qubits: int = NUM_QUBITS, num_layers: int = NUM_LAYERS) -> Circuit:
    """Return a circuit to run; by default the paper's."""
    rng = np.random.default_rng(SEED)
    ansatz = Ansatz(num_qubits=num_qubits, num_layers=num_layers)
    cotangent = rng.standard_normal(ansatz.num_amplitudes)
    if num_qubits == NUM_QUBITS:
        cotangent[NUM_WEIGHTS:] = 0.0
    return Circuit(ansatz, rng.uniform(-np.pi, np.pi, ansatz.num_angles), cotangent)


@dataclass(frozen=True)
class Simulation:
    """A circuit on one of our QPUs."""

    forward: Callable[[], NDArray[np.float64]]
    """The probabilities."""
    both: Callable[[], NDArray[np.float64]]
    """The circuit run anew, and the pullback of its probabilities."""


def simulation(subject: Circuit, qpu_name: str = "statevector") -> Simulation:
    """Return the circuit on a QPU, with the adjoint gradient."""
    qpu = QPUS[qpu_name](subject.ansatz, threads=THREADS)
    gradient = AdjointGradient(qpu)

    def both() -> NDArray[np.float64]:
        qpu.probabilities(subject.phi)
        return gradient(subject.phi, subject.cotangent)

    return Simulation(lambda: qpu.probabilities(subject.phi), both)


@contextmanager
def aer_seconds() -> Iterator[list[float]]:
    """Note, of every circuit that Aer runs inside the ``with``, the time that Aer itself says it took."""
    from qiskit_aer import AerSimulator

    noted: list[float] = []
    execute = AerSimulator._execute_circuits

    def execute_and_note(*arguments: object, **keywords: object) -> dict[str, Any]:
        output: dict[str, Any] = execute(*arguments, **keywords)
        noted.extend(float(result["time_taken"]) for result in output["results"])
        return output

    with mock.patch.object(AerSimulator, "_execute_circuits", execute_and_note):
        yield noted


def config(*flags: str) -> Config:
    """Return the configuration that ``qtrl_hpc.train`` makes of some flags."""
    return parse_train(list(flags)).config


def measured_theta(*flags: str) -> Callable[[], object]:
    """Return a call that generates the theta of one agent, as ``qtrl_hpc.train`` does with some flags."""
    fleet, initial, _ = _fleet(*flags)
    return lambda: fleet(initial, 0)


def measured_update(*flags: str) -> Callable[[], object]:
    """Return a call that generates the theta of one agent, and pulls a cotangent of it back."""
    fleet, initial, cotangent = _fleet(*flags)

    def update() -> object:
        fleet(initial, 0)
        return fleet.pullback([cotangent])

    return update


def _fleet(*flags: str) -> tuple[Fleet, Theta, NDArray[np.float64]]:
    values = config(*flags)
    spec = policy_spec(make_environment(values.env_id), values, values)
    fleet = make_fleet(values, spec)
    initial = fleet.initial(np.random.default_rng(seed_sequence(SEED, Purpose.INITIAL)))
    return fleet, initial, np.random.default_rng(SEED).standard_normal(spec.num_parameters)


def mapping_passes(preset: str) -> Callable[[], object]:
    """Return a call of the mapping model's forward pass and pullback, as a preset has it, on all k rows."""
    values, rng = config("--preset", preset), np.random.default_rng(SEED)
    mapping = make_mapping(
        num_qubits=NUM_QUBITS,
        num_rows=NUM_WEIGHTS,
        hidden_sizes=values.mapping_hidden_sizes,
        activation=values.mapping_activation,
    )
    beta = mapping.initial(rng)
    x, cotangent = rng.standard_normal(NUM_WEIGHTS), rng.standard_normal(NUM_WEIGHTS)

    def passes() -> object:
        mapping.forward(beta, x)
        return mapping.pullback(beta, cotangent)

    return passes


@dataclass(frozen=True)
class Play:
    """An environment and a policy on it."""

    env: gymnasium.Env
    bare: gymnasium.Env
    """The same as Gymnasium makes it."""
    act: Callable[[object, float], int]
    """From an observation and a uniform number to an action, as an episode does it."""


def play() -> Play:
    """Return the default environment with an initial policy."""
    values = config()
    env = make_environment(values.env_id)
    spec: PolicySpec = policy_spec(env, values, values)
    generator = make_generator(values, spec)
    initial = generator.initial(np.random.default_rng(seed_sequence(SEED, Purpose.INITIAL)))
    actor, row = Actor(generator(initial), spec), np.empty(spec.obs_size)

    def act(observation: object, uniform: float) -> int:
        write_observation(observation, spec, row)
        return actor(row, uniform)

    return Play(env, gymnasium.make(values.env_id), act)
