"""The torch path, on the CPU and, where torch finds one, on a GPU: the same theta and gradient as the NumPy path."""

import dataclasses
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from qiskit.circuit.library import UGate
from support import QUICK, REPOSITORY, metrics, result, train

from qtrl_hpc import mlp
from qtrl_hpc.config import Config
from qtrl_hpc.environment import make_environment, policy_spec
from qtrl_hpc.errors import UserError
from qtrl_hpc.factory import describe, make_generator
from qtrl_hpc.generator import Feature, QuantumGenerator, Theta
from qtrl_hpc.mapping import make_mapping
from qtrl_hpc.quantum.adjoint import AdjointGradient
from qtrl_hpc.quantum.ansatz import Ansatz
from qtrl_hpc.quantum.qpu import StatevectorQPU
from qtrl_hpc.quantum.torch_circuit import TorchCircuit, windows
from qtrl_hpc.stopwatch import Stopwatch
from qtrl_hpc.torch_generator import TorchGenerator, choose_device
from qtrl_hpc.torch_mapping import TorchMapping

HAS_GPU = torch.cuda.is_available()
needs_gpu = pytest.mark.skipif(not HAS_GPU, reason="torch finds no GPU")
CPU = torch.device("cpu")
on_each_device = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
FEATURE = Feature(a=0.8, b=1.0, c=1.0)
# 58 weights on 6 qubits.
CARTPOLE = Config(env_id="CartPole-v1", num_actions=2, policy_hidden_sizes=(8,), layers=1, qpu="torch")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pair(n, k, device="cpu", *, layers=2, hidden=(5, 3), activation="tanh", feature=FEATURE, precision="double"):
    """The same generator twice: on torch, and by NumPy and Numba."""
    ansatz = Ansatz(num_qubits=n, num_layers=layers)
    ours = TorchGenerator(
        ansatz,
        feature,
        num_rows=k,
        hidden_sizes=hidden,
        activation=activation,
        device=torch.device(device),
        precision=precision,
    )
    qpu = StatevectorQPU(ansatz)
    mapping = make_mapping(num_qubits=n, num_rows=k, hidden_sizes=hidden, activation=activation)
    return ours, QuantumGenerator(qpu, AdjointGradient(qpu), feature, mapping)


def start_of(generator, seed):
    """Weights so that neither theta nor its gradient is small, and angles beyond ±π, which training may reach."""
    rng = np.random.default_rng(seed)
    drawn = generator.initial(rng)
    start = Theta(rng.normal(size=drawn.vector.size), drawn.num_angles)
    start.phi[:] *= 4.0
    return start


def distance(found, expected):
    """Relative to the expected vector's length; where that is 0 (a relu that is dead in all rows), absolute."""
    length = np.linalg.norm(expected)
    return np.linalg.norm(found - expected) / (length if length > 0 else 1.0)


def odd_count(n):
    """Neither 2^n nor near it, but more than 2^(n−1)."""
    return 2 if n == 1 else 2**n - 2 ** (n - 2) + (n > 2)


# --- the same numbers ---


@on_each_device
@pytest.mark.parametrize("activation", ["none", "tanh", "relu"])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("n", range(1, 13))
def test_theta_and_gradient_are_those_of_the_numpy_path(n, layers, activation, device):
    ours, theirs = pair(n, odd_count(n), device, layers=layers, activation=activation)
    start = start_of(theirs, [n, layers])
    expected, found = theirs(start), ours(start)
    assert found.dtype == np.float64
    assert found.shape == (odd_count(n),)
    assert distance(found, expected) < 1e-12
    d_theta = np.random.default_rng(n).normal(size=len(expected))
    kept = d_theta.copy()
    expected, found = theirs.pullback(d_theta), ours.pullback(d_theta)
    np.testing.assert_array_equal(d_theta, kept)
    assert found.dtype == np.float64
    for part in slice(start.num_angles), slice(start.num_angles, None):
        assert distance(found[part], expected[part]) < 1e-12


@on_each_device
@pytest.mark.parametrize(
    "case",
    [
        {"n": 5, "k": 20, "hidden": ()},
        {"n": 5, "k": 32, "hidden": (), "activation": "none"},
        {"n": 4, "k": 9, "feature": Feature(a=0.4, b=2.0, c=2.5)},
        {"n": 7, "k": 127, "hidden": (10, 64, 10), "layers": 5},
    ],
    ids=str,
)
def test_other_shapes_and_features(case, device):
    ours, theirs = pair(device=device, **case)
    start = start_of(theirs, 0)
    assert distance(ours(start), theirs(start)) < 1e-12
    d_theta = np.random.default_rng(1).normal(size=case["k"])
    assert distance(ours.pullback(d_theta), theirs.pullback(d_theta)) < 1e-12


