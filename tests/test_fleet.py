"""The QPUs of a rank's agents: alike or not, failing or not, sharing their circuits or not."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from qtrl_hpc import chosen, factory, fleet_factory
from qtrl_hpc.config import Config
from qtrl_hpc.environment import make_environment, policy_spec
from qtrl_hpc.errors import UserError
from qtrl_hpc.factory import make_generator, num_qubits_for
from qtrl_hpc.fleet import OneEach, OneForAll
from qtrl_hpc.fleet_factory import describe_measurement, make_fleet
from qtrl_hpc.noise import noise_settings, read_noise
from qtrl_hpc.quantum import aer_device
from qtrl_hpc.quantum.aer_device import AerDevice
from qtrl_hpc.quantum.ansatz import Ansatz
from qtrl_hpc.stopwatch import Stopwatch

CONFIG = Config(
    env_id="CartPole-v1",
    num_actions=2,
    policy_hidden_sizes=(3,),
    mapping_hidden_sizes=(4,),
    mapping_activation="tanh",
    layers=1,
    qpu_pause=0.0,
    qpu_retries=0,
)
SPEC = policy_spec(make_environment("CartPole-v1"), CONFIG, CONFIG)  # 23 weights, so 5 qubits
SHIFT_CIRCUITS = 5 * 3 * 2 + 5 * 3 * 4
EXACT = make_generator(replace(CONFIG, qpu="statevector"), SPEC)
THETA = EXACT.initial(np.random.default_rng(0))
WEIGHTS = EXACT(THETA)
D_THETA = list(np.random.default_rng(1).normal(size=(4, SPEC.num_parameters)))


def fleet(agents=1, stopwatch=None, *, spec=SPEC, node_size=1, **values):
    config = replace(CONFIG, agents_per_rank=agents, **values)
    return make_fleet(config, spec, stopwatch, num_agents=agents, node_size=node_size)


def gradients(d_theta):
    EXACT(THETA)
    return np.array([EXACT.pullback(row) for row in d_theta])


# --- which fleet ---


def test_exact_qpus_are_one_for_all_and_measured_ones_one_each():
    for values in ({}, {"gradient": "parameter-shift"}, {"qpu": "statevector"}, {"policy": "classical"}):
        assert isinstance(fleet(**values), OneForAll)
    for values in (
        {"shots": 10, "gradient": "spsa"},
        {"noise": read_noise("{}"), "gradient": "surrogate"},
        {"gradient": "spsa"},
        {"gradient": "parameter-shift", "share_circuits": True},
        {"qpu": "backend:aer", "shots": 10, "gradient": "spsa"},
    ):
        assert isinstance(fleet(**values), OneEach)


def test_exact_fleet_is_its_generator_to_the_bit():
    one = fleet(qpu="statevector")
    np.testing.assert_array_equal(one(THETA, 3), EXACT(THETA))
    np.testing.assert_array_equal(one.pullback(D_THETA), gradients(D_THETA))
    np.testing.assert_array_equal(one.policy(THETA, 3)[0], EXACT(THETA))
    assert [row is None for row in one.pullback([None, D_THETA[0]])] == [True, False]
    assert (one.policy(THETA, 3)[1], one.failures) == ("exact", {})


REFUSED = [
    (
        {"shots": 10},
        "--gradient: got 'adjoint', which needs exact amplitudes, with --shots 10, expected one of parameter-",
    ),
    ({"noise": "{}"}, "with --noise, expected one of parameter-shift, spsa, surrogate"),
    ({"qpu": "backend:aer", "shots": 10}, "with --shots 10, expected one of parameter-shift, spsa, surrogate"),
    ({"qpu": "statevector", "shots": 10, "gradient": "spsa"}, "--qpu: got 'statevector', expected aer or backend:SPEC"),
    (
        {"qpu": "statevector", "noise": "{}", "gradient": "spsa"},
        "--qpu: got 'statevector', expected aer or backend:SPEC",
    ),
    (
        {"qpu": "torch", "gradient": "spsa"},
        "--qpu: got 'torch', expected aer, statevector or backend:SPEC with --gradient spsa",
    ),
    (
        {"qpu": "torch", "shots": 10, "gradient": "spsa"},
        "--qpu: got 'torch', expected aer or backend:SPEC with --shots 10",
    ),
    (
        {"qpu": "torch", "gradient": "parameter-shift", "share_circuits": True},
        "--qpu: got 'torch', expected aer, statevector or backend:SPEC with --share-circuits",
    ),
    (
        {"qpu": "statevector", "device": "cuda", "gradient": "spsa"},
        "--device: got 'cuda' and --qpu statevector, expected cpu, or cuda with --qpu aer",
    ),
    ({"qpu": "backend:support_qpus:Few", "shots": 101, "gradient": "spsa"}, "--shots: got 101, expected at most the 1"),
    ({"qpu": "backend:support_qpus:Exact", "shots": 77, "gradient": "spsa"}, "(ValueError: 77 shots, expected none)"),
    ({"qpu": "backend:support_qpus:Other", "gradient": "spsa"}, "--qpu: got 'backend:support_qpus:Other', expected a"),
    (
        {"noise": '{"t1": 1e100, "one_qubit_time": 1, "spread": 3}', "gradient": "spsa"},
        "--noise: t1: got 1.3357155186429077e+100, expected a number above 0 and at most 1e+100",
    ),
    ({"qpu": "backend:aer", "gradient": "spsa"}, "--shots: got None, expected a number of shots"),
    ({"qpu": "backend:aer", "noise": "{}", "shots": 10, "gradient": "spsa"}, "--noise: got it with --qpu backend:aer"),
    (
        {"qpu": "backend:nowhere", "shots": 10, "gradient": "spsa"},
        "--qpu: got 'backend:nowhere', expected",
    ),
    ({"qpu": "backend:support_qpus:small", "shots": 9, "gradient": "spsa"}, "expected at least 5 qubits, small has 2"),
    ({"qpu": "backend:aer", "precision": "single", "shots": 10, "gradient": "spsa"}, "--precision: got 'single'"),
    ({"circuit": "frozen", "gradient": "spsa"}, "--circuit: got 'frozen', expected trained with --gradient spsa"),
    ({"gradient": "surrogate"}, "--gradient: got 'surrogate' with an exact QPU"),
    ({"share_circuits": True}, "--share-circuits: got --gradient adjoint, expected parameter-shift"),
    ({"policy": "classical", "shots": 10, "gradient": "spsa"}, "--policy: got 'classical' with --shots 10"),
    ({"policy": "classical", "circuit": "frozen"}, "--circuit: got 'frozen', expected trained with --policy classical"),
    (
        {"mapping_hidden_sizes": (10**6, 10**6)},
        "--mapping-hidden-sizes: 1000009000001 trained numbers need about 59605",
    ),
    (
        {"mapping_hidden_sizes": (10**6, 10**6), "shots": 10, "gradient": "spsa"},
        "--mapping-hidden-sizes: 1000009000001 trained numbers need about 59605 GiB of memory a rank, expected at most",
    ),
    ({"device": "cuda", "shots": 10, "gradient": "spsa"}, "--device: got 'cuda', expected cpu with --qpu aer"),
    ({"device": "cuda"}, "--device: got 'cuda', expected cpu with --qpu aer"),
    ({"noise": "[{}, {}, {}]", "gradient": "spsa"}, "--noise: got a list of 3, expected one for each of the 1 agents"),
    (
        {"noise": '{"spread": 0.1}', "gradient": "parameter-shift", "share_circuits": True},
        "--share-circuits: got QPUs that differ by --noise",
    ),
]


@pytest.mark.parametrize(("values", "words"), REFUSED, ids=[words[:60] for _, words in REFUSED])
def test_what_does_not_go_together_is_refused_in_one_line(values, words):
    with pytest.raises(UserError) as caught:
        fleet(**values)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("--")


def test_fake_back_end_that_is_unknown_or_too_small():
    pytest.importorskip(
        "qiskit_ibm_runtime", reason="qiskit-ibm-runtime is not installed (pip install 'qtrl_hpc[ibm]')"
    )
    with pytest.raises(
        UserError, match=r"^--noise: got 'fake:FakeNowhere', expected a fake back end, one of generic, "
    ):
        fleet(noise=read_noise("fake:FakeNowhere"), gradient="surrogate")
    with pytest.raises(UserError, match=r"^--noise: got 'fake:FakeArmonkV2', expected at least 5 qubits, .* has 1$"):
        fleet(noise=read_noise("fake:FakeArmonkV2"), gradient="surrogate")
    found = fleet(noise=read_noise("fake:FakeManilaV2"), gradient="surrogate")(THETA, 0)
    assert abs(found[0] - WEIGHTS).max() > 0


def test_noise_of_a_fake_back_end_needs_no_extra_where_it_is_qiskits_own():
    found = fleet(noise=read_noise("fake:generic"), gradient="surrogate")(THETA, 0)
    assert 0 < abs(found[0] - WEIGHTS).max() < 0.5


def test_aer_on_a_gpu_where_it_is_installed(monkeypatch):
    """The GPU of a rank is its number on its node, modulo their number."""
    made = []

    class Recorder:
        def __init__(self, ansatz, **options):
            made.append(options)
            raise UserError("--qpu: far enough")

    monkeypatch.setattr(factory, "gpu_is_supported", lambda: True)
    monkeypatch.setitem(chosen.QPUS, "aer", Recorder)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    for rank in range(3):
        with pytest.raises(UserError, match="far enough"):
            make_generator(replace(CONFIG, device="cuda"), SPEC, node_rank=rank)
    assert [options["gpu"] for options in made] == [0, 1, 0]


@pytest.mark.parametrize("noise", [None, "{two_qubit_rate: 0.1}"])
def test_shots_by_aer_are_on_the_gpu_that_is_the_ranks(monkeypatch, noise):
    """Of two ranks' GPUs; both for the shots and for what a checkpoint holds. Here Aer is on the CPU all the same."""
    places, original = [], aer_device.make_simulator

    def simulator(*, gpu, **options):
        places.append(gpu)
        return original(gpu=None, **options)

    monkeypatch.setattr(factory, "gpu_is_supported", lambda: True)
    monkeypatch.setattr(aer_device, "make_simulator", simulator)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    noise = noise and read_noise(noise)
    for rank in range(3):
        config = replace(CONFIG, device="cuda", shots=9, noise=noise, gradient="surrogate")
        make_fleet(config, SPEC, node_rank=rank).policy(THETA, 0)
    assert places == [0, 0, 1, 1, 0, 0]
    make_fleet(replace(CONFIG, shots=9, gradient="surrogate"), SPEC, node_rank=1)
    assert places[-1] is None


