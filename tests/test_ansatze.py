"""Ansätze other than the ring, with angles that are fixed and shared: all QPUs and all gradients agree on them."""

import numpy as np
import pytest
import torch
from qiskit.circuit.library import UGate
from support_own import everything

from qtrl_hpc.noise import NoiseSettings
from qtrl_hpc.quantum.adjoint import AdjointGradient
from qtrl_hpc.quantum.aer_device import AerDevice
from qtrl_hpc.quantum.ansatz import Ansatz
from qtrl_hpc.quantum.ansatze import ANSATZE
from qtrl_hpc.quantum.backends import by_generic_sampler, find_backend
from qtrl_hpc.quantum.device_circuit import measured_circuit
from qtrl_hpc.quantum.exact_device import ExactDevice
from qtrl_hpc.quantum.gates import UNCONTROLLED, cx, cz, ry
from qtrl_hpc.quantum.measuring import MeasuredQPU, Patience
from qtrl_hpc.quantum.qpu import QPUS, StatevectorQPU
from qtrl_hpc.quantum.sampler_device import SamplerDevice
from qtrl_hpc.quantum.shift import ParameterShiftGradient, num_circuits
from qtrl_hpc.quantum.spsa import SpsaGradient
from qtrl_hpc.quantum.torch_circuit import TorchCircuit
from qtrl_hpc.quantum.torch_gates import TorchGates, make_torch_circuit

CPU = torch.device("cpu")
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
KINDS = {**{name: make for name, make in ANSATZE.items() if name != "ring"}, "everything": everything}
each = pytest.mark.parametrize("kind", KINDS)
sizes = pytest.mark.parametrize("n", [1, 2, 3, 5])


def problem(kind, n, layers=2):
    ansatz = KINDS[kind](n, layers)
    rng = np.random.default_rng([n, layers])
    return ansatz, rng.uniform(-np.pi, np.pi, ansatz.num_angles), rng.normal(size=ansatz.num_amplitudes - 1)


def dense(ansatz, phi):
    """The probabilities by matrices of Qiskit's, 2^n × 2^n each, a gate's angles taken from its own description."""
    size = ansatz.num_amplitudes
    state = np.eye(size)[0].astype(complex)
    for target, angles, control in ansatz.gates:
        values = [phi[angle] if isinstance(angle, int) else angle.radians for angle in angles]
        u, full = UGate(*values).to_matrix(), np.eye(size, dtype=complex)
        for i in range(size):
            if control == UNCONTROLLED or i >> control & 1:
                full[i, i] = 0.0
                for bit in range(2):
                    full[i & ~(1 << target) | bit << target, i] += u[bit, i >> target & 1]
        state = full @ state
    return np.abs(state) ** 2


@each
@sizes
def test_simulators_agree_with_matrices(kind, n):
    ansatz, phi, _ = problem(kind, n)
    expected = dense(ansatz, phi)
    for name, qpu in QPUS.items():
        np.testing.assert_allclose(qpu(ansatz).probabilities(phi), expected, atol=1e-13, err_msg=name)
        rows = np.concatenate(list(qpu(ansatz).jobs(np.array([phi, -phi]))))
        np.testing.assert_allclose(rows, [expected, dense(ansatz, -phi)], atol=1e-13, err_msg=name)


