"""Noise settings -> Aer's noise model, and the circuit in the gates that the noise is counted in."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.noise import NoiseSettings
from qtrl_hpc.quantum.ansatz import Ansatz
from qtrl_hpc.quantum.device_circuit import gates_of, measured_circuit, measured_qubits

ONE_QUBIT_GATE, TWO_QUBIT_GATE, FRAME_CHANGE = "u", "cx", "p"
TRANSPILER_SEED = 0


@dataclass(frozen=True)
class NoisyCircuit:
    """A circuit as a noisy device runs it, measured at its end."""

    circuit: Any
    """Of Qiskit, on the device's qubits; bit q is qubit q of the ansatz."""
    angles: list[Any]
    """Its parameters phi, in circuit order."""
    noise_model: Any
    """Aer's, or None for none."""
    readout: list[tuple[float, float]]
    """For each qubit of the ansatz, the probabilities of reading 1 where it is 0, and 0 where it is 1."""

    @property
    def active_qubits(self) -> int:
        """Return how many qubits of the device gates act on: its routing may need more than the ansatz has."""
        return len({bit for instruction in self.circuit.data for bit in instruction.qubits})


def noisy_circuit(ansatz: Ansatz, settings: NoiseSettings | None, fake: Any = None) -> NoisyCircuit:
    """Return the circuit, and the noise it suffers.

    Without settings it is the ansatz itself. With them each controlled-U3 becomes two CX, two U3 and two frame changes,
    as no device has it; with a fake back end that is transpiled once to its basis gates and coupling map.

    Args:
        ansatz: the circuit.
        settings: of one QPU; None for no noise.
        fake: the back end that ``settings.fake`` names.
    """
    if settings is None:
        circuit, angles = measured_circuit(ansatz, "ansatz")
        return NoisyCircuit(circuit, angles, None, [(0.0, 0.0)] * ansatz.num_qubits)
    if fake is not None:
        return _on_fake(ansatz, fake)
    circuit, angles = measured_circuit(ansatz, "u")
    return NoisyCircuit(circuit, angles, noise_model(settings), [settings.readout_error] * ansatz.num_qubits)


def noise_model(settings: NoiseSettings) -> Any:
    """Return Aer's noise model: after each U3 and CX, depolarising, then damping for the time that the gate takes.

    Depolarising with rate λ on m qubits is E(ρ) = (1 − λ)ρ + λ·I/2^m. In a time t an excited qubit decays with
    probability 1 − e^(−t/T1), and coherences shrink by e^(−t/T2).
    """
    from qiskit_aer.noise import NoiseModel, ReadoutError

    model = NoiseModel(basis_gates=[ONE_QUBIT_GATE, TWO_QUBIT_GATE, FRAME_CHANGE])
    after_one, after_two = _damping(settings, settings.one_qubit_time), _damping(settings, settings.two_qubit_time)
    errors = {
        ONE_QUBIT_GATE: [_depolarising(settings.one_qubit_rate, 1), after_one],
        TWO_QUBIT_GATE: [_depolarising(settings.two_qubit_rate, 2), after_two and after_two.tensor(after_two)],
    }
    for gate, parts in errors.items():
        present = [part for part in parts if part is not None]
        if present:
            model.add_all_qubit_quantum_error(present[0] if len(present) == 1 else present[0].compose(present[1]), gate)
    a, b = settings.readout_error
    if a or b:
        model.add_all_qubit_readout_error(ReadoutError([[1.0 - a, a], [b, 1.0 - b]]))
    return model


def read_out(probabilities: NDArray[np.float64], readout: list[tuple[float, float]]) -> NDArray[np.float64]:
    """Return the probabilities of what is read, from those of what there is: one 2×2 matrix a qubit.

    Args:
        probabilities: shape (m, 2^n), float64, in Qiskit's order.
        readout: for each qubit, the probabilities of reading 1 where it is 0, and 0 where it is 1.
    """
    for qubit, (a, b) in enumerate(readout):
        pairs = probabilities.reshape(len(probabilities), -1, 2, 1 << qubit)
        zero, one = pairs[:, :, 0], pairs[:, :, 1]
        probabilities = np.stack([(1.0 - a) * zero + b * one, a * zero + (1.0 - b) * one], axis=2)
    return probabilities.reshape(len(probabilities), -1)


def _depolarising(rate: float, num_qubits: int) -> Any:
    """Return the depolarising channel, or None where there is none."""
    from qiskit_aer.noise import depolarizing_error

    return depolarizing_error(rate, num_qubits) if rate else None


def _damping(settings: NoiseSettings, seconds: float) -> Any:
    """Return thermal relaxation for a time, or None where there is none."""
    from qiskit_aer.noise import thermal_relaxation_error

    if seconds == 0.0 or (settings.t1 is None and settings.t2 is None):
        return None
    t1 = np.inf if settings.t1 is None else settings.t1
    t2 = 2.0 * t1 if settings.t2 is None else settings.t2
    return thermal_relaxation_error(t1, t2, seconds)


def _on_fake(ansatz: Ansatz, fake: Any) -> NoisyCircuit:
    from qiskit import transpile
    from qiskit_aer.noise import NoiseModel

    circuit, angles = measured_circuit(ansatz, gates_of(fake))
    circuit = transpile(circuit, fake, optimization_level=1, seed_transpiler=TRANSPILER_SEED)
    model = NoiseModel.from_backend(fake)
    errors = model._local_readout_errors
    readout = []
    for qubit in measured_qubits(circuit):
        matrix = errors[(qubit,)].probabilities if (qubit,) in errors else np.eye(2)
        readout.append((float(matrix[0][1]), float(matrix[1][0])))
    return NoisyCircuit(circuit, angles, model, readout)
