"""Theta -> theta and back on torch, on a CPU or a GPU: Theta, theta and its cotangent alone leave the device."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from qtrl_hpc import mlp
from qtrl_hpc.concentration import Concentration
from qtrl_hpc.errors import UserError
from qtrl_hpc.generator import Feature, Theta, initial_phi, joined
from qtrl_hpc.quantum.ansatz import Ansatz
from qtrl_hpc.quantum.torch_gates import make_torch_circuit
from qtrl_hpc.stopwatch import Stopwatch
from qtrl_hpc.torch_mapping import TorchMapping

REAL = {"double": torch.float64, "single": torch.float32}
COMPLEX = {"double": torch.complex128, "single": torch.complex64}
# At most, in the pullback: four statevectors, and the probabilities and their cotangent.
STATEVECTORS = 5


class TorchGenerator:
    """Generate theta by a circuit and a mapping model, as ``QuantumGenerator`` does and from the same draws.

    In single precision states, features and activations are of 32 bits; angles, means over k and what is returned
    remain float64.

    Args:
        ansatz: the circuit.
        feature: from probabilities to x.
        num_rows: k.
        hidden_sizes: of the mapping model.
        activation: of the mapping model.
        device: where all is computed.
        precision: double or single.
        stopwatch: takes the seconds spent in "circuit", "mapping" and "gradient".
    """

    def __init__(
        self,
        ansatz: Ansatz,
        feature: Feature,
        *,
        num_rows: int,
        hidden_sizes: tuple[int, ...],
        activation: mlp.Activation,
        device: torch.device,
        precision: str = "double",
        stopwatch: Stopwatch | None = None,
    ) -> None:
        self._device, self._dtype = device, REAL[precision]
        self._circuit = make_torch_circuit(ansatz, device, COMPLEX[precision])
        self._feature, self._scale = feature, feature.a * 2.0 ** (ansatz.num_qubits - 1)
        self._mapping = TorchMapping(
            num_qubits=ansatz.num_qubits,
            num_rows=num_rows,
            hidden_sizes=hidden_sizes,
            activation=activation,
            device=device,
            dtype=self._dtype,
        )
        self._stopwatch = stopwatch or Stopwatch()

    def __call__(self, Theta: Theta) -> NDArray[np.float64]:
        """Return theta, shape (k,), float64 (METHOD steps 1 to 5)."""
        with self._timed("circuit"):
            # Not a view of all 2^n.
            self._probabilities = self._circuit.probabilities(Theta.phi)[: self._mapping.num_rows].clone()
        with self._timed("mapping"):
            self._beta = self._receive(Theta.beta)
            output = self._mapping.forward(self._beta, self._x()).double()
            return (output - output.mean()).cpu().numpy()

    def pullback(self, d_theta: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ∂J/∂Theta at the last call (Eq. 3–4, the chain rule through θ = M_β(p(φ))).

        Args:
            d_theta: ∂J/∂θ, shape (k,), float64.

        Returns:
            ∂J/∂φ then ∂J/∂β, shape (P + l,), float64.
        """
        with self._timed("gradient"):
            d_beta, d_x = self._mapping.pullback(self._beta, self._x(), self._receive(d_theta - d_theta.mean()))
            d_phi = self._circuit.pullback(self._d_probabilities(d_x))
            return np.concatenate([d_phi, d_beta.double().cpu().numpy()])

    def initial(self, rng: np.random.Generator) -> Theta:
        """Draw angles uniform in (−π, π), then beta as PyTorch's ``nn.Linear`` would."""
        phi = initial_phi(self._circuit.ansatz.num_angles, rng)
        return joined(phi, mlp.initial_parameters(self._mapping.sizes, rng))

    def concentration(self) -> Concentration:
        """Return how far all 2^n probabilities of the last call were spread; two numbers leave the device."""
        return self._circuit.concentration()

    def _x(self) -> torch.Tensor:
        """Return the features, shape (k,): ``Feature.forward``, in place as far as may be."""
        x = (self._probabilities * self._scale).tanh_().mul_(self._feature.b)
        if self._feature.c != 1.0:
            x.pow_(self._feature.c)
        return x.sub_(x.mean(dtype=torch.float64))

    def _d_probabilities(self, d_x: torch.Tensor) -> torch.Tensor:
        """Return ∂J/∂p, shape (k,), from ∂J/∂x, which it overwrites: ``Feature.pullback``."""
        t = (self._probabilities * self._scale).tanh_()
        d_y = d_x.sub_(d_x.mean(dtype=torch.float64))
        if self._feature.c != 1.0:
            d_y.mul_((self._feature.b * t).pow_(self._feature.c - 1.0)).mul_(self._feature.c)
        return d_y.mul_(t.square_().neg_().add_(1.0)).mul_(self._feature.b * self._scale)

    def _receive(self, values: NDArray[np.float64]) -> torch.Tensor:
        """Return host values on the device, in its precision; a copy, for the caller may change its own."""
        return torch.tensor(values, dtype=self._dtype, device=self._device)

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        """Count the seconds until the device is done."""
        with self._stopwatch(phase):
            yield
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)


def choose_device(name: str, node_rank: int) -> torch.device:
    """Return the device of one rank: the CPU, or the GPU whose number is the rank's on its node, modulo their number.

    Args:
        name: cpu or cuda.
        node_rank: the rank's number among those of its node.

    Raises:
        UserError: torch finds no GPU.
    """
    if name == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise UserError(
            f"--device: got 'cuda', expected cpu, for torch {torch.__version__} finds no GPU (it takes torch built "
            "for CUDA, an NVIDIA driver, and a device in CUDA_VISIBLE_DEVICES)"
        )
    return torch.device("cuda", node_rank % count)


def free_memory(device: torch.device) -> int:
    """Return the bytes that are free on a GPU."""
    return torch.cuda.mem_get_info(device)[0]


def device_name(device: torch.device) -> str:
    """Return a device's name for people: cpu, or cuda:0, NVIDIA ….

    Args:
        device: of ``choose_device``.
    """
    return f"{device}, {torch.cuda.get_device_name(device)}" if device.type == "cuda" else str(device)


def memory_needed(num_qubits: int, precision: str) -> int:
    """Return about how many bytes a generator takes on its device, but for the chunks of the mapping model.

    Args:
        num_qubits: n.
        precision: double or single.
    """
    return STATEVECTORS * COMPLEX[precision].itemsize << num_qubits