def test_memory_for_density_matrices_is_shared_out_over_the_ranks_of_a_node(monkeypatch):
    """One of 5 qubits takes 16 KiB: a quarter of 64, but not of the 32 that are for each of two."""
    monkeypatch.setattr(fleet_factory, "make_generator", lambda *_: EXACT)
    monkeypatch.setattr("os.sysconf", {"SC_PAGE_SIZE": 1 << 10, "SC_PHYS_PAGES": 64}.__getitem__)
    values = {"noise": read_noise("{two_qubit_rate: 0.1}"), "gradient": "surrogate"}
    fleet(**values, node_size=1)
    with pytest.raises(UserError, match=r"^--noise: got .*, expected --shots: the density matrix of 5 noisy qubits"):
        fleet(**values, node_size=2)


# --- measured ---


def test_rounding_of_single_precision_is_not_taken_for_a_fault():
    """Of 300 layers: more than is let pass of double precision."""
    one = fleet(qpu="aer", precision="single", gradient="spsa", layers=300)
    initial = one.initial(np.random.default_rng(0))
    found = one._agents[0].qpu._device.probabilities_many(initial.phi[None], 0)
    assert 1e-6 < abs(found.sum() - 1.0) < 1e-5
    assert one(initial, 0)[0] is not None, one.failures


