"""Theta -> theta and back: the whole chain, its parameter counts, and the classical baseline."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from qiskit.quantum_info import Statevector

from qtrl_hpc import mlp
from qtrl_hpc.concentration import concentration
from qtrl_hpc.config import Config
from qtrl_hpc.environment import Purpose, make_environment, policy_spec, seed_sequence
from qtrl_hpc.errors import UserError
from qtrl_hpc.factory import make_generator, num_qubits_for
from qtrl_hpc.generator import ClassicalGenerator, Feature, QuantumGenerator, Theta
from qtrl_hpc.mapping import make_mapping
from qtrl_hpc.policy import PolicySpec
from qtrl_hpc.quantum.adjoint import AdjointGradient
from qtrl_hpc.quantum.ansatz import Ansatz
from qtrl_hpc.quantum.qpu import QPUS, StatevectorQPU, qiskit_circuit
from qtrl_hpc.quantum.shift import ParameterShiftGradient
from qtrl_hpc.stopwatch import Stopwatch

RL = Feature(a=0.1, b=1.0, c=1.0)


class CountingQPU(StatevectorQPU):
    runs = 0

    def probabilities(self, phi):
        self.runs += 1
        return super().probabilities(phi)


def make(
    n=4, k=11, *, layers=2, hidden=(5, 3), activation="tanh", feature=RL, qpu="statevector", gradient=AdjointGradient
):
    device = QPUS[qpu](Ansatz(num_qubits=n, num_layers=layers), threads=1)
    mapping = make_mapping(num_qubits=n, num_rows=k, hidden_sizes=hidden, activation=activation)
    return QuantumGenerator(device, gradient(device), feature, mapping)


def test_feature_by_hand():
    """n = 2, a = 1, b = 3, c = 2: (3·tanh(2p))² at p = 0, 1/2 is 0 and 9·tanh²(1) = 9·0.580025658…; minus the mean."""
    half = 9 * 0.5800256583859739 / 2
    x = Feature(a=1.0, b=3.0, c=2.0).forward(np.array([0.0, 0.5]), 2)
    np.testing.assert_allclose(x, [-half, half], rtol=1e-14)


@given(
    a=st.floats(0.05, 2),
    b=st.floats(0.1, 3),
    c=st.sampled_from([1.0, 1.5, 2.0, 3.0]),
    n=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_feature_pullback_against_differences(a, b, c, n, seed, numerical_gradient):
    feature, rng = Feature(a=a, b=b, c=c), np.random.default_rng(seed)
    p, d_x = rng.uniform(0.05, 1, 2**n), rng.normal(size=2**n)
    expected = numerical_gradient(lambda q: d_x @ feature.forward(q, n), p, h=1e-4)
    np.testing.assert_allclose(feature.pullback(p, n, d_x), expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("activation", ["none", "tanh", "relu"])
@pytest.mark.parametrize("qpu", ["aer", "statevector"])
def test_theta_is_methods_five_steps(activation, qpu, torch_mlp):
    """By Qiskit's Statevector and torch; 11 of 16 probabilities, not renormalised."""
    generator = make(activation=activation, qpu=qpu)
    start = generator.initial(np.random.default_rng(3))
    circuit = qiskit_circuit(Ansatz(num_qubits=4, num_layers=2), start.phi.tolist())
    p = torch.tensor(Statevector(circuit).probabilities()[:11])
    x = torch.tanh(0.1 * 2**3 * p)
    bits = torch.tensor([[2.0 * int(bit) - 1.0 for bit in f"{i:04b}"] for i in range(11)], dtype=torch.float64)
    out = torch_mlp(start.beta, (5, 5, 3, 1), activation)(torch.column_stack([bits, x - x.mean()]))[:, 0].detach()
    np.testing.assert_allclose(generator(start), out - out.mean(), atol=1e-12)


