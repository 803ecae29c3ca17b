"""The mapping model and the exact QPU of the user's own, what they return looked at each time.

Of another shape it would be an error deep in what computes with it, or none: NumPy repeats, and slices cut off. What
they raise is left as it is. Ours are not looked at, and cost nothing.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.errors import ReturnedError
from qtrl_hpc.mapping import Mapping
from qtrl_hpc.quantum.qpu import QPU
from qtrl_hpc.registry import check_array, described, naming

Array = NDArray[np.float64]


class CheckedMapping:
    """A mapping model of the user's own (see ``Mapping``).

    Every method raises UserError, naming the object, where it returns something else than it must.

    Args:
        mapping: that has all that a ``Mapping`` has.
        name: MODULE:OBJECT.
    """

    def __init__(self, mapping: Mapping, name: str) -> None:
        self._mapping, self._name = mapping, name
        self.num_rows, self.num_parameters = mapping.num_rows, mapping.num_parameters

    def initial(self, rng: np.random.Generator) -> Array:
        """Draw a beta to start from (see ``Mapping.initial``)."""
        beta = self._mapping.initial(rng)
        with naming("mapping", self._name):
            check_array("initial", beta, (self.num_parameters,))
        return beta

    def forward(self, beta: Array, x: Array) -> Array:
        """Return M_beta of every row (see ``Mapping.forward``)."""
        output = self._mapping.forward(beta, x)
        with naming("mapping", self._name):
            check_array("forward", output, (self.num_rows,))
        return output

    def pullback(self, beta: Array, cotangent: Array) -> tuple[Array, Array]:
        """Return the gradients with respect to beta and to x (see ``Mapping.pullback``)."""
        found = self._mapping.pullback(beta, cotangent)
        with naming("mapping", self._name):
            check_gradients(found, self)
        return found


class CheckedQPU:
    """An exact QPU of the user's own (see ``QPU``).

    Every method raises UserError, naming the object, where it returns something else than it must.

    Args:
        qpu: that has all that a ``QPU`` has.
        name: MODULE:OBJECT.
    """

    pullback: Callable[[Array, Array], Array] | None
    """Σ_i g_i ∂p_i/∂φ, where the QPU has it."""

    def __init__(self, qpu: QPU, name: str) -> None:
        self._qpu, self._name = qpu, name
        self.ansatz = qpu.ansatz
        self.pullback = self._pullback if getattr(qpu, "pullback", None) is not None else None

    def probabilities(self, phi: Array) -> Array:
        """Run the circuit once (see ``QPU.probabilities``)."""
        found = self._qpu.probabilities(phi)
        with naming("qpu", self._name):
            check_array("probabilities", found, (self.ansatz.num_amplitudes,))
        return found

    def jobs(self, phis: Array) -> Iterator[Array]:
        """Run many circuits (see ``QPU.jobs``)."""
        with naming("qpu", self._name):
            yield from each_checked(self._qpu.jobs(phis), (len(phis), self.ansatz.num_amplitudes))

    def _pullback(self, phi: Array, cotangent: Array) -> Array:
        found: Array = self._qpu.pullback(phi, cotangent)  # type: ignore[attr-defined]  # not every QPU has one
        with naming("qpu", self._name):
            check_array("pullback", found, phi.shape)
        return found


def check_gradients(found: object, mapping: Mapping) -> None:
    """Refuse what is not what ``Mapping.pullback`` returns.

    Args:
        found: what a mapping model has returned.
        mapping: that model.

    Raises:
        ReturnedError: saying what it is.
    """
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise ReturnedError(f"expected pullback to return two arrays, got {described(found)}")
    check_array("pullback", found[0], (mapping.num_parameters,))
    check_array("pullback", found[1], (mapping.num_rows,))


def each_checked(jobs: Iterable[Array], shape: tuple[int, int]) -> Iterator[Array]:
    """Yield what ``QPU.jobs`` yields.

    Args:
        jobs: of the user's own.
        shape: of all rows together.

    Raises:
        ReturnedError: rows of another length, or another number of them.
    """
    rows = 0
    for found in jobs:
        check_array("jobs", found, (*getattr(found, "shape", ())[:1], shape[1]))
        rows += len(found)
        yield found
    if rows != shape[0]:
        raise ReturnedError(f"expected jobs to give {shape[0]} rows, got {rows}")
