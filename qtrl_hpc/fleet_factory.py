"""Configuration -> the QPUs of a rank's agents."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.chosen import ansatz_of, make_qpu, mapping_of
from qtrl_hpc.config import BACKEND, GRADIENTS, Config
from qtrl_hpc.environment import Purpose, reset_seed, seed_sequence
from qtrl_hpc.errors import UserError
from qtrl_hpc.factory import aer_gpu, feature_of, make_generator, measures, num_qubits_for
from qtrl_hpc.fleet import AgentQPU, Fleet, OneEach, OneForAll, Sharing
from qtrl_hpc.generator import Generator, Pullback, QuantumGenerator
from qtrl_hpc.noise import NoiseSettings, noise_settings, settings_of
from qtrl_hpc.policy import PolicySpec
from qtrl_hpc.quantum.adjoint import AdjointGradient
from qtrl_hpc.quantum.aer_device import AerDevice
from qtrl_hpc.quantum.ansatz import Ansatz
from qtrl_hpc.quantum.backends import Backend, check_size, fake_backend, find_backend
from qtrl_hpc.quantum.exact_device import ExactDevice
from qtrl_hpc.quantum.measuring import TOLERANCES, Device, MeasuredQPU, Patience
from qtrl_hpc.quantum.qpu import StatevectorQPU
from qtrl_hpc.quantum.sampler_device import SamplerDevice
from qtrl_hpc.quantum.shift import ParameterShiftGradient, num_circuits
from qtrl_hpc.quantum.spsa import SpsaGradient
from qtrl_hpc.stopwatch import Stopwatch
from qtrl_hpc.waiting import never

Add = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def make_fleet(
    config: Config,
    spec: PolicySpec,
    stopwatch: Stopwatch | None = None,
    *,
    agents: list[int] | None = None,
    num_agents: int = 1,
    node_rank: int = 0,
    node_size: int = 1,
    add: Add = lambda rows: rows.sum(axis=0),
    called_off: Callable[[], bool] = never,
) -> Fleet:
    """Build what turns Theta into the theta of each of a rank's agents.

    Args:
        config: of the run.
        spec: of the policy.
        stopwatch: takes seconds by phase, and the circuits that measured QPUs ran.
        agents: of this rank, by number; None: as many as a rank has, from 0.
        num_agents: N, of all ranks.
        node_rank: the rank's number among those of its node, which chooses its GPU.
        node_size: ranks of its node, which share its memory.
        add: the sum of rows over all ranks (``--share-circuits``).
        called_off: whether nobody should wait for a back end any more, as the run is to stop.

    Raises:
        UserError: the choices do not go together, something is not installed, or a back end does not fit.
    """
    stopwatch = stopwatch or Stopwatch()
    if not measures(config):
        return OneForAll(make_generator(config, spec, stopwatch, node_rank))
    _check_measurement(config)
    ideal = _ideal_generator(config, spec)  # memory and threads are checked there
    ansatz = ansatz_of(config, num_qubits_for(spec.num_parameters))
    numbers = list(range(config.agents_per_rank)) if agents is None else agents
    devices = _devices(config, ansatz, node_rank, node_size, numbers, num_agents)
    measured = partial(_measured_qpu, config, stopwatch=stopwatch, called_off=called_off)
    qpus = [measured(device, Purpose.SHOTS, agent) for agent, device in zip(numbers, devices, strict=True)]
    gradients = _gradients(config, ansatz, numbers, qpus)
    fleet = []
    for agent, qpu, gradient in zip(numbers, qpus, gradients, strict=True):
        mapping = mapping_of(config, ansatz.num_qubits, spec.num_parameters)
        fleet.append(AgentQPU(agent, qpu, QuantumGenerator(qpu, gradient, feature_of(config), mapping, stopwatch)))
    shifts = [gradient for gradient in gradients if isinstance(gradient, ParameterShiftGradient)]
    return OneEach(
        fleet,
        ideal,
        measured(devices[0], Purpose.POLICY_SHOTS, numbers[0], retries=0),
        f"{config.shots} shots" if config.shots else "one measurement",
        Sharing(num_agents, shifts, add, stopwatch) if config.share_circuits else None,
    )


def _ideal_generator(config: Config, spec: PolicySpec) -> Generator:
    """Return the same generator on an exact simulation."""
    exact = replace(config, qpu="statevector", device="cpu", gradient="adjoint", shots=None, noise=None)
    return make_generator(replace(exact, share_circuits=False), spec)


def _measured_qpu(
    config: Config,
    device: Device,
    purpose: Purpose,
    agent: int,
    *,
    stopwatch: Stopwatch,
    called_off: Callable[[], bool],
    retries: int | None = None,
) -> MeasuredQPU:
    """Return one agent's QPU, which has a stream of random numbers for each purpose; ``retries``: not as configured."""
    patience = Patience(
        retries=config.qpu_retries if retries is None else retries,
        pause=config.qpu_pause,
        # A simulator does not get lost.
        timeout=(config.qpu_timeout or math.inf) if config.qpu.startswith(BACKEND) else None,
    )
    return MeasuredQPU(
        device,
        seed=_job_seed(config, purpose, agent),
        patience=patience,
        count=stopwatch.count,
        called_off=called_off,
        tolerance=TOLERANCES[config.precision],
    )