@on_each_device
@pytest.mark.parametrize(("n", "layers"), [(1, 3), (2, 2), (3, 2), (4, 2), (5, 1)])
@pytest.mark.parametrize("activation", ["none", "tanh"])
def test_pullback_against_differences(n, layers, activation, device, numerical_gradient):
    ours, _ = pair(n, odd_count(n), device, layers=layers, activation=activation)
    start = start_of(ours, 4)
    weights = np.random.default_rng(5).normal(size=odd_count(n))
    expected = numerical_gradient(lambda v: weights @ ours(Theta(v, start.num_angles)), start.vector, h=1e-3)
    ours(start)
    gradient = ours.pullback(weights)
    assert np.abs(gradient[: start.num_angles]).max() > 0.01
    np.testing.assert_allclose(gradient, expected, rtol=1e-8, atol=1e-9)


@on_each_device
def test_probabilities_are_in_qiskits_order(device):
    """Qubit q alone turned by π, then the whole ring of flips (as tests/test_qpu.py)."""
    for n in range(1, 9):
        circuit = TorchCircuit(Ansatz(num_qubits=n, num_layers=1), torch.device(device), torch.complex128)
        for q in range(n):
            phi = np.zeros(circuit.ansatz.num_angles)
            phi[3 * q] = np.pi
            p = circuit.probabilities(phi)
            assert p.shape == (2**n,)
            assert p[2**q].item() == pytest.approx(1.0, abs=1e-14)
        if n > 1:
            phi = np.zeros(circuit.ansatz.num_angles)
            phi[[0, *range(3 * n, 6 * n, 3)]] = np.pi
            assert circuit.probabilities(phi)[2**n - 2].item() == pytest.approx(1.0, abs=1e-14)


def test_windows_take_few_gates_and_each_is_an_isometry():
    """n = 7, L = 2: 14 merged gates, three a window; the first windows meet qubits that are still 0."""
    ansatz = Ansatz(num_qubits=7, num_layers=2)
    found = windows(torch.from_numpy(np.random.default_rng(0).uniform(-3, 3, ansatz.num_angles)), ansatz)
    assert [tuple(U.shape) for U in found] == [(2, 2, 8), (2, 2, 8), *[(2, 16, 8)] * 3]
    for U in found:
        columns = U.permute(1, 0, 2).flatten(1)
        torch.testing.assert_close(columns.conj() @ columns.T, torch.eye(len(columns), dtype=U.dtype))


def test_u3_is_the_ansatz_one():
    """One qubit: the window is the product of its U3s."""
    ansatz = Ansatz(num_qubits=1, num_layers=3)
    phi = np.random.default_rng(0).uniform(-3, 3, 9)
    first, second, third = (UGate(*angles).to_matrix() for angles in phi.reshape(3, 3))
    [U] = windows(torch.from_numpy(phi), ansatz)
    column = (third @ second @ first)[:, 0]
    np.testing.assert_allclose(U[0, 0], column, atol=1e-15)  # the second qubit stays 0


# --- single precision ---


@on_each_device
@pytest.mark.parametrize("activation", ["none", "tanh"])
@pytest.mark.parametrize("n", [4, 8, 13])
def test_single_precision_is_off_by_rounding_alone(n, activation, device):
    """float32 rounds by 6e-8; in ten windows and four layers errors add up at random: 100 roundings are ample."""
    ours, theirs = pair(n, odd_count(n), device, hidden=(10, 64, 10), activation=activation, precision="single")
    start = start_of(theirs, n)
    expected, found = theirs(start), ours(start)
    assert found.dtype == np.float64
    assert 1e-9 < distance(found, expected) < 6e-6
    d_theta = np.random.default_rng(n).normal(size=len(expected))
    expected, found = theirs.pullback(d_theta), ours.pullback(d_theta)
    for part in slice(start.num_angles), slice(start.num_angles, None):
        assert 1e-9 < distance(found[part], expected[part]) < 6e-6


def test_overlaps_of_many_amplitudes_stay_accurate_in_single_precision():
    """2^16 amplitudes: a running float32 sum of that many terms would lose more."""
    ansatz = Ansatz(num_qubits=16, num_layers=1)
    rng = np.random.default_rng(0)
    phi, cotangent = rng.uniform(-np.pi, np.pi, ansatz.num_angles), rng.normal(size=ansatz.num_amplitudes)
    gradients = []
    for dtype, real in ((torch.complex128, torch.float64), (torch.complex64, torch.float32)):
        circuit = TorchCircuit(ansatz, CPU, dtype)
        circuit.probabilities(phi)
        gradients.append(circuit.pullback(torch.tensor(cotangent, dtype=real)))
    assert distance(gradients[1], gradients[0]) < 3e-6


