"""Ansatz, mapping model and QPU of the user's own: the run that ours would make, or one line that says what is wrong.

Modules of the user's own: support_own.
"""

import dataclasses

import numpy as np
import pytest

from qtrl_hpc.config import Config
from qtrl_hpc.environment import make_environment, policy_spec
from qtrl_hpc.errors import UserError
from qtrl_hpc.factory import describe, make_generator, num_qubits_for
from qtrl_hpc.fleet_factory import describe_measurement, make_fleet
from qtrl_hpc.generator import Theta
from qtrl_hpc.quantum.ansatze import real_amplitudes

# 58 weights on 6 qubits.
CARTPOLE = Config(env_id="CartPole-v1", num_actions=2, policy_hidden_sizes=(8,), layers=1, qpu="statevector")
SPEC = policy_spec(make_environment("CartPole-v1"), CARTPOLE, CARTPOLE)
D_THETA = np.random.default_rng(1).normal(size=SPEC.num_parameters)


def both_ways(**values):
    """A start, its theta and its gradient."""
    generator = make_generator(dataclasses.replace(CARTPOLE, **values), SPEC)
    start = generator.initial(np.random.default_rng(0))
    return start, generator(start), generator.pullback(D_THETA)


@pytest.mark.parametrize(
    "values",
    [
        {"mapping": "support_own:mapping", "mapping_activation": "tanh"},
        {"mapping": "support_own:mapping", "precision": "single", "mapping_activation": "relu"},
        {"qpu": "support_own:QPUWithPullback"},
        {"qpu": "support_own:QPU", "gradient": "parameter-shift"},
        {"qpu": "support_own:QPUWithPullback", "precision": "single"},
    ],
    ids=str,
)
def test_ours_by_another_name_gives_the_same_bits(values):
    ours = {**values, **{name: getattr(CARTPOLE, name) for name in ("mapping", "qpu") if name in values}}
    for found, expected in zip(both_ways(**values), both_ways(**ours), strict=True):
        assert (getattr(found, "vector", found) == getattr(expected, "vector", expected)).all()


@pytest.mark.parametrize("ansatz", ["linear", "brick", "real-amplitudes", "efficient-su2", "support_own:everything"])
@pytest.mark.parametrize("qpu", ["aer", "statevector", "torch"])
def test_gradient_of_Theta_against_differences(ansatz, qpu, numerical_gradient):
    values = {"ansatz": ansatz, "qpu": qpu, "layers": 2, "mapping_activation": "tanh", "mapping_hidden_sizes": (3,)}
    generator = make_generator(dataclasses.replace(CARTPOLE, **values, feature_a=0.8), SPEC)
    start = generator.initial(np.random.default_rng(0))
    generator(start)
    gradient = generator.pullback(D_THETA)
    expected = numerical_gradient(
        lambda vector: D_THETA @ generator(Theta(vector, start.num_angles)), start.vector, h=1e-3
    )
    assert np.abs(gradient[: start.num_angles]).max() > 1e-3
    np.testing.assert_allclose(gradient, expected, rtol=1e-7, atol=1e-8)


def test_angles_are_as_many_as_the_ansatz_has():
    start, *_ = both_ways(ansatz="real-amplitudes")
    assert start.num_angles == real_amplitudes(num_qubits_for(SPEC.num_parameters), 1).num_angles == 12
    text = describe(dataclasses.replace(CARTPOLE, ansatz="real-amplitudes"), SPEC, start.vector.size)
    assert "6 qubits and 1 layers of real-amplitudes (statevector)" in text
    assert "12 angles" in text
    assert " of ring" not in describe(CARTPOLE, SPEC, 100)


def test_frozen_circuit_of_another_ansatz_on_a_qpu_of_ones_own():
    values = {"ansatz": "brick", "circuit": "frozen"}
    for found, expected in zip(both_ways(**values, qpu="support_own:QPU"), both_ways(**values), strict=True):
        assert (getattr(found, "vector", found) == getattr(expected, "vector", expected)).all()


MEASURED = {
    "shots": {"qpu": "aer", "shots": 200, "gradient": "parameter-shift"},
    "noise": {"qpu": "aer", "noise": '{"two_qubit_rate": 0.01}', "gradient": "parameter-shift"},
    "surrogate": {"qpu": "aer", "shots": 200, "gradient": "surrogate"},
    "spsa": {"gradient": "spsa"},
    "own spsa": {"gradient": "spsa", "qpu": "support_own:QPU"},
    "back end": {"qpu": "backend:aer", "shots": 200, "gradient": "spsa"},
    "shared": {"gradient": "parameter-shift", "share_circuits": True, "qpu": "support_own:QPU"},
}


