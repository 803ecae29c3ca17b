"""Over how many basis states a circuit's probabilities are spread."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Added below the logarithm: changes no probability that float64 tells from 0, and makes 0·log 0 = 0.
_TINY = np.finfo(np.float64).tiny


class Concentration(NamedTuple):
    """How far probabilities are spread: both measures are largest, log 2^n and 2^n, where all are alike."""

    entropy: float
    """−Σ p_i log p_i, in nats."""
    participation_ratio: float
    """1 / Σ p_i², as if so many states were equally probable."""


def concentration(probabilities: NDArray[np.float64]) -> Concentration:
    """Return the spread of probabilities, shape (2^n,), float64, that sum to 1."""
    p = probabilities
    return Concentration(entropy=-float(p @ np.log(p + _TINY)), participation_ratio=1.0 / float(p @ p))
