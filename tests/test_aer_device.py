"""Shots and noise by Aer: against hand calculation, against the exact circuit, and against each other."""

import numpy as np
import pytest

from qtrl_hpc.noise import NoiseSettings
from qtrl_hpc.quantum.adjoint import AdjointGradient
from qtrl_hpc.quantum.aer_device import AerDevice
from qtrl_hpc.quantum.ansatz import Ansatz
from qtrl_hpc.quantum.device_circuit import measured_circuit
from qtrl_hpc.quantum.exact_device import ExactDevice
from qtrl_hpc.quantum.measuring import MeasuredQPU, Patience
from qtrl_hpc.quantum.noise_model import read_out
from qtrl_hpc.quantum.qpu import AerQPU, StatevectorQPU
from qtrl_hpc.quantum.shift import ParameterShiftGradient

PI = np.pi
TODAY = NoiseSettings(
    one_qubit_rate=3e-4,
    two_qubit_rate=3e-3,
    t1=1e-4,
    t2=8e-5,
    one_qubit_time=35e-9,
    two_qubit_time=300e-9,
    readout_error=(0.01, 0.02),
)


def problem(n, layers, seed=0):
    ansatz = Ansatz(num_qubits=n, num_layers=layers)
    return ansatz, np.random.default_rng([n, layers, seed]).uniform(-PI, PI, ansatz.num_angles)


def exact(ansatz, phi):
    return StatevectorQPU(ansatz).probabilities(phi)


def noisy(ansatz, phi, **settings):
    return AerDevice(ansatz, shots=None, noise=NoiseSettings(**settings)).exact(phi)


# --- shots ---


def test_shot_error_falls_with_the_root_of_their_number():
    """Root mean square over 60 runs of each number of shots; on a log-log scale the slope is -1/2."""
    ansatz, phi = problem(3, 2)
    shots, p, rms = [64, 256, 1024, 4096, 16384], exact(ansatz, phi), []
    for number in shots:
        device = AerDevice(ansatz, shots=number)
        runs = device.probabilities_many(np.tile(phi, (60, 1)), number)
        rms.append(np.sqrt(np.mean(np.sum((runs - p) ** 2, axis=1))))
        assert rms[-1] == pytest.approx(np.sqrt((1 - p @ p) / number), rel=0.2)
    assert np.polyfit(np.log(shots), np.log(rms), 1)[0] == pytest.approx(-0.5, abs=0.05)


def test_shots_are_counts_and_the_seed_decides_them():
    ansatz, phi = problem(3, 1)
    device = AerDevice(ansatz, shots=100)
    [first, second] = device.probabilities_many(np.array([phi, phi]), 5)
    np.testing.assert_allclose(first * 100, np.round(first * 100), atol=1e-12)
    assert first.sum() == pytest.approx(1.0, abs=1e-12)
    assert (first != second).any(), "two runs of a job are independent"
    np.testing.assert_array_equal(device.probabilities_many(np.array([phi, phi]), 5), [first, second])
    assert (device.probabilities_many(phi[None], 6)[0] != first).any()
    np.testing.assert_allclose(device.exact(phi), exact(ansatz, phi), atol=1e-14)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_qubit_q_is_bit_q_of_the_index(n):
    for noise in (None, NoiseSettings(readout_error=(1e-9, 1e-9))):
        device = AerDevice(Ansatz(num_qubits=n, num_layers=1), shots=50, noise=noise)
        phis = np.zeros((n, device.ansatz.num_angles))
        phis[np.arange(n), 3 * np.arange(n)] = PI
        np.testing.assert_array_equal(
            device.probabilities_many(phis, 0).argmax(axis=1), 2 ** np.arange(n), err_msg=f"{noise}"
        )


# --- noise ---


@pytest.mark.parametrize(("n", "layers"), [(1, 2), (2, 1), (3, 2), (5, 2)])
def test_noise_of_rate_0_is_exact(n, layers):
    ansatz, phi = problem(n, layers)
    np.testing.assert_allclose(noisy(ansatz, phi), exact(ansatz, phi), rtol=0, atol=1e-12)


@pytest.mark.parametrize("gates", ["ansatz", "u", "rz"])
def test_gates_of_a_device_make_the_same_circuit(gates):
    from qiskit.quantum_info import Statevector

    ansatz, phi = problem(3, 2)
    circuit, angles = measured_circuit(ansatz, gates)
    bound = circuit.remove_final_measurements(inplace=False).assign_parameters(dict(zip(angles, phi, strict=True)))
    np.testing.assert_allclose(Statevector(bound).probabilities(), exact(ansatz, phi), atol=1e-12)
    assert gates == "ansatz" or "cu" not in circuit.count_ops()


def test_strong_depolarising_tends_to_the_uniform_distribution():
    ansatz, phi = problem(4, 2)
    distances = [
        abs(noisy(ansatz, phi, one_qubit_rate=rate, two_qubit_rate=rate) - 1 / 16).max()
        for rate in (0.0, 0.01, 0.1, 0.5, 1.0)
    ]
    assert distances[0] > 0.1
    assert (np.diff(distances) < 0).all()
    assert distances[3] < 0.01
    assert distances[-1] < 1e-12


def test_depolarising_by_hand_on_one_qubit():
    """U3(θ, 0, 0), then with probability λ the qubit is replaced by I/2: p1 = (1 − λ)·sin²(θ/2) + λ/2."""
    ansatz = Ansatz(num_qubits=1, num_layers=1)
    found = noisy(ansatz, np.array([2 * PI / 3, 0.0, 0.0]), one_qubit_rate=0.2)
    np.testing.assert_allclose(found, [0.8 / 4 + 0.1, 0.8 * 3 / 4 + 0.1], atol=1e-12)


