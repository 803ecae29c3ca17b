"""Configuration -> the ansatz, mapping model and exact QPU that it names, of ours or of the user's own."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc import registry
from qtrl_hpc.checked_own import CheckedMapping, CheckedQPU, check_gradients, each_checked
from qtrl_hpc.config import GRADIENTS, Config
from qtrl_hpc.errors import UserError
from qtrl_hpc.mapping import Mapping, make_mapping
from qtrl_hpc.quantum.adjoint import AdjointGradient
from qtrl_hpc.quantum.ansatz import Ansatz, check_runs
from qtrl_hpc.quantum.ansatze import ANSATZE
from qtrl_hpc.quantum.measuring import TOLERANCES, checked
from qtrl_hpc.quantum.qpu import DTYPES, QPU, QPUS
from qtrl_hpc.quantum.shift import ParameterShiftGradient

MAPPINGS: dict[str, Callable[..., Mapping]] = {"mlp": make_mapping}

AN_ANSATZ = "a function of (num_qubits, num_layers) that returns an Ansatz"
A_MAPPING = "a function of (num_qubits, num_rows, hidden_sizes, activation, dtype) that returns a Mapping"
A_QPU = "a function of (ansatz, precision, threads) that returns a QPU"


def ansatz_of(config: Config, num_qubits: int) -> Ansatz:
    """Return the circuit.

    Raises:
        UserError: the user's own cannot be imported or made, or is none on so many qubits.
    """
    with registry.naming("ansatz", config.ansatz, ValueError):
        make = registry.resolve(config.ansatz, ANSATZE, AN_ANSATZ)
        ansatz = registry.made(AN_ANSATZ, lambda: make(num_qubits, config.layers))
        if not isinstance(ansatz, Ansatz):
            raise ValueError(f"expected {AN_ANSATZ}, got {registry.kind_of(ansatz)}")
        if ansatz.num_qubits != num_qubits:
            raise ValueError(f"expected an Ansatz on {num_qubits} qubits, got one on {ansatz.num_qubits}")
        return ansatz


def mapping_of(config: Config, num_qubits: int, num_rows: int) -> Mapping:
    """Return the mapping model on the k rows of a policy; one of the user's own has passed forward and back once.

    Raises:
        UserError: the user's own cannot be imported or made, or does not return what a ``Mapping`` does.
    """
    with registry.naming("mapping", config.mapping, ValueError):
        make = registry.resolve(config.mapping, MAPPINGS, A_MAPPING)
        mapping = registry.made(
            A_MAPPING,
            lambda: make(
                num_qubits=num_qubits,
                num_rows=num_rows,
                hidden_sizes=config.mapping_hidden_sizes,
                activation=config.mapping_activation,
                dtype=DTYPES[config.precision],
            ),
        )
        if config.mapping not in MAPPINGS:
            _check_mapping(mapping, num_rows)
            return CheckedMapping(mapping, config.mapping)
        return mapping


def make_qpu(config: Config, ansatz: Ansatz, **gpu: int) -> QPU:
    """Return the exact QPU; one of the user's own has run the circuit at angles 0.

    Args:
        config: of the run; ``qpu`` is neither torch nor a back end.
        ansatz: the circuit.
        gpu: the GPU of Aer, if any.

    Raises:
        UserError: the user's own cannot be imported or made, or does not return what a ``QPU`` does.
    """
    with registry.naming("qpu", config.qpu, ValueError):
        make = registry.resolve(config.qpu, QPUS, A_QPU)
        qpu = registry.made(A_QPU, lambda: make(ansatz, precision=config.precision, threads=config.threads, **gpu))
        if config.qpu not in QPUS:
            _check_qpu(qpu, ansatz, config)
            return CheckedQPU(qpu, config.qpu)
        return qpu


def exact_gradient(
    config: Config, qpu: QPU
) -> Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]:
    """Return what pulls a cotangent of an exact QPU's probabilities back to phi.

    Raises:
        UserError: adjoint is asked of a QPU of the user's own that has no ``pullback``.
    """
    if config.gradient != "adjoint":
        return ParameterShiftGradient(qpu)
    if config.qpu in QPUS:
        return AdjointGradient(qpu, precision=config.precision, threads=config.threads)
    pullback = getattr(qpu, "pullback", None)
    if pullback is None:
        choices = " or ".join(name for name in GRADIENTS if name not in ("adjoint", "surrogate"))
        raise UserError(f"--gradient: got 'adjoint' with --qpu {config.qpu}, which has no pullback, expected {choices}")
    own: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]] = pullback
    return own


def _check_mapping(mapping: Mapping, num_rows: int) -> None:
    registry.check_members(mapping, A_MAPPING, ("num_rows", "num_parameters"), ("initial", "forward", "pullback"))
    if mapping.num_rows != num_rows:
        raise ValueError(f"expected a Mapping on {num_rows} rows, got one on {mapping.num_rows}")
    count = mapping.num_parameters
    if not isinstance(count, int) or count < 1:
        raise ValueError(f"expected num_parameters to be a whole number of at least 1, got {count!r}")
    beta = registry.made(A_MAPPING, lambda: mapping.initial(np.random.default_rng(0)))
    registry.check_returned("initial", beta, (count,))
    rows = np.linspace(-1.0, 1.0, num_rows)
    registry.check_returned("forward", registry.made(A_MAPPING, lambda: mapping.forward(beta, rows)), (num_rows,))
    gradients = registry.made(A_MAPPING, lambda: mapping.pullback(beta, rows))
    check_gradients(gradients, mapping)
    for each in gradients:
        registry.check_returned("pullback", each, each.shape)


def _check_qpu(qpu: QPU, ansatz: Ansatz, config: Config) -> None:
    registry.check_members(qpu, A_QPU, ("ansatz",), ("probabilities", "jobs"))
    check_runs("a QPU", qpu.ansatz, ansatz)
    phis, size = np.zeros((2, ansatz.num_angles)), ansatz.num_amplitudes
    expected = "a QPU that gives probabilities"
    found = registry.made(expected, lambda: qpu.probabilities(phis[0]))
    registry.check_array("probabilities", found, (size,))
    rows = [found[None]]
    if config.gradient != "adjoint":
        rows += each_checked(registry.made(expected, lambda: list(qpu.jobs(phis))), (len(phis), size))
    elif (pullback := getattr(qpu, "pullback", None)) is not None:
        gradient = registry.made("a pullback of (phi, cotangent)", lambda: pullback(phis[0], np.zeros(size)))
        registry.check_returned("pullback", gradient, phis[0].shape)
    stacked = np.concatenate(rows)
    registry.made(expected, lambda: checked(stacked, stacked.shape, TOLERANCES[config.precision]))
