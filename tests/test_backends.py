"""Qiskit back ends through the V2 sampler: whatever the layout, index i is Qiskit's and result i is submission i."""

import os
import subprocess
import sys

import numpy as np
import pytest
from qiskit_aer import AerSimulator
from support_qpus import Exact, Line, released

from qtrl_hpc.errors import QpuError
from qtrl_hpc.noise import NoiseSettings
from qtrl_hpc.quantum.aer_device import AerDevice
from qtrl_hpc.quantum.ansatz import Ansatz
from qtrl_hpc.quantum.backends import by_generic_sampler, check_size, fake_backend, find_backend
from qtrl_hpc.quantum.measuring import MeasuredQPU, Patience
from qtrl_hpc.quantum.qpu import StatevectorQPU
from qtrl_hpc.quantum.sampler_device import SamplerDevice
from qtrl_hpc.quantum.shift import ParameterShiftGradient, num_circuits

SHOTS = 4000


@pytest.fixture(scope="module")
def runtime():
    reason = "qiskit-ibm-runtime is not installed (pip install 'qtrl_hpc[ibm]')"
    return pytest.importorskip("qiskit_ibm_runtime.fake_provider", reason=reason)


def find(spec, n=3, layers=1, shots=None):
    return find_backend(spec, Ansatz(num_qubits=n, num_layers=layers), shots)


def problem(n, layers, rows=3):
    ansatz = Ansatz(num_qubits=n, num_layers=layers)
    phis = np.random.default_rng([n, layers]).uniform(-np.pi, np.pi, (rows, ansatz.num_angles))
    return ansatz, phis, np.array([StatevectorQPU(ansatz).probabilities(phi) for phi in phis])


@pytest.mark.parametrize("n", [1, 2, 4])
def test_ideal_device_in_a_row_gives_the_exact_distribution(n):
    """The ring does not fit the row of qubits, so routing moves them: bits come back in Qiskit's order all the same."""
    ansatz, phis, p = problem(n, 2)
    found = SamplerDevice(ansatz, by_generic_sampler(Line()), shots=SHOTS).probabilities_many(phis, 1)
    assert (abs(found - p) <= 5 * np.sqrt(p * (1 - p) / SHOTS) + 1e-12).all()
    assert abs(found[0] - p[1]).max() > 0.05, "results are told apart"


def test_transpiled_once_to_the_devices_gates_and_pairs():
    ansatz, phis, _ = problem(4, 1)
    line = Line()
    device = SamplerDevice(ansatz, by_generic_sampler(line), shots=10)
    for seed in range(3):
        device.probabilities_many(phis, seed)
    assert line.circuits == [3, 3, 3]
    assert len({circuit.count_ops()["cx"] for circuit in line.seen}) == 1
    for circuit in line.seen[:1]:
        assert set(circuit.count_ops()) <= {"rz", "sx", "cx", "measure", "barrier"}
        pairs = [
            sorted(circuit.find_bit(q).index for q in each.qubits) for each in circuit.data if len(each.qubits) == 2
        ]
        assert all(b - a == 1 for a, b in pairs if (a, b))


def test_angle_that_the_transpiler_dropped_is_no_matter():
    """λ of the first U3 acts on |0⟩; whatever is left in the circuit is bound by its name."""
    ansatz, phis, p = problem(1, 1)
    device = SamplerDevice(ansatz, by_generic_sampler(AerSimulator()), shots=SHOTS)
    assert abs(device.probabilities_many(phis, 0) - p).max() < 0.05