def test_density_matrix_for_a_checkpoint_is_taken_where_the_run_takes_it_or_it_is_quick():
    noise, elevens = read_noise("{two_qubit_rate: 0.1}"), replace(SPEC, hidden_sizes=(200,))
    assert num_qubits_for(elevens.num_parameters) == 11
    one = fleet(spec=elevens, shots=16, noise=noise, gradient="surrogate")
    theta, source = one.policy(one.initial(np.random.default_rng(0)), 0)
    assert source == "16 shots of agent 0's QPU"
    assert np.isfinite(theta).all()
    for shots, method in ((16, None), (2048, "density_matrix")):
        device = AerDevice(Ansatz(num_qubits=11, num_layers=1), shots=shots, noise=noise_settings(noise)[0])
        assert device._exact_method == method


def test_each_agent_measures_for_itself_and_again_for_each_update():
    one = fleet(agents=3, shots=50, gradient="surrogate")
    first, second = np.array(one(THETA, 0)), np.array(one(THETA, 1))
    assert len({row.tobytes() for row in [*first, *second]}) == 6
    np.testing.assert_array_equal(fleet(agents=3, shots=50, gradient="surrogate")(THETA, 1), second)
    assert (np.array(fleet(agents=3, shots=50, gradient="surrogate", seed=1)(THETA, 1)) != second).any()


