"""Qiskit Aer, told once what the circuit is: assembled with its parameters, bound by Aer's own table at each run."""

import copy
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Method = Literal["statevector", "density_matrix"]

PROBABILITIES = "probabilities"
# Numbers of one call's results that are kept at a time.
KEPT_NUMBERS = 1 << 19


def make_simulator(
    *, method: Method, precision: str = "double", threads: int = 1, gpu: int | None = None, **options: Any
) -> "AerSimulator":  # type: ignore[name-defined]  # noqa: F821
    """Return Aer's simulator.

    Args:
        method: statevector, or density_matrix for noise without shots.
        precision: double or single.
        threads: compute threads.
        gpu: number of the GPU; None for the CPU.
        options: further options of ``AerSimulator``.
    """
    from qiskit_aer import AerSimulator

    place = {} if gpu is None else {"device": "GPU", "target_gpus": [gpu]}
    return AerSimulator(method=method, precision=precision, max_parallel_threads=threads, **place, **options)


def gpu_is_supported() -> bool:
    """Return whether the Aer that is installed can compute on a GPU, and finds one."""
    from qiskit_aer import AerSimulator

    return "GPU" in AerSimulator().available_devices()


class AerProgram:
    """A circuit with parameters on one simulator.

    ``AerSimulator.run`` would assemble the circuit again at each call, which costs more than the simulation itself
    (docs/architecture.md).

    Args:
        circuit: a Qiskit circuit whose gates' parameters are numbers, the angles, or sums of them with factors.
        angles: the circuit's parameters phi, in circuit order; some may not occur.
        simulator: of ``make_simulator``.
        noise_model: Aer's, or None.
    """

    def __init__(self, circuit: Any, angles: Iterable[Any], simulator: Any, noise_model: Any = None) -> None:
        from qiskit_aer.backends.aer_compiler import assemble_circuits

        self._circuit, self._simulator, self._noise_model = circuit, simulator, noise_model
        circuit.global_phase = 0.0
        # Of a copy: assembling writes numbers over the parameters of controlled-U gates, which circuits may share.
        self._assembled, [operations] = assemble_circuits([copy.deepcopy(circuit)])
        self._slots, self._factors, self._offsets = _parameters(circuit, list(angles), operations)

    def run(self, phis: NDArray[np.float64], *, shots: int = 1, seed: int = 0) -> list[dict[str, Any]]:
        """Run the circuit with each row of angles, in one call.

        Args:
            phis: radians, shape (m, P), float64.
            shots: of each.
            seed: of Aer's random numbers; row i is run with ``seed`` + 2113·i.

        Returns:
            Aer's results, one a row.

        Raises:
            RuntimeError: Aer failed.
        """
        from qiskit_aer.backends.aer_compiler import generate_aer_config

        values = phis if self._factors is None else phis @ self._factors.T + self._offsets
        bindings = [[slot, column] for slot, column in zip(self._slots, values.T.tolist(), strict=True)]
        config = generate_aer_config(
            [self._circuit], self._simulator.options, shots=shots, seed_simulator=seed, parameterizations=[bindings]
        )
        output = self._simulator._execute_circuits(self._assembled, self._noise_model, config)
        if not output["success"]:
            raise RuntimeError(f"Qiskit Aer failed: {output['results'][0].get('status', output.get('status'))}")
        results: list[dict[str, Any]] = output["results"]
        return results

    def probabilities(self, phis: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
        """Yield what ``save_probabilities`` saved, for as many rows at a time as memory should hold.

        Yields:
            Shape (rows, 2^n), float64.
        """
        rows = max(1, KEPT_NUMBERS >> self._circuit.num_qubits)
        for start in range(0, len(phis), rows):
            results = self.run(phis[start : start + rows])
            yield np.array([result["data"][PROBABILITIES] for result in results], np.float64)


def counts_to_probabilities(counts: dict[str, int], num_qubits: int) -> NDArray[np.float64]:
    """Return counts over their sum.

    Args:
        counts: by index in hexadecimal, as Aer gives them.
        num_qubits: n.

    Returns:
        Shape (2^n,), float64.
    """
    indices = np.fromiter((int(index, 16) for index in counts), np.int64, len(counts))
    found = np.zeros(1 << num_qubits)
    found[indices] = np.fromiter(counts.values(), np.float64, len(counts))
    probabilities: NDArray[np.float64] = found / found.sum()
    return probabilities


def _parameters(
    circuit: Any, angles: list[Any], operations: list[int]
) -> tuple[list[tuple[int, int]], NDArray[np.float64] | None, NDArray[np.float64]]:
    """Return where a circuit has parameters, and how they depend on the angles: factors·phi + offsets.

    Returns:
        (operation, which of its parameters), factors of shape (slots, P), offsets of shape (slots,); factors None where
        the parameters are the angles themselves, in order.
    """
    from qiskit.circuit import ParameterExpression

    column = {angle: index for index, angle in enumerate(angles)}
    slots, expressions = [], []
    for instruction, operation in zip(circuit.data, operations, strict=True):
        for place, value in enumerate(instruction.operation.params):
            if isinstance(value, ParameterExpression) and value.parameters:
                slots.append((operation, place))
                expressions.append(value)
    found = {angle for expression in expressions for angle in expression.parameters}
    if found != set(circuit.parameters):
        raise RuntimeError(
            f"parameters of {circuit.name} that no gate was found to have: {set(circuit.parameters) - found}"
        )
    if expressions == angles:
        return slots, None, np.zeros(len(slots))
    factors, offsets = np.zeros((len(slots), len(angles))), np.zeros(len(slots))
    for row, expression in enumerate(expressions):
        for angle in expression.parameters:
            factors[row, column[angle]] = float(expression.gradient(angle))
        offsets[row] = float(expression.bind(dict.fromkeys(expression.parameters, 0.0)))
    return slots, factors, offsets
