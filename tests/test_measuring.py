"""A QPU that may fail: what is looked at, how often it is asked, when it is given up."""

import threading
import time

import numpy as np
import pytest

from qtrl_hpc.errors import QpuError
from qtrl_hpc.quantum.ansatz import Ansatz
from qtrl_hpc.quantum.measuring import TOLERANCES, MeasuredQPU, Patience, checked
from qtrl_hpc.waiting import GivenUpError, _left_behind, any_left_behind, never, within

ANSATZ = Ansatz(num_qubits=2, num_layers=1)
UNIFORM = np.full((1, 4), 0.25)


class Scripted:
    """Give or raise one thing after another, then uniform probabilities."""

    def __init__(self, *script, circuits_per_job=None):
        self.ansatz, self.circuits_per_job, self.script, self.seeds = ANSATZ, circuits_per_job, list(script), []

    def probabilities_many(self, phis, seed):
        self.seeds.append(seed)
        thing = self.script.pop(0) if self.script else np.tile(UNIFORM, (len(phis), 1))
        if isinstance(thing, Exception):
            raise thing
        return thing() if callable(thing) else thing


def qpu(device, retries=2, pause=0.0, timeout=None, counts=None, called_off=never):
    def count(what, number):
        if counts is not None:
            counts[what] = counts.get(what, 0) + number

    return MeasuredQPU(
        device,
        seed=lambda update, job: 1000 * update + job,
        patience=Patience(retries=retries, pause=pause, timeout=timeout),
        count=count,
        called_off=called_off,
    )


BAD = [
    (RuntimeError("the fridge\nis warm"), "RuntimeError: the fridge is warm"),
    (np.full((1, 3), 1 / 3), "probabilities of shape (1, 3), expected (1, 4)"),
    (np.full((2, 4), 1 / 4), "probabilities of shape (2, 4), expected (1, 4)"),
    (np.full((1, 4), 0.2), "probabilities that sum to 0.8, expected 1"),
    (np.array([[0.5, 0.5, np.nan, 0.0]]), "probabilities that are not finite"),
    (np.array([[0.5, 0.5, np.inf, 0.0]]), "probabilities that are not finite"),
    (np.array([[0.5, 0.75, -0.25, 0.0]]), "a probability of -0.25"),
    ("many", "ValueError"),
    (None, "probabilities of shape (), expected (1, 4)"),
]


@pytest.mark.parametrize(("bad", "word"), BAD, ids=[word for _, word in BAD])
def test_bad_result_is_asked_for_again_with_the_same_seed_then_given_up(bad, word):
    counts = {}
    device = Scripted(bad, bad)
    np.testing.assert_array_equal(qpu(device, counts=counts).probabilities(np.zeros(12)), UNIFORM[0])
    assert device.seeds == [0, 0, 0]
    assert counts == {"circuits": 3, "retries": 2}
    with pytest.raises(QpuError) as caught:
        qpu(Scripted(bad, bad, bad)).probabilities(np.zeros(12))
    assert word in str(caught.value)
    assert "attempt 3 of 3" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pauses_double():
    start = time.perf_counter()
    with pytest.raises(QpuError):
        qpu(Scripted(*[RuntimeError("no")] * 4), retries=3, pause=0.02).probabilities(np.zeros(12))
    assert 0.14 <= time.perf_counter() - start < 0.14 + 0.1


def test_call_that_hangs_is_left_behind():
    released = threading.Event()
    start = time.perf_counter()
    device = Scripted(lambda: released.wait(30), lambda: released.wait(30))
    np.testing.assert_array_equal(qpu(device, timeout=0.05).probabilities(np.zeros(12)), UNIFORM[0])
    with pytest.raises(QpuError, match=r"TimeoutError: no result after 0\.05 s"):
        qpu(Scripted(lambda: released.wait(30)), retries=0, timeout=0.05).probabilities(np.zeros(12))
    assert time.perf_counter() - start < 2.0
    assert any_left_behind()
    assert _left_behind
    released.set()
    while any_left_behind():
        time.sleep(0.001)
    assert _left_behind == [], "a long run does not keep them all"


