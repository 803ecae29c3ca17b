"""What travels in the one reduction, and what its sum means."""

import numpy as np
import pytest

from qtrl_hpc.agents import STATISTICS
from qtrl_hpc.contribution import Total, pack
from qtrl_hpc.stopwatch import PHASES, Stopwatch

SECONDS = {phase: float(number) for number, phase in enumerate(PHASES, start=1)}


def rows(count, seed, *, stop=False, gradient=None):
    rng = np.random.default_rng(seed)
    d_Theta = [rng.normal(size=5) for _ in range(count)] if gradient is None else gradient
    statistics = rng.random((count, len(STATISTICS)))
    return d_Theta, statistics, packed(d_Theta, statistics, stop=stop, failed=1)


def packed(d_Theta, statistics, *, stop=False, failed=0, agents=None):
    stopwatch = Stopwatch()
    stopwatch.seconds, stopwatch.counts = SECONDS, {"circuits": 30, "retries": 4}
    size, agents = len(next(row for row in d_Theta if row is not None)), agents or len(d_Theta)
    return pack(d_Theta, statistics, stopwatch, size=size, agents=agents, failed=failed, stop=stop)


def test_sum_of_all_rows_holds_each_sum():
    """Two ranks of two agents: sums over four agents, seconds and the stop flag once a rank."""
    (g1, s1, first), (g2, s2, second) = rows(2, 0, stop=True), rows(2, 1)
    total = Total(np.concatenate([first, second]).sum(axis=0))
    np.testing.assert_allclose(total.gradient, np.sum([*g1, *g2], axis=0), atol=1e-15)
    statistics = np.concatenate([s1, s2]).sum(axis=0)
    np.testing.assert_allclose([total[name] for name in STATISTICS], statistics)
    assert {phase: total[phase] for phase in PHASES[:-1]} == {phase: 2 * SECONDS[phase] for phase in PHASES[:-1]}
    assert (total["stop"], total["non_finite"]) == (1.0, 0.0)
    assert (total["delivered"], total["failed"], total["circuits"], total["retries"]) == (4.0, 2.0, 60.0, 8.0)


def test_agent_that_did_not_deliver_brings_its_statistics_but_no_gradient():
    gradients = [np.ones(3), None, np.full(3, 2.0)]
    statistics = np.ones((3, len(STATISTICS)))
    total = Total(packed(gradients, statistics).sum(axis=0))
    np.testing.assert_array_equal(total.gradient, [3.0, 3.0, 3.0])
    assert (total["delivered"], total["episodes"], total["non_finite"]) == (2.0, 3.0, 0.0)


def test_one_row_may_be_the_sum_over_all_agents_of_a_rank():
    total = Total(packed([np.ones(3)], np.ones((1, len(STATISTICS))), agents=4)[0])
    assert total["delivered"] == 4.0


def test_mean_is_over_episodes_or_steps_and_there_may_be_none():
    d_Theta, statistics = [np.zeros(3)], np.zeros((1, len(STATISTICS)))
    statistics[0, STATISTICS.index("episodes")] = 4.0
    statistics[0, STATISTICS.index("reward")] = 6.0
    statistics[0, STATISTICS.index("steps")] = 12.0
    total = Total(packed(d_Theta, statistics)[0])
    assert (total.mean("reward", "episodes"), total.mean("reward", "steps")) == (1.5, 0.5)
    statistics[0, STATISTICS.index("episodes")] = 0.0
    assert Total(packed(d_Theta, statistics)[0]).mean("reward", "episodes") is None


def test_buffer_is_contiguous_float64_of_one_width():
    [few], [many] = rows(1, 0)[2:], rows(3, 0, stop=True)[2:]
    assert few.dtype == many.dtype == np.float64
    assert many.flags.c_contiguous
    assert (many.shape[0], many.shape[1]) == (3, few.shape[1])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["gradient", "statistics"])
def test_number_that_is_not_finite_raises_the_flag_of_its_row(place, bad):
    d_Theta, statistics = [np.zeros(3), np.zeros(3)], np.zeros((2, len(STATISTICS)))
    (d_Theta[1] if place == "gradient" else statistics[1])[2] = bad
    both = packed(d_Theta, statistics)
    assert [Total(row)["non_finite"] for row in both] == [0.0, 1.0]
    with np.errstate(invalid="ignore"):
        assert Total(both.sum(axis=0))["non_finite"] == 1.0
