"""Any ansatz on torch, gate by gate, on a CPU or a GPU (the paper's ring: ``torch_circuit``, which is faster)."""

import numpy as np
import torch
from numpy.typing import NDArray

from qtrl_hpc.concentration import Concentration
from qtrl_hpc.quantum.ansatz import Ansatz
from qtrl_hpc.quantum.gates import UNCONTROLLED
from qtrl_hpc.quantum.torch_circuit import TorchCircuit, concentration_of, squared, u3_matrices


class TorchGates:
    """Run the ansatz, and pull a cotangent of its probabilities back to its angles.

    The gates' 2×2 matrices are made, and differentiated by autograd, on the host in complex128; on the device remain
    the states, whose backward sweep gives ∂J/∂U of every gate. Memory, in statevectors: one is kept between calls,
    ``pullback`` takes four at most.

    Args:
        ansatz: which gates act where.
        device: where the statevector lives.
        dtype: complex128 or complex64.
    """

    def __init__(self, ansatz: Ansatz, device: torch.device, dtype: torch.dtype) -> None:
        self.ansatz, self._device, self._dtype = ansatz, device, dtype
        self._places = list(zip(ansatz.targets.tolist(), ansatz.controls.tolist(), strict=True))
        is_trained = torch.from_numpy(ansatz.trained >= 0)
        self._is_trained, self._fixed = is_trained, torch.from_numpy(ansatz.fixed)
        self._numbers = torch.from_numpy(ansatz.trained).clamp(min=0)

    def probabilities(self, phi: NDArray[np.float64]) -> torch.Tensor:
        """Run the circuit once, and keep its state for ``pullback`` (see ``TorchCircuit.probabilities``)."""
        self._phi = torch.tensor(phi, dtype=torch.float64, requires_grad=True)
        self._matrices = u3_matrices(torch.where(self._is_trained, self._phi[self._numbers], self._fixed))
        self._entries = self._matrices.detach().view(-1, 4).tolist()
        state = torch.zeros(self.ansatz.num_amplitudes, dtype=self._dtype, device=self._device)
        state[0] = 1.0
        for (target, control), entries in zip(self._places, self._entries, strict=True):
            _apply(entries, *_halves(state, target, control))
        self._state = state
        return squared(state)

    def concentration(self) -> Concentration:
        """Return how far the probabilities of the last run are spread."""
        return concentration_of(self._state)

    def pullback(self, cotangent: torch.Tensor) -> NDArray[np.float64]:
        """Return Σ_i g_i ∂p_i/∂φ at the last run.

        With λ = g·ψ, dJ = 2·Re Σ W_ab·dU_ab of each gate, W_ab = Σ conj(λ_a)·ψ_b with λ after the gate and ψ before it.

        Args:
            cotangent: g = ∂J/∂p of the first states, shape (at most 2^n,), real, on the device, in Qiskit's order.

        Returns:
            ∂J/∂φ, shape (P,), float64.
        """
        state, lam = self._state.clone(), torch.zeros_like(self._state)
        lam[: len(cotangent)] = state[: len(cotangent)] * cotangent
        overlaps = []
        for (target, control), (u00, u01, u10, u11) in zip(
            reversed(self._places), reversed(self._entries), strict=True
        ):
            inverse = [u00.conjugate(), u10.conjugate(), u01.conjugate(), u11.conjugate()]
            before, after = _halves(state, target, control), _halves(lam, target, control)
            _apply(inverse, *before)
            overlaps += [_overlap(a, b) for a in after for b in before]
            _apply(inverse, *after)
        W = torch.stack(overlaps).cpu().view(-1, 2, 2).flip(0)
        # Autograd's gradient of a real J with respect to a complex U is ∂J/∂Re U + i·∂J/∂Im U = 2·conj(W).
        (d_phi,) = torch.autograd.grad(self._matrices, self._phi, 2.0 * W.conj(), retain_graph=True)
        return d_phi.numpy()


def make_torch_circuit(ansatz: Ansatz, device: torch.device, dtype: torch.dtype) -> TorchCircuit | TorchGates:
    """Return what runs an ansatz on torch: by windows of gates where it is the paper's ring, else gate by gate."""
    return TorchCircuit(ansatz, device, dtype) if ansatz.is_ring else TorchGates(ansatz, device, dtype)


def _halves(state: torch.Tensor, target: int, control: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return views of the amplitudes whose target is 0, and 1; with a control, of those alone whose control is 1."""
    if control == UNCONTROLLED:
        return state.view(-1, 2, 1 << target).unbind(dim=1)  # type: ignore[return-value]
    low, high = sorted((target, control))
    bits = state.view(-1, 2, 1 << (high - low - 1), 2, 1 << low)
    of_target, of_control = (1, 3) if target == high else (3, 1)
    on = bits.select(of_control, 1)
    axis = of_target - (of_target > of_control)
    return on.select(axis, 0), on.select(axis, 1)


def _apply(entries: list[complex], x: torch.Tensor, y: torch.Tensor) -> None:
    """Multiply pairs of amplitudes by the matrix (u00, u01, u10, u11), in place."""
    u00, u01, u10, u11 = entries
    new_x = (u00 * x).add_(y, alpha=u01)
    y.mul_(u11).add_(x, alpha=u10)
    x.copy_(new_x)


def _overlap(lam: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
    """Return Σ conj(λ)·ψ, complex128."""
    return (lam.conj() * state).sum(dtype=torch.complex128)
