"""Back ends and devices for tests, one of which goes wrong: QTRL_TEST_QPU="what one_in" (what, every how many jobs).

``--qpu backend:support_qpus:NAME``.
"""

import os
import sys
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
    """Five qubits in a row, the gates of a device, run by Aer; ``circuits`` says how many each call had."""

    def __init__(self, ansatz=None, shots=None, *, max_circuits=None):
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

    def __init__(self, ansatz, shots):
        if shots is not None:
            raise ValueError(f"{shots} shots,\nexpected none")
        self.ansatz = ansatz
        self._qpu, self._jobs = StatevectorQPU(ansatz), 0

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
        what = os.environ.get("QTRL_TEST_EXACT")
        if what == "raise":
            raise RuntimeError("no such number")
        return self._qpu.probabilities(phi) * (np.nan if what == "nan" else 1.0)


class Other(Exact):
    """Runs one layer more than it is asked to."""

    def __init__(self, ansatz, shots):
        super().__init__(Ansatz(num_qubits=ansatz.num_qubits, num_layers=ansatz.num_layers + 1), None)


class Bare:
    """Measures, but does not say what."""

    def __init__(self, ansatz, shots):
        self.probabilities_many = Exact(ansatz, None).probabilities_many


class Dull(Exact):
    """Has what cannot be called."""

    def __init__(self, ansatz, shots):
        super().__init__(ansatz, None)
        self.exact = None


class Idle(Exact):
    """Takes no circuits."""

    circuits_per_job = 0


def leaves(ansatz, shots):
    sys.exit("this machine is not mine")


class Small(Line):
    """Two of its qubits."""

    def __init__(self, ansatz=None, shots=None):
        super().__init__()
        self.name, self._target = "small", Target(num_qubits=2)


class Few(Line):
    """At most a hundred shots."""

    max_shots = 100


line = Line()
small = Small()
not_a_backend = 3