# --- chunks ---


@on_each_device
@pytest.mark.parametrize("activation", ["none", "tanh", "relu"])
@pytest.mark.parametrize("num_rows", [1, 2, 64, 100, 128, 129, 199, 256])
@pytest.mark.parametrize("chunk_bytes", [1, 5000, 20000, 1 << 30])
def test_chunks_of_any_size_give_the_same(num_rows, chunk_bytes, activation, device):
    rng = np.random.default_rng(num_rows)
    theirs = make_mapping(num_qubits=8, num_rows=num_rows, hidden_sizes=(6, 4), activation=activation)
    ours = TorchMapping(
        num_qubits=8,
        num_rows=num_rows,
        hidden_sizes=(6, 4),
        activation=activation,
        device=torch.device(device),
        dtype=torch.float64,
        chunk_bytes=chunk_bytes,
    )
    beta = rng.normal(size=mlp.num_parameters(theirs.sizes))
    x, cotangent = rng.normal(size=(2, num_rows))
    on_device = [torch.tensor(values, device=device) for values in (beta, x, cotangent)]
    np.testing.assert_allclose(ours.forward(*on_device[:2]).cpu(), theirs.forward(beta, x), rtol=1e-12, atol=1e-13)
    for found, expected in zip(ours.pullback(*on_device), theirs.pullback(beta, cotangent), strict=True):
        np.testing.assert_allclose(found.cpu(), expected, rtol=1e-12, atol=1e-12)


# --- as a generator ---


@on_each_device
@pytest.mark.parametrize("n", [1, 5])
def test_starts_from_the_same_draws(n, device):
    ours, theirs = pair(n, odd_count(n), device)
    drawn, expected = ours.initial(np.random.default_rng(7)), theirs.initial(np.random.default_rng(7))
    assert drawn.vector.tobytes() == expected.vector.tobytes()
    assert drawn.num_angles == expected.num_angles


@on_each_device
def test_pullback_serves_several_agents_after_one_call(device):
    ours, _ = pair(6, 50, device)
    rng = np.random.default_rng(0)
    ours(ours.initial(rng))
    first, second = rng.normal(size=(2, 50))
    alone, both = ours.pullback(first), ours.pullback(first + second)
    np.testing.assert_allclose(both - alone, ours.pullback(second), atol=1e-12)
    np.testing.assert_array_equal(ours.pullback(first), alone)


@on_each_device
def test_optimiser_may_change_Theta_between_a_call_and_its_pullback(device):
    ours, _ = pair(5, 20, device)
    start = start_of(ours, 0)
    ours(start)
    expected = ours.pullback(np.arange(20.0))
    start.vector[:] = 9.0
    np.testing.assert_array_equal(ours.pullback(np.arange(20.0)), expected)


@on_each_device
def test_every_phase_is_timed(device):
    stopwatch = Stopwatch()
    config = dataclasses.replace(CARTPOLE, device=device)
    generator = make_generator(config, spec_of(config), stopwatch)
    generator.pullback(generator(generator.initial(np.random.default_rng(0))))
    assert {phase for phase, seconds in stopwatch.seconds.items() if seconds > 0} == {"circuit", "mapping", "gradient"}


MEMORY = """
import sys
from pathlib import Path
import numpy as np, torch
from qtrl_hpc import mlp
from qtrl_hpc.generator import Feature
from qtrl_hpc.quantum.ansatz import Ansatz
from qtrl_hpc.torch_generator import TorchGenerator, memory_needed

def use(n):
    generator = TorchGenerator(
        Ansatz(num_qubits=n, num_layers=2), Feature(a=0.1, b=1.0, c=2.0), num_rows=2**n - 3, hidden_sizes=(10, 64, 10),
        activation="tanh", device=torch.device("cpu"), precision=sys.argv[1],
    )
    generator.pullback(generator(generator.initial(np.random.default_rng(0))))

def status(name):
    return 1024 * int(Path("/proc/self/status").read_text().split(name + ":")[1].split()[0])

torch.set_num_threads(1)
use(12)
Path("/proc/self/clear_refs").write_text("5")  # the highest mark starts anew
before = status("VmRSS")
use(19)
print(status("VmHWM") - before, memory_needed(19, sys.argv[1]))
"""