def test_damping_by_hand_on_one_qubit():
    """|1⟩ decays for t: p1 = e^(−t/T1). After two U3(π/2) with T2 alone: p1 = (1 + e^(−t/T2))/2 (one decay between)."""
    one = Ansatz(num_qubits=1, num_layers=1)
    found = noisy(one, np.array([PI, 0.0, 0.0]), t1=2.0, t2=1.0, one_qubit_time=1.0)
    assert found[1] == pytest.approx(np.exp(-0.5), abs=1e-12)
    two = Ansatz(num_qubits=1, num_layers=2)
    found = noisy(two, np.array([PI / 2, 0, 0, PI / 2, 0, 0]), t2=0.7, one_qubit_time=1.0)
    assert found[1] == pytest.approx((1 + np.exp(-1 / 0.7)) / 2, abs=1e-12)


@pytest.mark.parametrize("shots", [None, 200_000])
def test_readout_error_by_hand_on_two_qubits(shots):
    """State |01⟩ (qubit 0 is 1), a = P(read 1 | 0) = 0.1, b = P(read 0 | 1) = 0.2.

    Qubit 0 reads 1 with 0.8, qubit 1 with 0.1: index 0 → 0.2·0.9, 1 → 0.8·0.9, 2 → 0.2·0.1, 3 → 0.8·0.1.
    """
    device = AerDevice(Ansatz(num_qubits=2, num_layers=1), shots=shots, noise=NoiseSettings(readout_error=(0.1, 0.2)))
    phi = np.zeros(12)
    phi[0] = phi[6] = PI  # the first ring gate would set qubit 1 as well
    phi[6] = 0.0
    found = device.probabilities_many(phi[None], 1)[0]
    tolerance = 1e-12 if shots is None else 5 * np.sqrt(0.25 / shots)
    np.testing.assert_allclose(found, [0.18, 0.72, 0.02, 0.08], atol=tolerance)
    np.testing.assert_allclose(read_out(np.array([[0, 1, 0, 0]]), [(0.1, 0.2)] * 2)[0], [0.18, 0.72, 0.02, 0.08])


def test_density_matrix_and_single_shots_agree():
    """The same noise by either way, within five standard deviations of 4000 shots."""
    ansatz, phi = problem(3, 1)
    strong = NoiseSettings(two_qubit_rate=0.1, t1=1e-6, two_qubit_time=3e-7, readout_error=(0.05, 0.1))
    matrix, shot_by_shot = (
        AerDevice(ansatz, shots=4000, noise=strong),
        AerDevice(ansatz, shots=4000, noise=strong, memory=1),
    )
    assert (matrix.method, shot_by_shot.method) == ("density_matrix", "statevector")
    p = matrix.exact(phi)
    assert abs(p - exact(ansatz, phi)).max() > 0.02
    for device in (matrix, shot_by_shot):
        found = device.probabilities_many(phi[None], 3)[0]
        assert (abs(found - p) < 5 * np.sqrt(p * (1 - p) / 4000)).all()
    assert shot_by_shot.exact(phi) is None


def test_angles_asked_for_again_are_not_computed_again_and_others_are():
    ansatz, phi = problem(3, 1)
    device = AerDevice(ansatz, shots=None, noise=TODAY)
    first = device.probabilities_many(phi[None], 0)
    first[:] = 0.0  # what one agent does with its own is no matter to the next
    second, other = device.probabilities_many(phi[None], 1), device.probabilities_many(phi[None] + 0.1, 2)
    np.testing.assert_array_equal(second, AerDevice(ansatz, shots=None, noise=TODAY).probabilities_many(phi[None], 0))
    assert abs(other - second).max() > 0.01
    np.testing.assert_array_equal(device.probabilities_many(phi[None], 3), second)


def test_exact_noise_that_no_memory_can_hold_asks_for_shots():
    ansatz, _ = problem(5, 1)
    with pytest.raises(ValueError, match="expected --shots: the density matrix of 5 noisy qubits"):
        AerDevice(ansatz, shots=None, noise=TODAY, memory=1 << 10)


# --- gradients ---


@pytest.mark.parametrize(("n", "layers"), [(1, 3), (2, 1), (4, 2), (6, 3), (8, 3)])
def test_parameter_shift_of_whole_jobs_is_the_adjoint(n, layers):
    ansatz, phi = problem(n, layers)
    cotangent = np.random.default_rng(n).normal(size=max(2, 2**n - 3) if n > 1 else 2)
    qpu = MeasuredQPU(
        ExactDevice(AerQPU(ansatz)), seed=lambda *_: 0, patience=Patience(retries=0, pause=0.0, timeout=None)
    )
    expected = AdjointGradient(StatevectorQPU(ansatz))(phi, cotangent)
    np.testing.assert_allclose(ParameterShiftGradient(qpu)(phi, cotangent), expected, rtol=0, atol=1e-8)


def test_parameter_shift_under_noise_is_nearly_the_gradient(numerical_gradient):
    """There is noise between the halves of a controlled-U3: four terms are no longer all (docs/noise.md)."""
    ansatz, phi = problem(3, 1)
    cotangent = np.random.default_rng(0).normal(size=8)
    device = AerDevice(ansatz, shots=None, noise=TODAY)
    qpu = MeasuredQPU(device, seed=lambda *_: 0, patience=Patience(retries=0, pause=0.0, timeout=None))
    found = ParameterShiftGradient(qpu)(phi, cotangent)
    expected = numerical_gradient(lambda x: cotangent @ device.exact(x), phi)
    assert abs(found - expected).max() < 2e-3 * abs(expected).max()
    assert abs(found - AdjointGradient(StatevectorQPU(ansatz))(phi, cotangent)).max() > 1e-2 * abs(expected).max()