@each
@sizes
def test_gradients_against_differences(kind, n, numerical_gradient):
    ansatz, phi, cotangent = problem(kind, n)
    qpu = StatevectorQPU(ansatz)
    expected = numerical_gradient(lambda angles: cotangent @ qpu.probabilities(angles)[:-1], phi)
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(AdjointGradient(qpu)(phi, cotangent), expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(AdjointGradient(QPUS["aer"](ansatz))(phi, cotangent), expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(ParameterShiftGradient(qpu)(phi, cotangent), expected, rtol=0, atol=1e-9)
    found = ParameterShiftGradient(QPUS["aer"](ansatz))(phi, cotangent)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@each
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("n", [1, 2, 5])
def test_torch_agrees(kind, device, n):
    ansatz, phi, cotangent = problem(kind, n)
    circuit = make_torch_circuit(ansatz, torch.device(device), torch.complex128)
    assert isinstance(circuit, TorchCircuit if ansatz.is_ring else TorchGates)
    found = circuit.probabilities(phi).cpu().numpy()
    np.testing.assert_allclose(found, StatevectorQPU(ansatz).probabilities(phi), atol=1e-13)
    expected = AdjointGradient(StatevectorQPU(ansatz))(phi, cotangent)
    for _ in range(2):  # a rank's agents each pull a cotangent back
        gradient = circuit.pullback(torch.tensor(cotangent, device=device))
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-12)


def test_torch_in_single_precision():
    ansatz, phi, cotangent = problem("everything", 8)
    circuit = TorchGates(ansatz, CPU, torch.complex64)
    exact = StatevectorQPU(ansatz)
    error = circuit.probabilities(phi).numpy() - exact.probabilities(phi)
    assert 0 < abs(error).max() < 1e-6
    gradient = circuit.pullback(torch.tensor(cotangent, dtype=torch.float32))
    assert 0 < abs(gradient - AdjointGradient(exact)(phi, cotangent)).max() < 1e-4


def test_ring_on_torch_gate_by_gate_is_the_ring_by_windows():
    ansatz = ANSATZE["ring"](5, 2)
    rng = np.random.default_rng(0)
    phi, cotangent = rng.uniform(-3, 3, ansatz.num_angles), torch.tensor(rng.normal(size=20))
    ours, theirs = TorchGates(ansatz, CPU, torch.complex128), TorchCircuit(ansatz, CPU, torch.complex128)
    np.testing.assert_allclose(ours.probabilities(phi), theirs.probabilities(phi), atol=1e-14)
    np.testing.assert_allclose(ours.pullback(cotangent), theirs.pullback(cotangent), atol=1e-13)


@each
@pytest.mark.parametrize("gates", ["ansatz", "u", "rz"])
def test_gates_of_devices_make_the_same_circuit(kind, gates):
    from qiskit.quantum_info import Statevector

    ansatz, phi, _ = problem(kind, 3)
    circuit, angles = measured_circuit(ansatz, gates)
    bound = circuit.assign_parameters(dict(zip(angles, phi, strict=True))).remove_final_measurements(inplace=False)
    np.testing.assert_allclose(Statevector(bound).probabilities(), dense(ansatz, phi), atol=1e-13)


@pytest.mark.parametrize(("gate", "single"), [(cx, 0), (cz, 2)])
@pytest.mark.parametrize("by", ["u", "rz"])
def test_cx_and_cz_take_one_cx_of_a_device(gate, single, by):
    """CZ is CX between two Hadamards; any other controlled gate takes two CX."""
    ansatz = Ansatz(num_qubits=2, num_layers=1, gates=(ry(0, 0), gate(0, 1)))
    counts = measured_circuit(ansatz, by)[0].count_ops()
    assert counts["cx"] == 1
    assert counts["u" if by == "u" else "sx"] == (1 + single) * (1 if by == "u" else 2)


@each
def test_devices_measure_them(kind):
    ansatz, phi, _ = problem(kind, 3)
    p, shots = dense(ansatz, phi), 4000
    bound = 5 * np.sqrt(p * (1 - p) / shots) + 1e-9
    for device in (
        AerDevice(ansatz, shots=shots),
        AerDevice(ansatz, shots=shots, noise=NoiseSettings()),
        SamplerDevice(ansatz, find_backend("aer", ansatz, shots), shots=shots),
    ):
        assert (abs(device.probabilities_many(phi[None], 1)[0] - p) < bound).all()
    noisy = AerDevice(ansatz, shots=None, noise=NoiseSettings(two_qubit_rate=0.1)).exact(phi)
    assert 1e-3 < abs(noisy - p).max() < 0.5


def test_transpiled_to_a_device_with_fixed_and_shared_angles():
    from support_qpus import Line

    ansatz, phi, _ = problem("everything", 3)
    p = dense(ansatz, phi)
    found = SamplerDevice(ansatz, by_generic_sampler(Line()), shots=4000).probabilities_many(phi[None], 1)[0]
    assert (abs(found - p) < 5 * np.sqrt(p * (1 - p) / 4000) + 1e-9).all()


def test_parameter_shift_counts_circuits():
    """RealAmplitudes on 3 qubits, 2 layers: 9 angles of two circuits. An angle of m gates: 2m, with a control 4m."""
    assert num_circuits(ANSATZE["real-amplitudes"](3, 2)) == 18
    shared = Ansatz(
        num_qubits=2, num_layers=1, gates=(ry(0, 0), ry(1, 0), ry(0, 0), ry(1, 1), ry(0, 1)._replace(control=1))
    )
    assert num_circuits(shared) == 2 * 3 + 4 * 2
    assert num_circuits(ANSATZE["ring"](3, 2)) == 108


def test_parameter_shift_of_some_angles_and_spsa(numerical_gradient):
    ansatz, phi, cotangent = problem("everything", 3)
    full = AdjointGradient(StatevectorQPU(ansatz))(phi, cotangent)
    qpu = MeasuredQPU(
        ExactDevice(StatevectorQPU(ansatz)), seed=lambda *_: 0, patience=Patience(retries=0, pause=0, timeout=None)
    )
    some = ParameterShiftGradient(qpu).of_angles(phi, cotangent, np.array([0, 3]))
    np.testing.assert_allclose(some[[0, 3]], full[[0, 3]], atol=1e-9)
    assert np.count_nonzero(some) == 2
    rng = np.random.default_rng(0)
    estimate = SpsaGradient(qpu, directions=3000, draw=lambda: (1e-3, rng))(phi, cotangent)
    assert np.linalg.norm(estimate - full) < 0.15 * np.linalg.norm(full)