@pytest.mark.parametrize(
    "case",
    [
        {"qpu": "aer"},
        {"activation": "none"},
        {"activation": "relu", "hidden": (6,)},
        {"n": 1, "k": 2, "layers": 3},
        {"n": 2, "k": 3, "hidden": ()},
        {"feature": Feature(a=0.4, b=2.0, c=2.0)},
        {"gradient": ParameterShiftGradient},
        {"qpu": "aer", "gradient": ParameterShiftGradient, "n": 2, "k": 4},
    ],
    ids=str,
)
def test_pullback_against_differences(case, numerical_gradient):
    """The gradient of J(Theta) = Σ w_i θ_i, phi and beta, end to end."""
    generator = make(**{"feature": Feature(a=0.8, b=1.0, c=1.0), **case})
    rng = np.random.default_rng(4)
    size = generator.initial(rng).num_angles
    start = Theta(rng.normal(size=len(generator.initial(rng).vector)), size)
    weights = rng.normal(size=len(generator(start)))
    expected = numerical_gradient(lambda v: weights @ generator(Theta(v, size)), start.vector, h=1e-4)
    generator(start)
    gradient = generator.pullback(weights)
    assert np.abs(gradient[:size]).max() > 0.01  # so that the comparison says something about phi
    np.testing.assert_allclose(gradient, expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("gradient", [AdjointGradient, ParameterShiftGradient])
def test_pullback_serves_several_agents_after_one_call(gradient):
    generator, rng = make(gradient=gradient), np.random.default_rng(0)
    generator(generator.initial(rng))
    first, second = rng.normal(size=(2, 11))
    kept = first.copy()
    alone, both = generator.pullback(first), generator.pullback(first + second)
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_allclose(both - alone, generator.pullback(second), atol=1e-13)
    np.testing.assert_array_equal(generator.pullback(first), alone)


def test_circuit_runs_once_an_update():
    qpu = CountingQPU(Ansatz(num_qubits=3, num_layers=1))
    mapping = make_mapping(num_qubits=3, num_rows=6, hidden_sizes=(4,), activation="none")
    stopwatch = Stopwatch()
    generator = QuantumGenerator(qpu, AdjointGradient(qpu), RL, mapping, stopwatch)
    start = generator.initial(np.random.default_rng(0))
    assert qpu.runs == 0
    generator(start)
    assert qpu.runs == 1
    generator.pullback(np.ones(6))
    assert qpu.runs == 1
    assert {phase for phase, seconds in stopwatch.seconds.items() if seconds > 0} == {"circuit", "mapping", "gradient"}


def test_initial_angles_fill_the_circle_and_beta_is_drawn_as_a_linear_layer():
    generator = make(layers=50, hidden=(40, 4))
    start = generator.initial(np.random.default_rng(0))
    assert start.phi.shape == (6 * 4 * 50,)
    assert np.pi * 0.99 < np.abs(start.phi).max() <= np.pi
    assert abs(start.phi.mean()) < 0.2
    assert start.phi.std() == pytest.approx(np.pi / np.sqrt(3), rel=0.05)
    (first, _), (second, _), _ = mlp.split_parameters(start.beta, (5, 40, 4, 1))
    assert np.abs(first).max() == pytest.approx(1 / np.sqrt(5), rel=0.05)
    assert np.abs(second).max() == pytest.approx(1 / np.sqrt(40), rel=0.05)


def test_theta_is_two_views_of_one_vector():
    both = Theta(np.arange(5.0), 2)
    both.phi[:] = 9
    both.beta[0] = 8
    np.testing.assert_array_equal(both.vector, [9, 9, 8, 3, 4])


@pytest.mark.parametrize(
    ("values", "k", "n", "phi", "beta"),
    [
        ({"layers": 3}, 4835, 13, 234, 1515),  # together 1749, the paper's
        ({"layers": 7}, 4835, 13, 546, 1515),  # 2061
        ({"layers": 13}, 4835, 13, 1014, 1515),  # 2529
        ({"env_id": "CartPole-v1", "num_actions": 2, "policy_hidden_sizes": [128]}, 898, 10, 180, 1485),
    ],
)
def test_parameter_counts_follow_from_the_configuration(values, k, n, phi, beta):
    config = Config.from_dict({"mapping_hidden_sizes": [10, 64, 10], **values})
    spec = policy_spec(make_environment(config.env_id), config, config)
    assert spec.num_parameters == k
    assert num_qubits_for(k) == n
    generator = make_generator(config, spec)
    start = generator.initial(np.random.default_rng(0))
    assert (len(start.phi), len(start.beta), len(start.vector)) == (phi, beta, phi + beta)
    assert len(generator(start)) == k


@pytest.mark.parametrize(("k", "n"), [(1, 1), (2, 1), (3, 2), (4096, 12), (4097, 13)])
def test_fewest_qubits_with_k_basis_states(k, n):
    assert num_qubits_for(k) == n


def test_classical_generator_trains_theta_itself():
    generator = ClassicalGenerator(lambda rng: mlp.initial_parameters((4, 3, 2), rng))
    start = generator.initial(np.random.default_rng(0))
    assert (len(start.phi), len(start.beta)) == (0, 4 * 3 + 3 + 3 * 2 + 2)
    np.testing.assert_array_equal(generator(start), start.vector)
    d_theta = np.arange(23.0)
    np.testing.assert_array_equal(generator.pullback(d_theta), d_theta)
    assert np.abs(start.beta[:15]).max() <= 1 / np.sqrt(4) < np.abs(start.beta).max() <= 1 / np.sqrt(3)


def generator_of(**values):
    config = Config.from_dict({"env_id": "CartPole-v1", "num_actions": 2, "mapping_activation": "tanh", **values})
    spec = policy_spec(make_environment(config.env_id), config, config)
    return make_generator(config, spec), spec


@pytest.mark.parametrize("qpu", ["aer", "statevector"])
def test_single_precision_is_near_double_and_not_the_same(qpu):
    found = []
    for precision in ("double", "single"):
        generator, spec = generator_of(qpu=qpu, precision=precision)
        start = generator.initial(np.random.default_rng(0))
        d_theta = np.random.default_rng(1).normal(size=spec.num_parameters)
        found.append((generator(start), generator.pullback(d_theta)))
    for double, single in zip(*found, strict=True):
        assert single.dtype == np.float64
        assert 0.0 < np.abs(single - double).max() < 1e-5 * np.abs(double).max()


def test_more_threads_than_cores_are_refused_where_the_kernels_would_use_them():
    with pytest.raises(UserError, match=r"^--threads: got 4096, expected at most \d+, the cores"):
        generator_of(qpu="statevector", threads=4096, policy_hidden_sizes=[8192])
    generator_of(qpu="statevector", threads=4096)  # a small state is swept by one


FIXED = ("frozen", "absent", "random")


@pytest.mark.parametrize("activation", ["none", "tanh"])
@pytest.mark.parametrize("circuit", FIXED)
def test_ablated_circuit_trains_beta_alone(circuit, activation, numerical_gradient):
    flags = {"mapping_activation": activation, "mapping_hidden_sizes": [5], "layers": 1}
    generator, spec = generator_of(circuit=circuit, qpu="statevector", **flags)
    start = generator.initial(np.random.default_rng(0))
    assert (len(start.phi), len(start.beta)) == (0, 9 * 5 + 5 + 5 + 1)
    weights = np.random.default_rng(1).normal(size=spec.num_parameters)
    generator(start)
    found = generator.pullback(weights)
    expected = numerical_gradient(lambda vector: weights @ generator(Theta(vector, 0)), start.vector)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def test_ablated_circuits_start_from_the_same_beta_and_the_frozen_one_from_the_same_theta():
    found = {}
    for circuit in ("trained", *FIXED):
        generator, _ = generator_of(circuit=circuit, qpu="statevector", layers=1, seed=4)
        start = generator.initial(np.random.default_rng(seed_sequence(4, Purpose.INITIAL)))
        found[circuit] = (start.beta, generator(start))
    for circuit in FIXED:
        np.testing.assert_array_equal(found[circuit][0], found["trained"][0])
    np.testing.assert_array_equal(found["frozen"][1], found["trained"][1])
    for circuit in ("absent", "random"):
        assert np.abs(found[circuit][1] - found["trained"][1]).max() > 1e-3


def test_without_features_theta_hangs_on_the_bits_alone():
    """An affine mapping model of bits alone: theta of i and of its complement add up to the same number."""
    generator, spec = generator_of(circuit="absent", qpu="statevector", mapping_activation="none", layers=1)
    theta = generator(generator.initial(np.random.default_rng(0)))
    both = theta[256 - spec.num_parameters :]  # i and 255 − i are both among these
    sums = both + both[::-1]
    np.testing.assert_allclose(sums, sums[0], atol=1e-12)


def test_random_features_are_spread_like_a_random_circuits():
    """Porter and Thomas: 2^n p is distributed exponentially, with mean and spread 1."""
    generator, spec = generator_of(
        circuit="random", qpu="statevector", layers=1, feature_a=1e-6, policy_hidden_sizes=[128]
    )
    y = generator._x / (1e-6 * 0.5)
    assert len(y) == spec.num_parameters
    assert y.std() == pytest.approx(1.0, rel=0.15)
    assert -y.min() == pytest.approx(1.0, rel=0.15)  # the least of many is near 0, and the mean has been taken off


@pytest.mark.parametrize("values", [{"qpu": "torch"}, {"qpu": "statevector", "device": "cuda"}])
def test_ablated_circuit_is_refused_on_torch(values):
    with pytest.raises(UserError, match=r"^--circuit: got 'frozen', expected trained"):
        generator_of(circuit="frozen", **values)


def test_concentration_by_hand():
    """Four states alike: log 4 and 4. (1/2, 1/4, 1/4, 0): 1.5·log 2, and 1/(1/4 + 1/16 + 1/16) = 8/3. One: 0 and 1."""
    assert concentration(np.full(4, 0.25)) == (pytest.approx(math.log(4)), pytest.approx(4.0))
    assert concentration(np.array([0.5, 0.25, 0.25, 0.0])) == (pytest.approx(1.5 * math.log(2)), pytest.approx(8 / 3))
    assert concentration(np.array([0.0, 1.0])) == (0.0, 1.0)


@pytest.mark.parametrize("changes", [{}, {"qpu": "torch"}, {"qpu": "torch", "precision": "single"}, {"qpu": "aer"}])
def test_concentration_is_of_all_probabilities_of_the_last_call(changes):
    """59 weights on 6 qubits: five states are not used, but count here."""
    spec = PolicySpec(
        obs_shape=(4,),
        hidden_sizes=(8,),
        num_actions=2,
        activation="relu",
        observation_key=None,
        observation_scale=1.0,
    )
    config = Config(policy_hidden_sizes=(8,), layers=2, **{"qpu": "statevector", **changes})
    generator = make_generator(config, spec)
    for seed in (1, 2):
        Theta = generator.initial(np.random.default_rng(seed))
        theta = generator(Theta)
        generator.pullback(np.ones_like(theta))
        exact = StatevectorQPU(Ansatz(num_qubits=6, num_layers=2)).probabilities(Theta.phi)
        tolerance = 1e-5 if changes.get("precision") == "single" else 1e-12
        assert generator.concentration() == pytest.approx(tuple(concentration(exact)), rel=tolerance)