@pytest.mark.parametrize("most", [None, 7])
def test_a_gradient_is_in_as_few_jobs_as_the_back_end_takes(most):
    ansatz, phis, _ = problem(2, 1)
    line = Line(max_circuits=most)
    device = SamplerDevice(ansatz, by_generic_sampler(line), shots=10)
    qpu = MeasuredQPU(device, seed=lambda *_: 0, patience=Patience(retries=0, pause=0, timeout=None))
    ParameterShiftGradient(qpu)(phis[0], np.ones(4))
    number = num_circuits(ansatz)
    assert number == 2 * 3 * 2 + 2 * 3 * 4
    assert sum(line.circuits) == number
    assert len(line.circuits) == (1 if most is None else -(-number // most))


def test_seed_decides_a_simulators_counts():
    ansatz, phis, _ = problem(3, 1)
    device = SamplerDevice(ansatz, find("aer"), shots=100)
    first = device.probabilities_many(phis, 5)
    np.testing.assert_array_equal(device.probabilities_many(phis, 5), first)
    assert (device.probabilities_many(phis, 6) != first).any()
    np.testing.assert_allclose(first * 100, np.round(first * 100), atol=1e-12)
    assert device.exact(phis[0]) is None


def test_generic_back_end_is_noisy_and_the_same_each_time():
    ansatz, phis, p = problem(3, 2)
    found = [SamplerDevice(ansatz, find("generic"), shots=SHOTS).probabilities_many(phis, 2) for _ in "ab"]
    np.testing.assert_array_equal(*found)
    assert 5 * np.sqrt(0.25 / SHOTS) + 0.1 > abs(found[0] - p).max() > 0


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("counts", "ValueError"),
        ("length", "2 results, expected one for each"),
        ("raise", "the fridge is warm"),
        ("hang", "no result after"),
    ],
)
def test_back_end_that_fails_is_asked_again(monkeypatch, what, words):
    """At every second job: fewer shots than asked for, a circuit's result missing, an exception, no answer."""
    monkeypatch.setenv("QTRL_TEST_QPU", f"{what} 2")
    released.clear()
    ansatz, phis, _ = problem(2, 1)
    line = Line()
    patience = Patience(retries=1, pause=0, timeout=0.5 if what == "hang" else 30)
    qpu = MeasuredQPU(
        SamplerDevice(ansatz, by_generic_sampler(line), shots=SHOTS), seed=lambda *_: 3, patience=patience
    )
    [first], [second] = qpu.jobs(phis), qpu.jobs(phis)
    np.testing.assert_array_equal(first, second)
    assert line.circuits == [3, 3, 3], "the second needed two attempts"
    monkeypatch.setenv("QTRL_TEST_QPU", f"{what} 1")
    with pytest.raises(QpuError, match=words):
        list(qpu.jobs(phis))
    released.set()  # or Qiskit's own threads would keep the tests from ending


# --- names ---


def test_back_ends_of_the_users_own():
    assert find("support_qpus:line").target.name == "line"
    assert find("support_qpus:Line").target.name == "line"  # what a function of (ansatz, shots) returns
    device = find("support_qpus:Exact", layers=2)
    assert isinstance(device, Exact)
    assert device.ansatz == Ansatz(num_qubits=3, num_layers=2), "it is told the whole circuit"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("", "aer, generic, fake:NAME, ibm:NAME or MODULE:OBJECT"),
        ("nonsense", "expected backend: and one of"),
        ("fake:", "expected backend: and one of"),
        ("no_such_module:x", "ModuleNotFoundError"),
        ("support_qpus:no_such_name", "AttributeError"),
        ("support_qpus:not_a_backend", "a function of (ansatz, shots) that returns one or a device (TypeError: 'int'"),
        ("support_qpus:leaves", "(SystemExit: this machine is not mine)"),
        ("support_qpus:Bare", "expected a BackendV2 of Qiskit's, or a device: a Bare has no ansatz"),
        ("support_qpus:Dull", "or a device whose probabilities_many and exact can be called"),
        ("support_qpus:Idle", "expected circuits_per_job to be None or a whole number of at least 1, got 0"),
        ("support_qpus:Other", "num_layers=1), got one that runs Ansatz(num_qubits=3, num_layers=2)"),
        ("exits_on_import:x", "(SystemExit: 3)"),
    ],
)
def test_what_is_no_back_end_is_refused_in_one_line(spec, words, tmp_path, monkeypatch):
    (tmp_path / "exits_on_import.py").write_text("raise SystemExit(3)")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="expected") as caught:
        find(spec)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_device_of_the_users_own_is_told_the_shots_and_may_refuse_them():
    with pytest.raises(ValueError, match=r"\(ValueError: 77 shots, expected none\)$"):
        find("support_qpus:Exact", shots=77)