@pytest.mark.parametrize("values", MEASURED.values(), ids=MEASURED)
def test_measured_qpus_run_another_ansatz(values):
    config = dataclasses.replace(CARTPOLE, ansatz="support_own:everything", mapping="support_own:Mapping", **values)
    fleet = make_fleet(config, SPEC)
    start = fleet.initial(np.random.default_rng(0))
    [theta] = fleet(start, 0)
    [gradient] = fleet.pullback([D_THETA])
    assert theta.shape == (SPEC.num_parameters,)
    assert gradient.shape == start.vector.shape
    assert np.abs(gradient[: start.num_angles]).max() > 0
    assert fleet.failures == {}
    assert "circuits" in describe_measurement(config, SPEC)[0] or values["gradient"] == "surrogate"


REFUSED = [
    ({"ansatz": "nowhere_here:x"}, "--ansatz: got 'nowhere_here:x', expected a module that can be imported (Module"),
    ({"ansatz": "support_own:everythin"}, "an object that the module has (did you mean everything?) (AttributeError"),
    ({"ansatz": "support_own:not_callable"}, "that returns an Ansatz, got an int, which cannot be called"),
    ({"ansatz": "support_own:raises"}, "(num_qubits, num_layers) that returns an Ansatz (RuntimeError: not today)"),
    ({"ansatz": "support_own:smaller"}, "expected an Ansatz on 6 qubits, got one on 5"),
    ({"ansatz": "support_own:no_ansatz"}, "that returns an Ansatz, got a list"),
    ({"ansatz": "support_own:controls_itself"}, "(ValueError: gate 0: got the control 1, which is its target)"),
    ({"mapping": "nowhere_here:x"}, "--mapping: got 'nowhere_here:x', expected a module that can be imported"),
    ({"mapping": "support_own:raises"}, "that returns a Mapping (RuntimeError: not today)"),
    ({"mapping": "support_own:NoPullback"}, "that returns a Mapping: a NoPullback has no pullback"),
    ({"mapping": "support_own:DullForward"}, "whose initial and forward and pullback can be called"),
    ({"mapping": "support_own:FewerRows"}, "expected a Mapping on 58 rows, got one on 57"),
    ({"mapping": "support_own:NoParameters"}, "expected num_parameters to be a whole number of at least 1, got 0"),
    ({"mapping": "support_own:ShortBeta"}, "expected initial to return float64 of shape"),
    (
        {"mapping": "support_own:SingleOutput"},
        "expected forward to return float64 of shape (58,), got float32 of (58,)",
    ),
    ({"mapping": "support_own:Listed"}, "expected forward to return float64 of shape (58,), got a list"),
    ({"mapping": "support_own:OneCotangent"}, "expected pullback to return two arrays, got float64 of (1445,)"),
    ({"mapping": "support_own:NotFinite"}, "expected forward to return finite numbers"),
    (
        {"mapping": "support_own:Mapping", "qpu": "torch"},
        "--mapping: got 'support_own:Mapping', expected mlp with --qpu",
    ),
    ({"mapping": "support_own:Mapping", "device": "cuda"}, "--mapping: got 'support_own:Mapping', expected mlp with"),
    ({"mapping": "support_own:Mapping", "policy": "classical"}, "expected mlp with --policy classical"),
    ({"ansatz": "brick", "policy": "classical"}, "--ansatz: got 'brick', expected ring with --policy classical"),
    ({"qpu": "nowhere_here:x"}, "--qpu: got 'nowhere_here:x', expected a module that can be imported"),
    ({"qpu": "support_own:raises"}, "that returns a QPU (RuntimeError: not today)"),
    ({"qpu": "support_own:OtherCircuit"}, "expected a QPU that runs Ansatz(num_qubits=6, num_layers=1), got one"),
    ({"qpu": "support_own:NoJobs"}, "that returns a QPU: a NoJobs has no jobs"),
    ({"qpu": "support_own:Doubled"}, "that gives probabilities (ValueError: probabilities that sum to 2, expected 1"),
    (
        {"qpu": "support_own:SingleProbabilities"},
        "expected probabilities to return float64 of shape (64,), got float32",
    ),
    (
        {"qpu": "support_own:OneJobShort", "gradient": "parameter-shift"},
        "--qpu: got 'support_own:OneJobShort', expected jobs to give 2 rows, got 1",
    ),
    ({"qpu": "support_own:ShortPullback"}, "expected pullback to return float64 of shape (36,), got float64 of (1,)"),
    ({"qpu": "support_own:QPU"}, "--gradient: got 'adjoint' with --qpu support_own:QPU, which has no pullback"),
    ({"qpu": "support_own:PullbackIsNone"}, "--qpu support_own:PullbackIsNone, which has no pullback"),
    ({"qpu": "support_own:QPU"}, "expected parameter-shift or spsa"),
    ({"qpu": "support_own:QPU", "device": "cuda"}, "--device: got 'cuda', expected cpu with --qpu support_own:QPU"),
    ({"qpu": "support_own:QPU", "shots": 9}, "--qpu: got 'support_own:QPU', expected aer or backend:SPEC with --shots"),
]


@pytest.mark.parametrize(("values", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_what_does_not_do_is_refused_in_one_line(values, words):
    with pytest.raises(UserError, match=r"^--") as caught:
        make_fleet(dataclasses.replace(CARTPOLE, **values), SPEC)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
