"""The model of docs/scaling.py, by hand."""

import numpy as np
import pytest
from support import docs_script


@pytest.fixture(scope="module")
def scaling():
    with docs_script("scaling") as module:
        yield module


def test_probabilities_count_multiples_of_the_unit(scaling):
    np.testing.assert_allclose(scaling.probabilities(np.array([1, 3, 3, 1])), [0, 0.5, 0, 0.5])
    np.testing.assert_allclose(scaling.probabilities(np.array([1.1e-5, 0.4e-5]), 5e-6), [0, 0.5, 0.5])


def test_expected_maximum(scaling):
    # Of two throws of a coin that shows 1 or 3, three in four have a 3.
    coin = np.array([0, 0.5, 0, 0.5])
    assert scaling.expected_maximum(coin, 1) == pytest.approx(scaling.mean(coin)) == pytest.approx(2.0)
    assert scaling.expected_maximum(coin, 2) == pytest.approx(0.25 * 1 + 0.75 * 3)
    assert scaling.expected_maximum(coin, 4096) == pytest.approx(3.0)
    # Of two dice: Σ k·(2k − 1)/36.
    assert scaling.expected_maximum(np.array([0, *[1 / 6] * 6]), 2) == pytest.approx(161 / 36)


def test_sum_of_two(scaling):
    np.testing.assert_allclose(scaling.sum_of(np.array([0.25, 0.75]), 2), [1 / 16, 6 / 16, 9 / 16])
    np.testing.assert_allclose(scaling.sum_of(np.array([0.25, 0.75]), 1), [0.25, 0.75])


def test_sums_in_a_row(scaling):
    np.testing.assert_array_equal(scaling.in_a_row(np.arange(5), 2), [1, 5])


def test_fit_of_exact_data(scaling):
    sizes = 8.0 * 2 ** np.arange(18)
    np.testing.assert_allclose(scaling.fit_line(sizes, 3e-6 + 2e-10 * sizes), [3e-6, 2e-10])


def test_allreduce(scaling):
    network = scaling.Network(alpha=5e-6, beta=1e-10)
    assert network.allreduce(1, 10_000) == 0.0
    assert network.allreduce(2, 10_000) == pytest.approx(6e-6)
    assert network.allreduce(4096, 10_000) == pytest.approx(72e-6)


def test_prediction(scaling):
    # An agent takes 10 s and one or three times 2 s; everything else on a rank takes 5 s.
    turn = scaling.Turn(np.array([0, 0.5, 0, 0.5]), unit=2.0, fixed=10.0, steps=2.0)
    network = scaling.Network(alpha=0.5, beta=0.25)
    alone = scaling.predict(5.0, turn, agents=1, ranks=1, network=network, size=4)
    assert (alone.seconds, alone.waiting, alone.reduction, alone.steps) == pytest.approx((19.0, 0.0, 0.0, 2.0))
    two = scaling.predict(5.0, turn, agents=1, ranks=2, network=network, size=4)
    assert two.waiting == pytest.approx(2 * (2.5 - 2.0) + 0.5)  # the barrier is α
    assert two.reduction == pytest.approx(0.5 + 0.25 * 4)
    assert two.seconds == pytest.approx(19.0 + two.waiting + two.reduction)
    # Two agents take 2, 4 or 6 units, with 1/4, 1/2, 1/4: the larger of two such sums is 4.75 on average.
    four = scaling.predict(5.0, turn, agents=2, ranks=2, network=network, size=4)
    assert four.waiting == pytest.approx(2 * (2 * 1 / 16 + 4 * 8 / 16 + 6 * 7 / 16 - 4) + 0.5)
    assert four.steps == 4.0