def test_too_few_qubits_are_refused():
    with pytest.raises(ValueError, match="expected at least 6 qubits, line has 5"):
        check_size(Line(), 6)


@pytest.mark.parametrize("spec", ["fake:FakeManilaV2", "ibm:ibm_torino"])
def test_without_the_extra_it_is_said_how_to_install_it(monkeypatch, spec):
    for name in list(sys.modules):
        if name.startswith("qiskit_ibm_runtime"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "qiskit_ibm_runtime", None)
    with pytest.raises(ValueError, match=r"expected qiskit-ibm-runtime to be installed: pip install 'qtrl_hpc\[ibm\]'"):
        find(spec)


# --- with the extra ---


def test_fake_back_end_by_class_or_name(runtime):
    assert fake_backend("FakeManilaV2", 3).name == fake_backend("fake_manila", 3).name == "fake_manila"
    with pytest.raises(ValueError, match=r"one of generic, FakeAachen, .*FakeManilaV2"):
        fake_backend("FakeNowhere", 3)


@pytest.mark.parametrize("spec", ["fake:FakeManilaV2", "ibm:FakeManilaV2"])
def test_fake_back_end_and_runtimes_local_testing_mode(runtime, spec):
    ansatz, phis, p = problem(3, 1)
    device = SamplerDevice(ansatz, find(spec), shots=SHOTS)
    found = device.probabilities_many(phis, 4)
    np.testing.assert_array_equal(device.probabilities_many(phis, 4), found)
    assert 1e-3 < abs(found - p).max() < 0.15, "noisy, but the circuit that was meant"


def test_noise_of_a_fake_back_end_is_what_it_gives_itself(runtime):
    """Exact and counted the same; near to what the back end itself gives, on the same qubits and pairs."""
    ansatz, phis, p = problem(3, 1, rows=1)
    fake = fake_backend("FakeManilaV2", 3)
    noise = NoiseSettings(fake="FakeManilaV2")
    q = AerDevice(ansatz, shots=None, noise=noise, fake=fake).exact(phis[0])
    assert abs(q - p[0]).max() > 0.005
    shots = 40_000
    found = AerDevice(ansatz, shots=shots, noise=noise, fake=fake).probabilities_many(phis, 4)[0]
    assert (abs(found - q) < 5 * np.sqrt(q * (1 - q) / shots)).all()
    # Its own ``run`` derives its noise from the same properties in another way.
    found = SamplerDevice(ansatz, find("fake:FakeManilaV2"), shots=shots).probabilities_many(phis, 4)[0]
    assert abs(found - q).max() < 0.05


def test_account_that_is_missing_is_said_in_one_line(runtime, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    from qiskit_ibm_runtime import qiskit_runtime_service

    class Refusing:
        def __init__(self):
            raise RuntimeError("no account\nis saved")

    monkeypatch.setattr(qiskit_runtime_service, "QiskitRuntimeService", Refusing)
    with pytest.raises(
        ValueError,
        match=r"^expected a device that your IBM Quantum account gives \(no account is saved; accounts are in ~/",
    ):
        find("ibm:ibm_torino")


def test_account_file_that_is_damaged_is_named_in_one_line(runtime, tmp_path):
    """In a process of its own, as Qiskit looks for the home folder when it is imported."""
    (tmp_path / ".qiskit").mkdir()
    (tmp_path / ".qiskit" / "qiskit-ibm.json").write_text('{"default": {\n"token": "never to be shown",\n')
    code = "from qtrl_hpc.quantum.backends import find_backend; from qtrl_hpc.quantum.ansatz import Ansatz\n"
    code += "try: find_backend('ibm:ibm_torino', Ansatz(num_qubits=3, num_layers=1), 9)\n"
    code += "except ValueError as error: print(error)"
    environ = {**os.environ, "HOME": str(tmp_path)}
    found = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=120)
    assert found.stdout.count("\n") == 1, found
    assert found.stdout.startswith("expected a device that your IBM Quantum account gives (")
    assert "~/.qiskit/qiskit-ibm.json" in found.stdout
    assert "never" not in found.stdout
