"""Configuration -> generator."""

import os
from pathlib import Path

import numba
import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.config import BACKEND, Config
from qtrl_hpc.environment import Purpose, seed_sequence
from qtrl_hpc.errors import UserError
from qtrl_hpc.generator import (
    ClassicalGenerator,
    Feature,
    FixedFeatureGenerator,
    Generator,
    QuantumGenerator,
    initial_Theta,
)
from qtrl_hpc.mapping import Mapping, make_mapping
from qtrl_hpc.policy import PolicySpec
from qtrl_hpc.quantum import kernels
from qtrl_hpc.quantum.adjoint import AdjointGradient
from qtrl_hpc.quantum.aer import gpu_is_supported
from qtrl_hpc.quantum.ansatz import Ansatz
from qtrl_hpc.quantum.qpu import DTYPES, QPU, QPUS
from qtrl_hpc.quantum.shift import ParameterShiftGradient
from qtrl_hpc.stopwatch import Stopwatch


def num_qubits_for(num_weights: int) -> int:
    """Return n = ⌈log2 k⌉, at least 1."""
    return max(1, (num_weights - 1).bit_length())


def make_generator(
    config: Config, spec: PolicySpec, stopwatch: Stopwatch | None = None, node_rank: int = 0
) -> Generator:
    """Build what turns Theta into the theta of one policy.

    Args:
        config: of the run.
        spec: of the policy; k = ``spec.num_parameters``.
        stopwatch: takes the seconds spent in "circuit", "mapping" and "gradient".
        node_rank: the rank's number among those of its node, which chooses its GPU.

    Raises:
        UserError: the choices do not go together, there is no GPU, or memory cannot hold it.
    """
    _check_choices(config)
    if config.policy == "classical":
        return ClassicalGenerator(spec.sizes)
    num_qubits = num_qubits_for(spec.num_parameters)
    ansatz = Ansatz(num_qubits=num_qubits, num_layers=config.layers)
    feature = feature_of(config)
    if uses_torch(config):
        return _make_torch_generator(config, spec.num_parameters, ansatz, feature, stopwatch, node_rank)
    dtype = DTYPES[config.precision]
    # ψ, λ and the probabilities; Aer's own state; eight arrays of a number a row.
    statevectors = 4 if config.qpu == "aer" else 3
    needed = (statevectors * 2 * dtype().itemsize << num_qubits) + 8 * 8 * spec.num_parameters
    _check_memory(num_qubits, spec.num_parameters, needed)
    _check_threads(ansatz, config.threads)
    qpu = QPUS[config.qpu](ansatz, precision=config.precision, threads=config.threads, **aer_gpu(config, node_rank))
    mapping = mapping_of(config, spec)
    if config.circuit != "trained":
        x = feature.forward(_fixed_probabilities(config, qpu)[: spec.num_parameters], num_qubits)
        return FixedFeatureGenerator(x, mapping, ansatz.num_angles, stopwatch)
    gradient = (
        AdjointGradient(qpu, precision=config.precision, threads=config.threads)
        if config.gradient == "adjoint"
        else ParameterShiftGradient(qpu)
    )
    return QuantumGenerator(qpu, gradient, feature, mapping, stopwatch)


def feature_of(config: Config) -> Feature:
    """Return the feature of a basis state."""
    return Feature(a=config.feature_a, b=config.feature_b, c=config.feature_c)


def mapping_of(config: Config, spec: PolicySpec) -> Mapping:
    """Return the mapping model on the k rows of a policy."""
    return make_mapping(
        num_qubits=num_qubits_for(spec.num_parameters),
        num_rows=spec.num_parameters,
        hidden_sizes=config.mapping_hidden_sizes,
        activation=config.mapping_activation,
        dtype=DTYPES[config.precision],
    )


def measures(config: Config) -> bool:
    """Return whether each agent measures a QPU of its own, so that agents' thetas or gradients differ."""
    return (
        config.shots is not None
        or config.noise is not None
        or config.qpu.startswith(BACKEND)
        or config.gradient in ("spsa", "surrogate")
        or config.share_circuits
    )


def aer_gpu(config: Config, node_rank: int) -> dict[str, int]:
    """Return the GPU that a rank's Aer computes on, by the rank's number on its node; nothing for any other QPU.

    Raises:
        UserError: the Aer that is installed has no GPU.
    """
    if config.qpu != "aer" or config.device != "cuda":
        return {}
    if not gpu_is_supported():
        raise UserError(
            "--device: got 'cuda', expected cpu with --qpu aer, or qiskit-aer-gpu in qiskit-aer's place and a GPU, or "
            "--qpu statevector or torch, which run on a GPU by torch"
        )
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    present = list(Path("/proc/driver/nvidia/gpus").glob("*")) if visible is None else visible.split(",")
    return {"gpu": node_rank % max(1, len(present))}


