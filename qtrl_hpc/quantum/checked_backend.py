"""A Qiskit back end whose results are looked at before Qiskit's generic sampler sees them."""

from typing import Any

from qiskit.providers import BackendV2, Options


class CheckedBackend(BackendV2):  # type: ignore[misc]  # Qiskit brings no types
    """Pass everything on to a back end, and refuse results that are missing.

    ``BackendSamplerV2`` would take zeros for them: every shot of a circuit that was not run would read index 0.

    Args:
        inner: the back end.
    """

    def __init__(self, inner: BackendV2) -> None:
        super().__init__(name=inner.name)
        self._inner = inner

    @property
    def target(self) -> Any:
        """Return the inner back end's."""
        return self._inner.target

    @property
    def max_circuits(self) -> int | None:
        """Return the inner back end's."""
        most: int | None = self._inner.max_circuits
        return most

    @classmethod
    def _default_options(cls) -> Options:
        return Options()

    def run(self, run_input: Any, **options: Any) -> "CheckedJob":
        """Run circuits on the inner back end."""
        return CheckedJob(self._inner.run(run_input, **options), len(run_input))


class CheckedJob:
    """A job that knows how many results it must have.

    Args:
        job: of the inner back end.
        number: of circuits.
    """

    def __init__(self, job: Any, number: int) -> None:
        self._job, self._number = job, number

    def result(self) -> Any:
        """Return the inner job's result.

        Raises:
            ValueError: a circuit has no result, or one without the memory of its shots.
        """
        result = self._job.result()
        if len(result.results) != self._number:
            raise ValueError(f"{len(result.results)} results, expected one for each of {self._number} circuits")
        if not all(getattr(each.data, "memory", None) for each in result.results):
            raise ValueError("a result without the memory of its shots")
        return result