def test_agents_may_have_qpus_that_differ():
    noise = read_noise("[{}, {two_qubit_rate: 0.05}, {two_qubit_rate: 0.05}, {two_qubit_rate: 1.0, one_qubit_rate: 1}]")
    thetas = fleet(agents=4, noise=noise, gradient="surrogate")(THETA, 0)
    np.testing.assert_allclose(thetas[0], WEIGHTS, atol=1e-10)
    np.testing.assert_array_equal(thetas[1], thetas[2])
    distances = [np.linalg.norm(theta - WEIGHTS) for theta in thetas]
    assert distances[0] < distances[1] < distances[3]
    spread = fleet(agents=3, noise=read_noise("{two_qubit_rate: 0.05, spread: 0.5}"), gradient="surrogate")(THETA, 0)
    assert len({row.tobytes() for row in spread}) == 3


def test_surrogate_with_noise_of_rate_0_is_the_adjoint():
    one = fleet(agents=4, noise=read_noise("{}"), gradient="surrogate")
    one(THETA, 0)
    np.testing.assert_allclose(one.pullback(D_THETA), gradients(D_THETA), atol=1e-9)


def test_surrogate_takes_measured_probabilities_forward_and_the_ideal_circuit_backward():
    """β's gradient is that of the measured probabilities; φ's that of the ideal circuit at the cotangent they give."""
    one = fleet(noise=read_noise("{two_qubit_rate: 0.1}"), gradient="surrogate")
    one(THETA, 0)
    [found] = one.pullback(D_THETA[:1])
    expected = gradients(D_THETA[:1])[0]
    P = THETA.num_angles
    cosine = found[:P] @ expected[:P] / np.linalg.norm(found[:P]) / np.linalg.norm(expected[:P])
    assert 0.9 < cosine < 1 - 1e-6
    assert (abs(found[P:] - expected[P:]) > 1e-6).any()


def test_circuits_of_an_update_are_counted():
    for values, circuits in (
        ({"gradient": "spsa", "spsa_directions": 3}, 1 + 6),
        ({"gradient": "parameter-shift", "shots": 10}, 1 + SHIFT_CIRCUITS),
        ({"gradient": "surrogate", "shots": 10}, 1),
    ):
        stopwatch = Stopwatch()
        one = fleet(agents=2, stopwatch=stopwatch, **values)
        one(THETA, 0)
        one.pullback(D_THETA[:2])
        assert stopwatch.counts == {"circuits": 2 * circuits, "retries": 0}
        [line] = describe_measurement(replace(CONFIG, **values), SPEC)
        assert ("1 circuit;" if circuits == 1 else f"1 + {circuits - 1} circuits") in line
    assert describe_measurement(CONFIG, SPEC) == []


def test_spsa_without_shots_is_near_the_gradient_with_many_directions():
    one = fleet(gradient="spsa", spsa_directions=4000, spsa_c=1e-3, qpu="statevector")
    one(THETA, 0)
    P = THETA.num_angles
    found, expected = one.pullback(D_THETA[:1])[0], gradients(D_THETA[:1])[0]
    np.testing.assert_allclose(found[P:], expected[P:], atol=1e-10)
    error = 6 * np.linalg.norm(expected[:P]) / np.sqrt(4000)
    np.testing.assert_allclose(found[:P], expected[:P], atol=error)


def test_perturbations_differ_by_agent_and_shrink_with_the_update():
    one = fleet(agents=2, gradient="spsa", spsa_c=0.4, spsa_gamma=0.5)
    seen = {}
    for update in (0, 3):
        one(THETA, update)
        for each in one._agents:
            c, rng = each.generator._gradient._draw()
            seen[update, each.agent] = c, rng.random()
    assert [c for c, _ in seen.values()] == pytest.approx([0.4, 0.4, 0.2, 0.2])
    assert len({draw for _, draw in seen.values()}) == 4


# --- failures ---