def _fixed_probabilities(config: Config, qpu: QPU) -> NDArray[np.float64]:
    """Return the probabilities that stand in for a trained circuit's, shape (2^n,).

    frozen: of the circuit at the angles that the seed starts from; absent: all alike, so that x = 0; random: numbers
    distributed like the probabilities of a random circuit (Porter and Thomas), exponentially.
    """
    size = qpu.ansatz.num_amplitudes
    if config.circuit == "frozen":
        rng = np.random.default_rng(seed_sequence(config.seed, Purpose.INITIAL))
        return qpu.probabilities(initial_Theta(qpu.ansatz.num_angles, (1, 1), rng).phi)
    if config.circuit == "absent":
        return np.full(size, 1.0 / size)
    drawn = np.random.default_rng(seed_sequence(config.seed, Purpose.FEATURES)).exponential(size=size)
    probabilities: NDArray[np.float64] = drawn / drawn.sum()
    return probabilities


def uses_torch(config: Config) -> bool:
    """Return whether circuit and mapping model run on torch."""
    return config.policy == "quantum" and (config.qpu == "torch" or (config.device == "cuda" and config.qpu != "aer"))


def _make_torch_generator(
    config: Config, num_rows: int, ansatz: Ansatz, feature: Feature, stopwatch: Stopwatch | None, node_rank: int
) -> Generator:
    # Not at the top: torch costs a rank more than a second of start-up, and no other generator needs it.
    import torch

    from qtrl_hpc import torch_generator

    torch.set_num_threads(config.threads)
    device = torch_generator.choose_device(config.device, node_rank)
    needed = torch_generator.memory_needed(ansatz.num_qubits, config.precision)
    if device.type == "cuda":
        _check_memory(ansatz.num_qubits, num_rows, needed, torch_generator.free_memory(device), f"free on {device}")
    else:
        _check_memory(ansatz.num_qubits, num_rows, needed)
    return torch_generator.TorchGenerator(
        ansatz,
        feature,
        num_rows=num_rows,
        hidden_sizes=config.mapping_hidden_sizes,
        activation=config.mapping_activation,
        device=device,
        precision=config.precision,
        stopwatch=stopwatch,
    )


def _check_choices(config: Config) -> None:
    """Refuse what does not go together, rather than ignore one of the flags."""
    if measures(config):
        raise UserError(
            "--shots, --noise, --qpu, --gradient: got QPUs that are measured, expected an exact one: one for all agents"
        )
    if config.policy == "classical":
        for flag, got, expected in (("device", config.device, "cpu"), ("precision", config.precision, "double")):
            if got != expected:
                raise UserError(
                    f"--{flag}: got {got!r}, expected {expected} with --policy classical, which has no circuit"
                )
        return
    if config.circuit != "trained" and uses_torch(config):
        raise UserError(f"--circuit: got {config.circuit!r}, expected trained with --qpu torch or --device cuda")
    if config.gradient != "adjoint" and uses_torch(config):
        raise UserError(f"--gradient: got {config.gradient!r}, expected adjoint with --qpu torch or --device cuda")


def _check_threads(ansatz: Ansatz, threads: int) -> None:
    """Refuse more threads than the kernels can have, where they use any."""
    most: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    if ansatz.num_amplitudes >= kernels.CHUNKED_SIZE and threads > most:
        raise UserError(
            f"--threads: got {threads}, expected at most {most}, the cores that this process may use (or what "
            "NUMBA_NUM_THREADS says)"
        )


def _check_memory(
    num_qubits: int, num_rows: int, needed: int, present: int | None = None, place: str = "of this machine"
) -> None:
    """Refuse what cannot fit.

    Args:
        num_qubits: n, for the message.
        num_rows: k, for the message.
        needed: bytes.
        present: bytes; None for all of the machine's memory.
        place: where they are.
    """
    if present is None:
        present = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > present:
        raise UserError(
            f"--policy-hidden-sizes: {num_rows} weights on {num_qubits} qubits need about {needed / 2**30:.0f} GiB of "
            f"memory a rank, expected at most the {present / 2**30:.0f} GiB {place}"
        )


def describe(config: Config, spec: PolicySpec, num_trained: int, node_rank: int = 0) -> str:
    """Return lines: the policy, the circuit and what runs it on this rank, and how many numbers are trained."""
    sizes = "-".join(map(str, spec.sizes))
    policy = f"policy    {sizes}: {spec.num_parameters} weights"
    if config.policy == "classical":
        return f"{policy}, trained directly"
    num_qubits = num_qubits_for(spec.num_parameters)
    ansatz = Ansatz(num_qubits=num_qubits, num_layers=config.layers)
    simulator: str = config.qpu if config.qpu != "aer" or config.device == "cpu" else "aer on a GPU"
    if uses_torch(config):
        from qtrl_hpc.torch_generator import choose_device, device_name

        simulator = f"torch on {device_name(choose_device(config.device, node_rank))}, {config.precision}"
    if config.circuit != "trained":
        return (
            f"{policy}, generated by a mapping model; circuit {config.circuit}, {num_qubits} qubits\n"
            f"trained   {num_trained} numbers, all of the mapping"
        )
    return (
        f"{policy}, generated by {num_qubits} qubits and {config.layers} layers ({simulator})\n"
        f"trained   {num_trained} numbers: {ansatz.num_angles} angles, {num_trained - ansatz.num_angles} of the mapping"
    )