def describe_measurement(config: Config, spec: PolicySpec) -> list[str]:
    """Return lines: what is measured, and how many circuits an agent runs for one update; nothing of exact QPUs."""
    if not measures(config):
        return []
    ansatz = ansatz_of(config, num_qubits_for(spec.num_parameters))
    without = "probabilities as the back end gives them" if config.qpu.startswith(BACKEND) else "exact probabilities"
    shots = f"{config.shots} shots" if config.shots else without
    kinds = {True: "one setting for each agent", False: "noise " + str(config.noise)}
    noise = kinds[config.noise.startswith("[")] if config.noise else "no noise added"
    words = {
        "parameter-shift": f"1 + {num_circuits(ansatz)} circuits",
        "spsa": f"1 + {2 * config.spsa_directions} circuits",
        "surrogate": "1 circuit; the gradient is that of the ideal circuit, simulated",
    }
    shared = ", the latter shared out among all agents" if config.share_circuits else ""
    return [
        f"measured  {shots}, {noise}; {config.gradient}: an update of an agent takes {words[config.gradient]}{shared}"
    ]


def _check_measurement(config: Config) -> None:
    """Refuse what does not go together, rather than ignore one of the flags."""
    given = {
        f"--shots {config.shots}": config.shots is not None,
        "--noise": config.noise is not None,
        f"--qpu {config.qpu}": config.qpu.startswith(BACKEND),
    }
    measured = [flag for flag, is_given in given.items() if is_given]
    _check_qpu(config, measured)
    _check_gradient(config, measured)
    if config.share_circuits:
        _check_sharing(config)


def _check_qpu(config: Config, measured: list[str]) -> None:
    """Refuse what cannot be measured; ``measured`` are the flags that ask for it, if it is not the gradient."""
    backend = config.qpu.startswith(BACKEND)
    if config.policy == "classical":
        flag = measured[0] if measured else f"--gradient {config.gradient}"
        raise UserError(f"--policy: got 'classical' with {flag}, expected quantum: a classical policy has no circuit")
    if measured and not backend and config.qpu != "aer":
        raise UserError(f"--qpu: got {config.qpu!r}, expected aer or backend:SPEC with {measured[0]}")
    if config.qpu == "torch":
        flag = "--share-circuits" if config.share_circuits else f"--gradient {config.gradient}"
        raise UserError(f"--qpu: got 'torch', expected aer, statevector or backend:SPEC with {flag}")
    if config.device == "cuda" and config.qpu != "aer":
        raise UserError(
            f"--device: got 'cuda' and --qpu {config.qpu}, expected cpu, or cuda with --qpu aer, for QPUs that are "
            "measured (--shots, --noise, --gradient spsa, --share-circuits)"
        )
    if config.noise is not None and backend:
        raise UserError(f"--noise: got it with --qpu {config.qpu}, expected none: a back end brings its own noise")
    if config.circuit != "trained":
        flag = measured[0] if measured else f"--gradient {config.gradient}"
        raise UserError(f"--circuit: got {config.circuit!r}, expected trained with {flag}")
    if config.precision != "double" and backend:
        raise UserError(f"--precision: got {config.precision!r}, expected double with --qpu {config.qpu}")


def _check_gradient(config: Config, measured: list[str]) -> None:
    """Refuse a gradient that QPUs of this kind do not give."""
    choices = ", ".join(name for name in GRADIENTS if name != "adjoint")
    if measured and config.gradient == "adjoint":
        raise UserError(
            f"--gradient: got 'adjoint', which needs exact amplitudes, with {measured[0]}, expected one of {choices}"
        )
    if not measured and config.gradient == "surrogate":
        raise UserError(
            "--gradient: got 'surrogate' with an exact QPU, whose gradient is adjoint's, expected adjoint, "
            "parameter-shift or spsa (or --shots, --noise, --qpu backend:SPEC)"
        )


