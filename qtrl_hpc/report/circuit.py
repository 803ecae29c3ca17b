"""The circuit of a run: what it looks like, and the probabilities that its trained angles give."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.checkpoint import Checkpoint
from qtrl_hpc.chosen import ansatz_of
from qtrl_hpc.concentration import Concentration, concentration
from qtrl_hpc.environment import Purpose, seed_sequence
from qtrl_hpc.errors import UserError
from qtrl_hpc.evaluate import trusted
from qtrl_hpc.factory import num_qubits_for
from qtrl_hpc.generator import initial_phi
from qtrl_hpc.quantum.ansatz import Ansatz
from qtrl_hpc.quantum.qpu import StatevectorQPU, qiskit_circuit

MOST_SIMULATED = 22
"""Qubits: the probabilities of more are not worked out, as that would take longer than a report may."""
MOST_DRAWN = 20
"""Qubits: a picture of more could not be read."""
FIXED_GATES = {"X": (math.pi, 0.0, math.pi), "Z": (0.0, 0.0, math.pi), "H": (math.pi / 2, 0.0, math.pi)}
"""Gates without angles -> theirs as a U3."""


@dataclass(frozen=True, kw_only=True)
class Circuit:
    """A run's circuit, and its exact probabilities, without shots and noise."""

    ansatz: Ansatz
    layer: Ansatz
    """The same with one layer."""
    num_weights: int
    """k: of the first k basis states the weights are made."""
    probabilities: NDArray[np.float64] | None
    """At the checkpoint's angles, shape (2^n,); None where there are too many qubits."""
    at_start: NDArray[np.float64] | None
    """At the angles that training began with."""

    @property
    def concentration(self) -> Concentration:
        """Return how far the probabilities are spread."""
        return concentration(self._known)

    @property
    def used(self) -> float:
        """Return the share of the probability that is on the first k basis states."""
        return float(self._known[: self.num_weights].sum())

    @property
    def _known(self) -> NDArray[np.float64]:
        if self.probabilities is None:
            raise ValueError("the probabilities of so many qubits were not worked out")
        return self.probabilities


def circuit_of(checkpoint: Checkpoint, given: str | None = None) -> Circuit | None:
    """Return the circuit whose probabilities the weights are made of; None where there is none.

    Args:
        checkpoint: of the run.
        given: the ansatz by the user's word, which may be MODULE:OBJECT.

    Raises:
        UserError: the run's is MODULE:OBJECT and the user does not name it, or it cannot be made.
    """
    config, num_weights = checkpoint.config, checkpoint.policy_spec.num_parameters
    config = replace(config, ansatz=trusted("the run", "ansatz", "--ansatz", config.ansatz, given))
    if config.policy != "quantum" or config.circuit in ("absent", "random"):
        return None
    num_qubits = num_qubits_for(num_weights)
    ansatz = ansatz_of(config, num_qubits)
    phi = checkpoint.state.Theta.phi
    if len(phi) not in (0, ansatz.num_angles):
        raise UserError(f"the run has {len(phi)} angles, but the ansatz {config.ansatz} has {ansatz.num_angles}")
    probabilities = at_start = None
    if num_qubits <= MOST_SIMULATED:
        qpu = StatevectorQPU(ansatz)
        rng = np.random.default_rng(seed_sequence(config.seed, Purpose.INITIAL))
        at_start = qpu.probabilities(initial_phi(ansatz.num_angles, rng))
        probabilities = qpu.probabilities(phi) if len(phi) else at_start  # frozen: Θ has no angles
    return Circuit(
        ansatz=ansatz,
        layer=ansatz_of(replace(config, layers=1), num_qubits),
        num_weights=num_weights,
        probabilities=probabilities,
        at_start=at_start,
    )


def drawn_circuit(ansatz: Ansatz, style: dict[str, Any]) -> Any:
    """Return matplotlib's figure of a circuit, by Qiskit's drawer, each gate with the numbers of its angles in φ."""
    from qiskit import QuantumCircuit
    from qiskit.circuit import ControlledGate, Gate, Parameter, ParameterVector

    real = qiskit_circuit(ansatz, list(ParameterVector("φ", ansatz.num_angles)))
    shown = QuantumCircuit(ansatz.num_qubits)
    words: dict[str, Parameter] = {}  # Qiskit refuses two of one name, and gates may share an angle or have it fixed
    for instruction in real.data:
        qubits = [real.find_bit(qubit).index for qubit in instruction.qubits]
        name, angles = gate_words(list(instruction.operation.params[:3]))
        gate = Gate(name, 1, [words.setdefault(angles, Parameter(angles))] if angles else [])
        if len(qubits) == 2:
            gate = ControlledGate(f"c{name}", 2, gate.params, num_ctrl_qubits=1, base_gate=gate)
        shown.append(gate, qubits)
    return shown.draw("mpl", fold=-1, style=style, idle_wires=True)


def gate_words(angles: list[Any]) -> tuple[str, str]:
    """Return what a gate U3(θ, φ, λ) is called, and its angles: ``φ3–5``, ``φ7``, or nothing where none is trained."""
    numbers = [getattr(angle, "index", None) for angle in angles]
    fixed = [None if number is not None else float(angle) for number, angle in zip(numbers, angles, strict=True)]
    trained = [number for number in numbers if number is not None]
    if not trained:
        values = np.array(fixed, np.float64)
        name = next((name for name, known in FIXED_GATES.items() if np.allclose(values, known)), None)
        return (name, "") if name else ("U3", ", ".join(f"{angle:.2f}" for angle in fixed))
    if len(trained) == 3 and trained == list(range(trained[0], trained[0] + 3)):
        return "U3", f"φ{trained[0]}–{trained[-1]}"
    words = [
        f"φ{number}" if number is not None else f"{angle:.3g}" for number, angle in zip(numbers, fixed, strict=True)
    ]
    if fixed[1:] == [0.0, 0.0]:
        return "RY", words[0]
    if fixed[:2] == [0.0, 0.0]:
        return "P", words[2]
    return "U3", ", ".join(words)
