"""Merging gates: by hand, and the merged circuit is the circuit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qiskit.circuit.library import UGate

from qtrl_hpc.quantum.adjoint import AdjointGradient
from qtrl_hpc.quantum.ansatz import UNCONTROLLED, Ansatz
from qtrl_hpc.quantum.gates import Gate
from qtrl_hpc.quantum.program import compile_ansatz
from qtrl_hpc.quantum.qpu import StatevectorQPU


def merged(n, layers):
    program = compile_ansatz(Ansatz(num_qubits=n, num_layers=layers))
    groups = np.split(program.members, program.starts[1:-1])
    return list(zip(program.targets.tolist(), program.controls.tolist(), [g.tolist() for g in groups], strict=True))


def test_three_qubits_two_layers_by_hand():
    """Gates 0–2 and 6–8 are the layers' U3, 3–5 and 9–11 their rings."""
    u = UNCONTROLLED
    assert merged(3, 2) == [
        (0, u, [0]),
        (1, 0, [1, 3]),
        (2, 1, [2, 4]),
        (0, 2, [5, 6]),
        (1, 0, [7, 9]),
        (2, 1, [8, 10]),
        (0, 2, [11]),
    ]


def test_one_qubit_is_one_gate():
    assert merged(1, 3) == [(0, UNCONTROLLED, [0, 1, 2])]


@pytest.mark.parametrize(("n", "layers"), [(3, 1), (13, 3), (5, 7)])
def test_number_of_merged_gates(n, layers):
    program = compile_ansatz(Ansatz(num_qubits=n, num_layers=layers))
    assert len(program.targets) == n * layers + 1
    assert sorted(program.members.tolist()) == list(range(2 * n * layers))


def test_amplitudes_that_may_be_other_than_0():
    program = compile_ansatz(Ansatz(num_qubits=3, num_layers=2))
    assert program.supports.tolist() == [2, 4, 8, 8, 8, 8, 8]


def dense(matrix, target, control, n):
    """Return a (controlled) one-qubit gate on n qubits as a matrix, qubit 0 least significant."""
    full = np.zeros((2**n, 2**n), complex)
    for i in range(2**n):
        if control != UNCONTROLLED and not i >> control & 1:
            full[i, i] = 1.0
            continue
        for bit in range(2):
            j = i & ~(1 << target) | bit << target
            full[j, i] = matrix[bit, i >> target & 1]
    return full


@pytest.mark.parametrize(("n", "layers"), [(1, 2), (2, 3), (3, 2), (4, 2)])
def test_merging_does_not_change_the_circuit(n, layers):
    ansatz = Ansatz(num_qubits=n, num_layers=layers)
    program = compile_ansatz(ansatz)
    phi = np.random.default_rng(0).uniform(-np.pi, np.pi, (len(ansatz.targets), 3))
    gates = [
        dense(UGate(*angles).to_matrix(), target, control, n)
        for angles, target, control in zip(phi, ansatz.targets, ansatz.controls, strict=True)
    ]
    expected, found = np.eye(2**n), np.eye(2**n)
    for gate in gates:
        expected = gate @ expected
    for gate in program.members:
        found = gates[gate] @ found
    np.testing.assert_allclose(found, expected, atol=1e-14)
    np.testing.assert_array_equal(program.controlled, ansatz.controls[program.members] != UNCONTROLLED)


@given(n=st.integers(1, 6), count=st.integers(1, 12), seed=st.integers(0, 2**31))
def test_any_list_of_gates_runs_and_is_differentiated(n, count, seed, slope):
    """Gates on any target with any control, or none, in any order, against dense matrices and differences."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, n, count)
    controls = np.where(rng.random(count) < 0.6, (targets + rng.integers(1, max(2, n), count)) % n, UNCONTROLLED)
    controls[controls == targets] = UNCONTROLLED
    gates = [Gate(q, (j, j + 1, j + 2), c) for q, c, j in zip(targets, controls, range(0, 3 * count, 3), strict=True)]
    ansatz = Ansatz(num_qubits=n, num_layers=1, gates=tuple(gates))
    phi, direction = rng.uniform(-np.pi, np.pi, (2, 3 * count))
    cotangent = rng.normal(size=2**n)
    state = np.eye(2**n)[0].astype(complex)
    for angles, target, control in zip(phi.reshape(-1, 3), targets, controls, strict=True):
        state = dense(UGate(*angles).to_matrix(), target, control, n) @ state
    qpu = StatevectorQPU(ansatz)
    np.testing.assert_allclose(qpu.probabilities(phi), np.abs(state) ** 2, atol=1e-13)
    expected = slope(lambda angles: cotangent @ qpu.probabilities(angles), phi, direction)
    assert AdjointGradient(qpu)(phi, cotangent) @ direction == pytest.approx(expected, rel=1e-8, abs=1e-8)