class Moody:
    """A device that fails when told to: (agent's turn, job)."""

    circuits_per_job = None

    def __init__(self, inner, fails):
        self.ansatz, self._inner, self._fails, self.jobs = inner.ansatz, inner, fails, 0

    def probabilities_many(self, phis, seed):
        self.jobs += 1
        if self.jobs - 1 in self._fails:
            raise RuntimeError("the fridge is warm")
        return self._inner.probabilities_many(phis, seed)

    def exact(self, phi):
        return None


@pytest.fixture
def moody(monkeypatch):
    """Make devices of which agent i fails at the jobs fails[i]."""
    original = fleet_factory._devices

    def make(fails, **values):
        def devices(config, ansatz, node_rank, node_size, agents, num_agents):
            made = original(config, ansatz, node_rank, node_size, agents, num_agents)
            return [Moody(each, fails.get(agent, ())) for agent, each in zip(agents, made, strict=True)]

        monkeypatch.setattr(fleet_factory, "_devices", devices)
        return values

    return make


def test_agent_whose_qpu_fails_sits_the_update_out(moody):
    """Agent 1 has no theta; agent 2 has one, but no gradient; in the next update both are back."""
    one = fleet(agents=4, **moody({1: [0], 2: [1]}, gradient="spsa"))
    thetas = one(THETA, 0)
    assert [theta is None for theta in thetas] == [False, True, False, False]
    rows = one.pullback([None if theta is None else row for theta, row in zip(thetas, D_THETA, strict=True)])
    assert [row is None for row in rows] == [False, True, True, False]
    assert list(one.failures) == [1, 2]
    assert all("RuntimeError: the fridge is warm" in reason for reason in one.failures.values())
    assert None not in [None if row is None else 0 for row in one(THETA, 1)]
    assert one.failures == {}


def test_concentration_is_of_the_first_agent_that_delivered(moody):
    """Agents differ by their noise. Agent 0 has no theta, agent 1 no gradient: what agent 2 measured counts."""
    noise = read_noise("[{two_qubit_rate: 0.3}, {two_qubit_rate: 0.1}, {two_qubit_rate: 0.2}]")
    plain = fleet(agents=3, gradient="spsa", noise=noise)
    plain(THETA, 0)
    plain.pullback(D_THETA[:3])
    one = fleet(agents=3, **moody({0: [0], 1: [1]}, gradient="spsa", noise=noise))
    thetas = one(THETA, 0)
    one.pullback([None if theta is None else row for theta, row in zip(thetas, D_THETA, strict=False)])
    assert list(one.failures) == [0, 1]
    assert one.concentration() == plain._agents[2].generator.concentration()
    assert one.concentration() != plain.concentration() == plain._agents[0].generator.concentration()


def test_a_job_that_is_repeated_changes_nothing(moody):
    plain = fleet(gradient="spsa", shots=50)
    values = moody({0: [0, 2]}, gradient="spsa", shots=50)
    retried = fleet(**values, qpu_retries=1)
    for update in range(2):
        np.testing.assert_array_equal(retried(THETA, update), plain(THETA, update))
        np.testing.assert_array_equal(retried.pullback(D_THETA[:1]), plain.pullback(D_THETA[:1]))


def test_policy_of_a_checkpoint(moody):
    """Exact where that can be told, measured where not, and the ideal circuit's if that fails, each time said so."""
    theta, source = fleet(shots=20, gradient="surrogate").policy(THETA, 5)
    np.testing.assert_allclose(theta, WEIGHTS, atol=1e-10)
    assert source == "exact probabilities of agent 0's QPU"
    noisy = fleet(shots=20, noise=read_noise("{two_qubit_rate: 0.1}"), gradient="surrogate")
    theta, source = noisy.policy(THETA, 5)
    assert source == "exact probabilities of agent 0's QPU"
    assert abs(theta - WEIGHTS).max() > 1e-6
    measured = fleet(**moody({}, shots=20, gradient="surrogate"))
    theta, source = measured.policy(THETA, 5)
    assert source == "20 shots of agent 0's QPU"
    np.testing.assert_array_equal(measured.policy(THETA, 5)[0], theta)
    assert (measured(THETA, 5)[0] != theta).any(), "a measurement of its own"
    theta, source = fleet(**moody({0: range(9)}, shots=20, gradient="surrogate")).policy(THETA, 5)
    assert source.startswith("the ideal circuit, as agent 0's QPU failed: RuntimeError: the fridge is warm")
    np.testing.assert_allclose(theta, WEIGHTS, atol=1e-10)


