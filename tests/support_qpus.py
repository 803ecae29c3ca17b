"""Back ends and devices for tests, one of which goes wrong: QTRL_TEST_QPU="what one_in" (what, every how many jobs).

``--qpu backend:support_qpus:NAME``.
"""

import os
import threading

import numpy as np
from qiskit.circuit import Measure
from qiskit.circuit.library import CXGate, RZGate, SXGate
from qiskit.providers import BackendV2, Options
from qiskit.transpiler import Target
from qiskit_aer import AerSimulator

from qtrl_hpc.quantum.ansatz import Ansatz
from qtrl_hpc.quantum.qpu import StatevectorQPU

released = threading.Event()  # ends what hangs
RANK = os.environ.get("OMPI_COMM_WORLD_RANK", "0")


def fault(job):
    """Return what is to go wrong at this job of this process, if anything; "what,or_what,… one_in [rank]", in turn."""
    what, one_in, *rank = os.environ.get("QTRL_TEST_QPU", "nothing 1").split()
    time, rest = divmod(job, int(one_in))
    kinds = what.split(",")
    return kinds[time % len(kinds)] if rest == int(one_in) - 1 and rank in ([], [RANK]) else None


class Line(BackendV2):
    """Five qubits in a row, the gates of a device, run by Aer; ``jobs`` counts calls, ``circuits`` what each had."""

    def __init__(self, num_qubits=5, max_circuits=None):
        super().__init__(name="line")
        self._target = Target(num_qubits=5)
        pairs = [(q, q + 1) for q in range(4)]
        self._target.add_instruction(CXGate(), dict.fromkeys([*pairs, *[(b, a) for a, b in pairs]]))
        from qiskit.circuit import Parameter

        for gate in (RZGate(Parameter("angle")), SXGate(), Measure()):
            self._target.add_instruction(gate, dict.fromkeys((q,) for q in range(5)))
        self._max, self._aer = max_circuits, AerSimulator()
        self.circuits, self.seen = [], []

    @property
    def target(self):
        return self._target

    @property
    def max_circuits(self):
        return self._max

    @classmethod
    def _default_options(cls):
        return Options()

    def run(self, circuits, **options):
        what = fault(len(self.circuits))
        if "shots" not in options:
            raise RuntimeError("run() was given no shots")
        self.circuits.append(len(circuits))
        self.seen += circuits
        if what == "raise":
            raise RuntimeError("the fridge is warm")
        if what == "hang":
            released.wait(3600)
        if what == "counts":
            options["shots"] -= 1
        if what == "length":
            circuits = circuits[:-1]
        return self._aer.run(circuits, **options)


class Exact:
    """A device that needs no shots: the exact probabilities, or what is wrong with them."""

    circuits_per_job = None

    def __init__(self, num_qubits):
        layers = int(os.environ.get("QTRL_TEST_LAYERS", "1"))
        self.ansatz = Ansatz(num_qubits=num_qubits, num_layers=layers)
        self._qpu, self._jobs = StatevectorQPU(self.ansatz), 0

    def probabilities_many(self, phis, seed):
        what = fault(self._jobs)
        self._jobs += 1
        found = np.array([self._qpu.probabilities(phi) for phi in phis])
        if what == "raise":
            raise RuntimeError("the fridge is warm")
        if what == "hang":
            released.wait(3600)
        if what == "sum":
            found *= 0.9
        if what == "nan":
            found[0, 0] = np.nan
        if what == "length":
            found = found[:, :-1]
        return found

    def exact(self, phi):
        return self._qpu.probabilities(phi)


class Small(Line):
    """Two of its qubits."""

    def __init__(self, num_qubits=2):
        super().__init__()
        self.name, self._target = "small", Target(num_qubits=2)


line = Line()
small = Small()
not_a_backend = 3
