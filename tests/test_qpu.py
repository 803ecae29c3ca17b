"""Angles in, probabilities out: both QPUs against hand calculation and against Qiskit's public path."""

import gc
import os
from pathlib import Path

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.quantum_info import Statevector
from qiskit_aer import AerSimulator

from qtrl_hpc.quantum.ansatz import Ansatz
from qtrl_hpc.quantum.qpu import QPUS, AerQPU, StatevectorQPU, qiskit_circuit

PI = np.pi
both = pytest.mark.parametrize("name", ["aer", "statevector"])


def make(name, n, layers=1):
    return QPUS[name](Ansatz(num_qubits=n, num_layers=layers), threads=1)


def reference_circuit(n, layers, phi):
    """Write METHOD's circuit down once more, from the text."""
    circuit, angles = QuantumCircuit(n), iter(phi.reshape(-1, 3).tolist())
    for _ in range(layers):
        for q in range(n):
            circuit.u(*next(angles), q)
        for q in range(n if n > 1 else 0):
            circuit.cu(*next(angles), 0.0, q, (q + 1) % n)
    return circuit


def test_names():
    assert isinstance(make("aer", 1), AerQPU)
    assert isinstance(make("statevector", 1), StatevectorQPU)


@both
def test_two_qubits_by_hand(name):
    """U3(π/2) on qubit 0, controlled-U3(2π/3) 0→1, controlled-U3(π) 1→0.

    |00⟩ → (|0⟩+|1⟩)/√2; index 1 → cos(π/3)·1 + sin(π/3)·3, so amplitudes 1/√2·[1, 1/2, 0, √3/2];
    the last gate maps q0 = 1 to 0 where q1 = 1, so index 3 moves to 2.
    """
    phi = np.zeros((4, 3))
    phi[:, 0] = PI / 2, 0, 2 * PI / 3, PI
    np.testing.assert_allclose(make(name, 2).probabilities(phi.ravel()), [1 / 2, 1 / 8, 3 / 8, 0], atol=1e-15)


@both
def test_phases_by_hand(name):
    """Two U3(π/2, φ, λ) on one qubit: amplitude 0 is (1 − e^{i(φ1+λ2)})/2, so p0 = (1 − cos(φ1+λ2))/2.

    φ1 + λ2 = π/4 + π/12 = π/3 gives 1/4; λ1 and φ2, here 1 and 2, do not matter.
    """
    phi = np.array([PI / 2, PI / 4, 1.0, PI / 2, 2.0, PI / 12])
    np.testing.assert_allclose(make(name, 1, 2).probabilities(phi), [1 / 4, 3 / 4], atol=1e-15)


@both
@pytest.mark.parametrize("n", [1, 2, 5])
def test_qubit_q_is_bit_q_of_the_index(name, n):
    qpu = make(name, n)
    for q in range(n):
        phi = np.zeros(qpu.ansatz.num_angles)
        phi[3 * q] = PI
        assert qpu.probabilities(phi)[2**q] == pytest.approx(1.0, abs=1e-15)


@both
@pytest.mark.parametrize("n", [2, 5])
def test_ring_gate_q_has_control_q_and_target_q_plus_1(name, n):
    qpu = make(name, n)
    for q in range(n):
        phi = np.zeros(qpu.ansatz.num_angles)
        phi[3 * (n + q)] = PI
        assert qpu.probabilities(phi)[0] == pytest.approx(1.0, abs=1e-15)
        phi[3 * q] = PI
        assert qpu.probabilities(phi)[2**q + 2 ** ((q + 1) % n)] == pytest.approx(1.0, abs=1e-15)


@both
@pytest.mark.parametrize("n", [2, 3, 6])
def test_ring_runs_upwards_and_closes_last(name, n):
    """Qubit 0 set and every ring gate a flip: 0 → 1 → … → n-1 sets all, then the last clears qubit 0."""
    qpu = make(name, n)
    phi = np.zeros(qpu.ansatz.num_angles)
    phi[0] = PI
    phi[3 * n :: 3] = PI
    assert qpu.probabilities(phi)[2**n - 2] == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize("n", range(1, 15))
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_agrees_with_qiskit(n, layers):
    rng = np.random.default_rng([n, layers])
    qpus = [make("aer", n, layers), make("statevector", n, layers)]
    before, phi = rng.uniform(-PI, PI, (2, qpus[0].ansatz.num_angles))
    circuit = reference_circuit(n, layers, phi)
    exact = Statevector(circuit).data
    circuit.save_statevector()
    aer = np.asarray(AerSimulator(method="statevector").run(circuit).result().get_statevector())
    for qpu in qpus:
        qpu.probabilities(before)  # a run must not depend on the one before it
        probabilities = qpu.probabilities(phi)
        assert probabilities.shape == (2**n,)
        assert probabilities.dtype == np.float64
        assert abs(probabilities.sum() - 1.0) < 1e-12
        for amplitudes in (exact, aer):
            np.testing.assert_allclose(probabilities, np.abs(amplitudes) ** 2, rtol=0, atol=1e-12)
    state = qpus[1].state(phi)[:, : 2**n]
    overlap = np.vdot(exact, state[0] + 1j * state[1])
    assert abs(abs(overlap) - 1.0) < 1e-12  # the amplitudes too, up to a global phase


@pytest.mark.parametrize("n", [1, 2, 4])
def test_qiskit_circuit_is_the_ansatz(n):
    ansatz = Ansatz(num_qubits=n, num_layers=2)
    phi = np.random.default_rng(n).uniform(-PI, PI, ansatz.num_angles)
    assert qiskit_circuit(ansatz, phi.tolist()) == reference_circuit(n, 2, phi)


@both
def test_probabilities_outlive_the_next_run(name):
    """The generator's pullback still needs them after parameter-shift has run other circuits."""
    qpu = make(name, 3)
    first = qpu.probabilities(np.full(18, 0.3))
    kept = first.copy()
    qpu.probabilities(np.full(18, 1.0))
    np.testing.assert_array_equal(first, kept)


def test_aer_does_not_grow_with_updates():
    """600 statevectors of 10 qubits, were they kept, would be 9.4 MiB."""
    qpu = make("aer", 10, 3)
    phi = np.random.default_rng(0).uniform(-PI, PI, qpu.ansatz.num_angles)

    def resident_after(runs):
        for _ in range(runs):
            qpu.probabilities(phi)
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    warm = resident_after(100)
    assert resident_after(600) - warm < 8