@pytest.mark.parametrize("what", ["raise", "nan"])
def test_policy_of_a_device_whose_exact_probabilities_are_wrong_is_measured(monkeypatch, what):
    monkeypatch.setenv("QTRL_TEST_EXACT", what)
    theta, source = fleet(qpu="backend:support_qpus:Exact", gradient="surrogate").policy(THETA, 5)
    assert source == "one measurement of agent 0's QPU"
    np.testing.assert_allclose(theta, WEIGHTS, atol=1e-10)


def test_policy_of_a_qpu_that_fails_is_asked_for_once_and_not_at_all_after_it_failed_that_update(moody):
    one = fleet(**moody({0: range(99)}, shots=20, gradient="surrogate"), qpu_retries=2)
    device = one._agents[0].qpu._device
    one.policy(THETA, 5)
    assert device.jobs == 1
    assert one(THETA, 5) == [None]
    assert device.jobs == 1 + 3
    assert one.policy(THETA, 5)[1].startswith("the ideal circuit, as agent 0's QPU failed: RuntimeError: the fridge")
    assert device.jobs == 1 + 3
    one.policy(THETA, 6)
    assert device.jobs == 1 + 3 + 1, "others have delivered, and it may be back"


# --- shared circuits ---


def together(ranks, agents, d_theta, stopwatches, **values):
    """Run as many ranks in threads of their own, with sums as ``World.sum`` makes them: (rows, failures) of all."""
    barrier, box, results = threading.Barrier(ranks), [None] * ranks, [None] * ranks

    def run(rank):
        def add(rows):
            box[rank] = rows
            barrier.wait(30)
            total = np.zeros(rows.shape[1])
            for row in np.concatenate(box):
                total += row
            barrier.wait(30)
            return total

        config = replace(CONFIG, agents_per_rank=agents, gradient="parameter-shift", share_circuits=True, **values)
        own = list(range(rank * agents, (rank + 1) * agents))
        one = make_fleet(config, SPEC, stopwatches[rank], agents=own, num_agents=ranks * agents, add=add)
        thetas = one(THETA, 0)
        own = [
            None if theta is None else row
            for theta, row in zip(thetas, d_theta[rank * agents : (rank + 1) * agents], strict=True)
        ]
        results[rank] = one.pullback(own), dict(one.failures)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    rows = [row for result in results for row in result[0]]
    return rows, {agent: reason for result in results for agent, reason in result[1].items()}


@pytest.mark.parametrize(("ranks", "agents"), [(1, 4), (2, 2), (4, 1)])
def test_shared_circuits_give_the_sum_of_all_gradients_and_each_runs_once(ranks, agents):
    stopwatches = [Stopwatch() for _ in range(ranks)]
    rows, failures = together(ranks, agents, D_THETA, stopwatches)
    np.testing.assert_allclose(np.sum(rows, axis=0), gradients(D_THETA).sum(axis=0), atol=1e-9)
    assert sum(each.counts["circuits"] for each in stopwatches) == 4 + SHIFT_CIRCUITS
    assert failures == {}


def test_shared_circuits_do_not_depend_on_how_agents_are_shared_out_over_ranks():
    found = [np.array(together(ranks, 4 // ranks, D_THETA, [Stopwatch()] * ranks, shots=30)[0]) for ranks in (1, 2, 4)]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_share_of_a_qpu_that_fails_is_run_by_the_others(moody):
    """Agent 1 fails in theta, agent 2 in its share: three are in the sum, and it is complete."""
    moody({1: [0], 2: [1]})
    rows, failures = together(2, 2, D_THETA, [Stopwatch(), Stopwatch()])
    assert [row is None for row in rows] == [False, True, False, False]
    found = np.sum([row for row in rows if row is not None], axis=0)
    np.testing.assert_allclose(found, gradients([D_THETA[i] for i in (0, 2, 3)]).sum(axis=0), atol=1e-9)
    assert "others ran its circuits" in failures[2]
    assert "others" not in failures[1]


def test_where_no_qpu_is_left_nobody_delivers(moody):
    moody({agent: range(1, 9) for agent in range(4)})
    rows, failures = together(2, 2, D_THETA, [Stopwatch(), Stopwatch()])
    assert rows == [None] * 4
    assert len(failures) == 4
