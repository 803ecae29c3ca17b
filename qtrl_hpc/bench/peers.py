"""Other simulators at the same task: the gradient of Σ g_i p_i with respect to all angles. None of them is required."""

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.bench.subjects import Circuit
from qtrl_hpc.errors import one_line
from qtrl_hpc.provenance import package_versions
from qtrl_hpc.quantum.ansatz import UNCONTROLLED

PACKAGES = ("pennylane", "pennylane-lightning", "torchquantum")

Gradient = Callable[[], NDArray[np.float64]]


@dataclass(frozen=True)
class Peer:
    """A simulator to compare with."""

    name: str
    title: str
    tolerance: float
    """Of its gradient against ours, the largest difference of a component."""
    build: Callable[[Circuit], Gradient]
    """Raises ImportError where it is not installed."""
    install: str
    """What to do where it is not installed."""


def versions() -> dict[str, str]:
    """Return the version of each peer's package, or that it is not installed."""
    return package_versions(PACKAGES)


def ready(peer: Peer, subject: Circuit, expected: NDArray[np.float64]) -> tuple[Gradient | None, str]:
    """Return a peer's gradient as a call, and how far it is from ours; or None, and why it cannot be compared with."""
    try:
        gradient = peer.build(subject)
    except ImportError as error:
        return None, f"not installed ({one_line(error)}): {peer.install}"
    difference = float(np.abs(gradient() - expected).max())
    if not difference <= peer.tolerance:
        return None, f"its gradient differs from ours by {difference:.1e}, expected at most {peer.tolerance:g}"
    return gradient, f"gradients agree to {difference:.0e}"


def _gates(subject: Circuit) -> list[tuple[int, int | None]]:
    """Return each gate's target and control as wires, of which the first is the most significant bit."""
    last = subject.ansatz.num_qubits - 1
    return [
        (last - target, None if control == UNCONTROLLED else last - control)
        for target, control in zip(subject.ansatz.targets.tolist(), subject.ansatz.controls.tolist(), strict=True)
    ]


def pennylane_gradient(subject: Circuit) -> Gradient:
    """Return the gradient of a QNode on lightning.qubit by its own adjoint method.

    That method does not differentiate probabilities, but the expectation of a sparse observable: diag(g).
    """
    import pennylane as qml
    import pennylane_lightning  # noqa: F401  (the device below is looked up by name)
    from scipy import sparse

    gates, wires = _gates(subject), subject.ansatz.num_qubits
    # On wires in any other order than 0 … n-1 the adjoint method returned wrong gradients (PennyLane-Lightning 0.45.0).
    observable = qml.SparseHamiltonian(sparse.diags(subject.cotangent, format="csr"), wires=range(wires))

    def expectation(phi):  # type: ignore[no-untyped-def]
        for (target, control), angles in zip(gates, phi.reshape(-1, 3), strict=True):
            if control is None:
                qml.U3(*angles, wires=target)
            else:
                qml.ctrl(qml.U3, control=control)(*angles, wires=target)
        return qml.expval(observable)

    node = qml.QNode(expectation, qml.device("lightning.qubit", wires=wires), diff_method="adjoint")
    phi = qml.numpy.array(subject.phi, requires_grad=True)
    gradient = qml.grad(node)
    return lambda: np.asarray(gradient(phi))


def torchquantum_gradient(subject: Circuit) -> Gradient:
    """Return the gradient by TorchQuantum's autograd, in its own single precision."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch
    import torchquantum as tq
    import torchquantum.functional as tqf

    torch.set_num_threads(1)
    gates, wires = _gates(subject), subject.ansatz.num_qubits
    cotangent = torch.tensor(subject.cotangent, dtype=torch.float32)
    phi = torch.tensor(subject.phi, dtype=torch.float32, requires_grad=True)

    def gradient() -> NDArray[np.float64]:
        device = tq.QuantumDevice(n_wires=wires, bsz=1)
        for (target, control), angles in zip(gates, phi.reshape(-1, 1, 3), strict=True):
            if control is None:
                tqf.u3(device, wires=target, params=angles)
            else:
                tqf.cu3(device, wires=[control, target], params=angles)
        probabilities = device.get_states_1d().abs().square()[0]
        (found,) = torch.autograd.grad(probabilities @ cotangent, phi)
        return found.numpy().astype(np.float64)

    return gradient


PEERS = (
    Peer(
        "pennylane",
        "PennyLane lightning.qubit, adjoint QNode",
        1e-9,
        pennylane_gradient,
        "pip install 'qtrl_hpc[bench]'",
    ),
    Peer(
        "torchquantum",
        "TorchQuantum, autograd",
        1e-3,
        torchquantum_gradient,
        "see docs/benchmarks/with_torchquantum.py",
    ),
)