@pytest.mark.parametrize("precision", ["double", "single"])
def test_memory_is_what_is_promised(precision):
    """Beside theta on the host, 4 MiB, and a chunk of the mapping model, 8 MiB."""
    # Each large array is mapped on its own and given back at once: what is in use, not what the C library hoards.
    environ = os.environ | {"MALLOC_MMAP_THRESHOLD_": "500000", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", MEMORY, precision]
    peak, promised = map(int, subprocess.run(command, env=environ, capture_output=True, check=True).stdout.split())
    assert promised == {"double": 40, "single": 20}[precision] * 2**20
    assert 0.7 * promised < peak < promised + 12 * 2**20


# --- what is chosen, and refused ---


def spec_of(config):
    environment = make_environment(config.env_id)
    return policy_spec(environment, config, config)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"qpu": "aer", "device": "cuda"},
            ["--device: got 'cuda', expected cpu with --qpu aer", "statevector or torch"],
        ),
        ({"gradient": "parameter-shift"}, ["--gradient: got 'parameter-shift', expected adjoint with --qpu torch"]),
        ({"policy": "classical", "device": "cuda"}, ["--device: got 'cuda', expected cpu with --policy classical"]),
        ({"policy": "classical", "precision": "single"}, ["--precision: got 'single', expected double with --policy"]),
        ({"policy_hidden_sizes": (2**34,)}, ["--policy-hidden-sizes: ", "37 qubits", "GiB of this machine"]),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_refused(values, words):
    config = dataclasses.replace(CARTPOLE, **values)
    with pytest.raises(UserError) as caught:
        make_generator(config, spec_of(config))
    text = str(caught.value)
    assert "\n" not in text
    assert [word for word in words if word not in text] == [], text


@pytest.mark.skipif(HAS_GPU, reason="torch finds a GPU")
@pytest.mark.parametrize("qpu", ["statevector", "torch"])
def test_cuda_is_refused_where_torch_finds_none(qpu):
    config = dataclasses.replace(CARTPOLE, qpu=qpu, device="cuda")
    with pytest.raises(UserError, match=r"^--device: got 'cuda', expected cpu, for torch .* finds no GPU"):
        make_generator(config, spec_of(config))


@needs_gpu
def test_gpu_memory_is_checked():
    config = dataclasses.replace(CARTPOLE, device="cuda", policy_hidden_sizes=(2**34,))
    with pytest.raises(UserError, match=r"^--policy-hidden-sizes: .* GiB free on cuda:0$"):
        make_generator(config, spec_of(config))


def test_gpu_is_the_ranks_number_on_its_node(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert [str(choose_device("cuda", rank)) for rank in (0, 1, 3, 4, 9)] == [f"cuda:{i}" for i in (0, 1, 3, 0, 1)]
    assert choose_device("cpu", 3) == CPU


def test_statevector_on_the_cpu_is_not_torch():
    config = dataclasses.replace(CARTPOLE, qpu="statevector")
    assert isinstance(make_generator(config, spec_of(config)), QuantumGenerator)
    assert "(statevector)" in describe(config, spec_of(config), 0)


@on_each_device
def test_introduction_names_the_device(device):
    config = dataclasses.replace(CARTPOLE, device=device, precision="single")
    name = "cpu" if device == "cpu" else f"cuda:0, {torch.cuda.get_device_name(0)}"
    assert f"6 qubits and 1 layers (torch on {name}, single)" in describe(config, spec_of(config), 0)


# --- in training ---


@on_each_device
def test_training_agrees_with_the_kernels_and_resumes(tmp_path, device):
    """Rewards are whole numbers of steps, so they agree exactly. Adam would blow up the rounding of a gradient of 0."""
    flags = [*QUICK, "--layers=2", "--updates=12", "--optimizer=sgd", "--learning-rate=0.1", "--seed=3"]
    theirs, ours, resumed = tmp_path / "numba", tmp_path / "torch", tmp_path / "resumed"
    train(theirs, *flags)
    job = train(ours, *flags, "--qpu=torch", f"--device={device}")
    assert re.search(rf"\(torch on {device}.*, double\)", job.out)
    for one, other in zip(metrics(theirs), metrics(ours), strict=True):
        assert one["reward_mean"] == other["reward_mean"]
        assert other["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-9)
    train(resumed, *flags, "--qpu=torch", f"--device={device}", "--updates=5")
    train(resumed, "--resume", "--updates=12")
    assert result(resumed)[::2] == result(ours)[::2]


def test_training_without_the_torch_path_does_not_import_torch():
    program = (
        "import sys, qtrl_hpc.updates as t, qtrl_hpc.config as c, qtrl_hpc.factory as f\n"
        "from qtrl_hpc.environment import make_environment, policy_spec\n"
        "config = c.Config(env_id='CartPole-v1', num_actions=2, qpu='statevector')\n"
        "spec = policy_spec(make_environment(config.env_id), config, config)\n"
        "f.make_generator(config, spec); f.describe(config, spec, 0)\n"
        "assert 'torch' not in sys.modules"
    )
    environ = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    subprocess.run([sys.executable, "-c", program], env=environ, check=True)
