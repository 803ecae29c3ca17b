"""One line of the benchmark: a figure, its spread, and what it is to reach."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

Say = Callable[[str], None]
"""Takes a few words on what is being done now."""

# The spread that is given beside a median.
LOW, HIGH = 10, 90


class MeasurementError(RuntimeError):
    """A figure could not be measured; the text is one line."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure."""

    name: str
    """Unique; a section's name, or that and what is told apart within it: ``statevector.roofline``."""
    what: str
    figure: float | None
    """None where it could not be measured; the note says why."""
    unit: str
    low: float | None = None
    """The 10 % quantile of the repetitions."""
    high: float | None = None
    """The 90 % quantile."""
    repetitions: int = 0
    reach: str | None = None
    """What is aimed at, in words; None where nothing is."""
    reached: bool | None = None
    note: str = ""
    others: float | None = None
    """Cores that processes which are not ours kept busy while the section was measured."""


def measured(
    name: str,
    what: str,
    values: ArrayLike,
    unit: str,
    *,
    figure: float | None = None,
    at_most: float | None = None,
    at_least: float | None = None,
    note: str = "",
) -> Row:
    """Return the row of some repetitions.

    Args:
        name: of the row.
        what: it is.
        values: the repetitions, in ``unit``.
        unit: of the values and the aim.
        figure: the row's figure where it is not the median of ``values``.
        at_most: the aim.
        at_least: the aim, the other way round.
        note: whatever else there is to say.

    Raises:
        MeasurementError: a figure is not finite.
    """
    array = np.atleast_1d(np.asarray(values, np.float64))
    low, median, high = np.percentile(array, [LOW, 50, HIGH]).tolist()
    figure = median if figure is None else figure
    if not np.isfinite([low, figure, high]).all():
        raise MeasurementError(f"{name}: got {figure} ({low} to {high}), expected finite numbers")
    reach, reached = None, None
    if at_most is not None:
        reach, reached = f"≤ {at_most:g} {unit}", figure <= at_most
    if at_least is not None:
        reach, reached = f"≥ {at_least:g} {unit}", figure >= at_least
    return Row(
        name=name, what=what, figure=figure, unit=unit, low=low, high=high, repetitions=array.size,
        reach=reach, reached=reached, note=note,
    )  # fmt: skip


def missing(name: str, what: str, unit: str, note: str) -> Row:
    """Return the row of a figure that could not be measured, and why."""
    return Row(name=name, what=what, figure=None, unit=unit, note=note)