def _check_sharing(config: Config) -> None:
    """Refuse to share out circuits that are not the same whoever runs them."""
    if config.gradient != "parameter-shift":
        raise UserError(f"--share-circuits: got --gradient {config.gradient}, expected parameter-shift")
    if config.noise and (config.noise.startswith("[") or noise_settings(config.noise)[0].spread):
        raise UserError(
            "--share-circuits: got QPUs that differ by --noise (a list, or spread), expected the same noise for "
            "all: only what QPUs that are alike have measured can be shared"
        )


def _devices(
    config: Config, ansatz: Ansatz, node_rank: int, node_size: int, agents: list[int], num_agents: int
) -> list[Device]:
    """Return the devices of this rank's agents; those that are alike are one object."""
    count = len(agents)
    if config.qpu.startswith(BACKEND):
        return [_backend_device(config, ansatz)] * count
    if config.shots is None and config.noise is None:
        qpu = make_qpu(config, ansatz, **aer_gpu(config, node_rank))
        return [ExactDevice(qpu)] * count
    settings: list[NoiseSettings | None] = [None] * count
    if config.noise is not None:
        try:
            all_settings = settings_of(config.noise, num_agents)
            settings = [
                all_settings[agent].drawn(np.random.default_rng(seed_sequence(config.seed, Purpose.NOISE, agent)))
                for agent in agents
            ]
        except ValueError as error:
            raise UserError(f"--noise: {error}") from None
    made = {each: _aer_device(config, ansatz, each, node_rank, node_size) for each in dict.fromkeys(settings)}
    return [made[each] for each in settings]


def _aer_device(
    config: Config, ansatz: Ansatz, settings: NoiseSettings | None, node_rank: int, node_size: int
) -> Device:
    present = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        fake = None
        if settings and settings.fake:
            fake = fake_backend(settings.fake, ansatz.num_qubits)
            check_size(fake, ansatz.num_qubits)
        return AerDevice(
            ansatz,
            shots=config.shots,
            noise=settings,
            fake=fake,
            precision=config.precision,
            threads=config.threads,
            memory=present // 4 // node_size,
            **aer_gpu(config, node_rank),
        )
    except ValueError as error:
        raise UserError(f"--noise: got {_noise_in_words(config, settings)}, {error}") from None


def _noise_in_words(config: Config, settings: NoiseSettings | None) -> str:
    return repr(f"fake:{settings.fake}" if settings and settings.fake else config.noise)


def _backend_device(config: Config, ansatz: Ansatz) -> Device:
    try:
        found = find_backend(config.qpu.removeprefix(BACKEND), ansatz, config.shots)
        if not isinstance(found, Backend):
            return found
        if config.shots is None:
            raise UserError(f"--shots: got None, expected a number of shots with --qpu {config.qpu}")
        check_size(found.target, ansatz.num_qubits)
        most = getattr(found.target, "max_shots", None)
        if most is not None and config.shots > most:
            raise UserError(f"--shots: got {config.shots}, expected at most the {most} of {found.target.name}")
        return SamplerDevice(ansatz, found, shots=config.shots)
    except ValueError as error:
        raise UserError(f"--qpu: got {config.qpu!r}, {error}") from None


def _gradients(config: Config, ansatz: Ansatz, agents: list[int], qpus: list[MeasuredQPU]) -> Sequence[Pullback]:
    """Return what pulls cotangents of each agent's probabilities back to phi."""
    if config.gradient == "surrogate":
        return [AdjointGradient(StatevectorQPU(ansatz, precision=config.precision))] * len(qpus)
    if config.gradient == "parameter-shift":
        return [ParameterShiftGradient(qpu) for qpu in qpus]
    return [_spsa_gradient(config, agent, qpu) for agent, qpu in zip(agents, qpus, strict=True)]


def _spsa_gradient(config: Config, agent: int, qpu: MeasuredQPU) -> SpsaGradient:
    def draw() -> tuple[float, np.random.Generator]:
        update = qpu.update
        sequence = seed_sequence(config.seed, Purpose.PERTURBATIONS, agent, update)
        return config.spsa_c / (update + 1) ** config.spsa_gamma, np.random.default_rng(sequence)

    return SpsaGradient(qpu, directions=config.spsa_directions, draw=draw)


def _job_seed(config: Config, purpose: Purpose, agent: int) -> Callable[[int, int], int]:
    """Return what gives each job of an agent a stream of its own, counted by update and job."""
    return lambda update, job: reset_seed(seed_sequence(config.seed, purpose, agent, update, job)) >> 1
