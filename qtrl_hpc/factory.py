"""Configuration -> generator."""

import os
from functools import partial
from pathlib import Path

import numba
import numpy as np
from numpy.typing import NDArray

from qtrl_hpc import mlp, registry
from qtrl_hpc.chosen import ansatz_of, exact_gradient, make_qpu, mapping_of
from qtrl_hpc.config import BACKEND, Config
from qtrl_hpc.environment import Purpose, seed_sequence
from qtrl_hpc.errors import UserError
from qtrl_hpc.generator import (
    ClassicalGenerator,
    Feature,
    FixedFeatureGenerator,
    Generator,
    QuantumGenerator,
    initial_phi,
)
from qtrl_hpc.policy import MLP, PolicySpec
from qtrl_hpc.quantum import kernels
from qtrl_hpc.quantum.aer import gpu_is_supported
from qtrl_hpc.quantum.ansatz import Ansatz
from qtrl_hpc.quantum.qpu import DTYPES, QPU
from qtrl_hpc.stopwatch import Stopwatch

TRAINED_ARRAYS = 8


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
        _check_room_for("policy_hidden_sizes", spec.num_parameters)
        return ClassicalGenerator(partial(_initial_theta, spec))
    num_qubits = num_qubits_for(spec.num_parameters)
    if config.mapping == "mlp":
        sizes = (num_qubits + 1, *config.mapping_hidden_sizes, 1)
        _check_room_for("mapping_hidden_sizes", mlp.num_parameters(sizes))
    ansatz = ansatz_of(config, num_qubits)
    feature = feature_of(config)
    if uses_torch(config):
        return _make_torch_generator(config, spec.num_parameters, ansatz, feature, stopwatch, node_rank)
    dtype = DTYPES[config.precision]
    # ψ, λ and the probabilities; Aer's own state; eight arrays of a number a row.
    statevectors = 4 if config.qpu == "aer" else 3
    needed = (statevectors * 2 * dtype().itemsize << num_qubits) + 8 * 8 * spec.num_parameters
    _check_memory(num_qubits, spec.num_parameters, needed)
    _check_threads(ansatz, config.threads)
    qpu = make_qpu(config, ansatz, **aer_gpu(config, node_rank))
    mapping = mapping_of(config, num_qubits, spec.num_parameters)
    if config.circuit != "trained":
        x = feature.forward(_fixed_probabilities(config, qpu)[: spec.num_parameters], num_qubits)
        return FixedFeatureGenerator(x, mapping, ansatz.num_angles, stopwatch)
    return QuantumGenerator(qpu, exact_gradient(config, qpu), feature, mapping, stopwatch)


def feature_of(config: Config) -> Feature:
    """Return the feature of a basis state."""
    return Feature(a=config.feature_a, b=config.feature_b, c=config.feature_c)


def _initial_theta(spec: PolicySpec, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a policy's weights as PyTorch's ``nn.Linear`` would, or as the layers of the user's own network start."""
    if spec.network == MLP:
        return mlp.initial_parameters(spec.sizes, rng)
    from qtrl_hpc.policy_network import initial_parameters  # not at the top: it imports torch

    return initial_parameters(spec, rng)


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
        return qpu.probabilities(initial_phi(qpu.ansatz.num_angles, rng))
    if config.circuit == "absent":
        return np.full(size, 1.0 / size)
    drawn = np.random.default_rng(seed_sequence(config.seed, Purpose.FEATURES)).exponential(size=size)
    probabilities: NDArray[np.float64] = drawn / drawn.sum()
    return probabilities


def uses_torch(config: Config) -> bool:
    """Return whether circuit and mapping model run on torch."""
    on_gpu = config.device == "cuda" and config.qpu == "statevector"
    return config.policy == "quantum" and (config.qpu == "torch" or on_gpu)


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
        for flag, got, expected in (
            ("device", config.device, "cpu"),
            ("precision", config.precision, "double"),
            ("circuit", config.circuit, "trained"),
            ("ansatz", config.ansatz, "ring"),
            ("mapping", config.mapping, "mlp"),
        ):
            if got != expected:
                raise UserError(
                    f"--{flag}: got {got!r}, expected {expected} with --policy classical, which has no circuit"
                )
        return
    if registry.is_own(config.qpu) and config.device != "cpu":
        raise UserError(f"--device: got {config.device!r}, expected cpu with --qpu {config.qpu}, a QPU of your own")
    if config.mapping != "mlp" and uses_torch(config):
        raise UserError(f"--mapping: got {config.mapping!r}, expected mlp with --qpu torch or --device cuda")
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
        present = _memory_of_machine()
    if needed > present:
        raise UserError(
            f"--policy-hidden-sizes: {num_rows} weights on {num_qubits} qubits need about {needed / 2**30:.0f} GiB of "
            f"memory a rank, expected at most the {present / 2**30:.0f} GiB {place}"
        )


def _check_room_for(name: str, count: int) -> None:
    """Refuse more trained numbers than memory holds: themselves, two moments, gradients and copies, in float64."""
    needed, present = TRAINED_ARRAYS * 8 * count, _memory_of_machine()
    if needed > present:
        raise UserError(
            f"--{name.replace('_', '-')}: {count} trained numbers need about {needed / 2**30:.0f} GiB of memory a "
            f"rank, expected at most the {present / 2**30:.0f} GiB of this machine"
        )


def _memory_of_machine() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def describe(config: Config, spec: PolicySpec, num_trained: int, node_rank: int = 0) -> str:
    """Return lines: the policy, the circuit and what runs it on this rank, and how many numbers are trained."""
    policy = f"policy    {spec.shape}: {spec.num_parameters} weights"
    if config.policy == "classical":
        return f"{policy}, trained directly"
    num_qubits = num_qubits_for(spec.num_parameters)
    ansatz = ansatz_of(config, num_qubits)
    simulator: str = config.qpu if config.qpu != "aer" or config.device == "cpu" else "aer on a GPU"
    if uses_torch(config):
        from qtrl_hpc.torch_generator import choose_device, device_name

        simulator = f"torch on {device_name(choose_device(config.device, node_rank))}, {config.precision}"
    of_ansatz = "" if ansatz.is_ring else f" of {config.ansatz}"
    if config.circuit != "trained":
        return (
            f"{policy}, generated by a mapping model; circuit {config.circuit}, {num_qubits} qubits\n"
            f"trained   {num_trained} numbers, all of the mapping"
        )
    return (
        f"{policy}, generated by {num_qubits} qubits and {config.layers} layers{of_ansatz} ({simulator})\n"
        f"trained   {num_trained} numbers: {ansatz.num_angles} angles, {num_trained - ansatz.num_angles} of the mapping"
    )