def test_within_passes_on_what_happens():
    assert within(1.0, lambda: 3) == within(None, lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        within(1.0, lambda: 1 / 0)


def test_who_stops_waits_for_nothing_more():
    """Neither for a job, nor in a pause, nor for a further attempt; and sends nothing to a back end then."""
    released, stopping = threading.Event(), threading.Event()
    threading.Timer(0.3, stopping.set).start()
    device = Scripted(lambda: released.wait(30))
    with pytest.raises(QpuError, match=r"^not waited for, as the run was asked to stop$"):
        qpu(device, timeout=float("inf"), called_off=stopping.is_set).probabilities(np.zeros(12))
    with pytest.raises(QpuError, match="not waited for"):
        qpu(device, timeout=30.0, called_off=stopping.is_set).probabilities(np.zeros(12))
    assert len(device.seeds) == 1
    stopping.clear()
    threading.Timer(0.3, stopping.set).start()
    with pytest.raises(QpuError, match=r"not waited for.*; before that RuntimeError: no$"):
        qpu(Scripted(RuntimeError("no")), pause=100.0, called_off=stopping.is_set).probabilities(np.zeros(12))
    of_a_simulator = qpu(Scripted(), called_off=stopping.is_set).probabilities(np.zeros(12))
    np.testing.assert_array_equal(of_a_simulator, UNIFORM[0], "it surely comes")
    with pytest.raises(QpuError, match="not waited for"):
        qpu(Scripted(RuntimeError("no")), called_off=stopping.is_set).probabilities(np.zeros(12))
    with pytest.raises(GivenUpError):
        within(30.0, lambda: released.wait(30), lambda: True)
    released.set()


def test_pauses_double_up_to_ten_minutes():
    patience = Patience(retries=5000, pause=100.0, timeout=None)
    assert [patience.pause_before(attempt) for attempt in (0, 1, 2, 3, 4, 5000)] == [0, 100, 200, 400, 600, 600]
    assert Patience(retries=2, pause=1000.0, timeout=None).pause_before(2) == 1000.0
    assert Patience(retries=5000, pause=0.0, timeout=None).pause_before(5000) == 0.0


@pytest.mark.parametrize(
    ("exact", "word"),
    [
        (lambda: 1 / 0, "ZeroDivisionError"),
        (lambda: np.full(4, np.nan), "not finite"),
        (lambda: np.full(3, 1 / 3), "of shape (1, 3), expected (1, 4)"),
        (lambda: np.full(4, 0.2), "sum to 0.8"),
        (lambda: time.sleep(2), "no result after"),
    ],
    ids=["raise", "nan", "length", "sum", "hang"],
)
def test_exact_probabilities_are_looked_at_like_measured_ones(exact, word):
    device = Scripted()
    device.exact = lambda phi: exact()
    with pytest.raises(QpuError) as caught:
        qpu(device, retries=0, timeout=0.2).exact(np.zeros(12))
    assert word in str(caught.value)
    results = [RuntimeError("no"), UNIFORM[0]]

    def once_bad(phi):
        found = results.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    device.exact = once_bad
    np.testing.assert_array_equal(qpu(device, retries=1).exact(np.zeros(12)), UNIFORM[0])
    device.exact = lambda phi: None
    assert qpu(device).exact(np.zeros(12)) is None


def test_interruption_is_no_failure_of_the_qpu():
    """A person, or the launcher, wants the process to end."""
    device = Scripted()
    device.probabilities_many = lambda phis, seed: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        qpu(device).probabilities(np.zeros(12))


def test_jobs_are_as_large_as_the_device_takes_and_have_seeds_of_their_own():
    device = Scripted(circuits_per_job=3)
    measured = qpu(device)
    measured.begin(4)
    assert [len(found) for found in measured.jobs(np.zeros((8, 12)))] == [3, 3, 2]
    measured.probabilities(np.zeros(12))
    assert device.seeds == [4000, 4001, 4002, 4003]
    measured.begin(5)
    measured.probabilities(np.zeros(12))
    assert device.seeds[-1] == 5000
    assert len(list(qpu(Scripted()).jobs(np.zeros((8, 12))))) == 1


def test_rounding_is_no_reason_to_refuse():
    checked(np.array([[0.5, 0.5 + 1e-9, -1e-12, 0.0]]), (1, 4))
    single = np.array([[0.5, 0.5 + 2e-6, -1e-7, 0.0]])
    checked(single, (1, 4), TOLERANCES["single"])
    with pytest.raises(ValueError, match=r"^probabilities that sum to 1\.0000019, expected 1 to within 1e-06$"):
        checked(single, (1, 4))
