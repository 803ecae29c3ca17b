"""The circuit on torch, on a CPU or a GPU: a few matrix products forwards, and the adjoint sweep backwards.

The ring is a chain: gate i = 0 … nL−1 has control i mod n and target (i+1) mod n. Each U3 is merged into the
controlled-U3 on its qubit, and ``GATES`` successive gates are one matrix U on a window of ``GATES`` + 1 neighbouring
qubits. A state lies in memory with the window's qubits first: ψ is X of shape (window, rest), and the product with U is
written so that the next window's qubits come first in turn. So every window is the same product of matrices, the one
that closes the ring too, and torch launches one kernel for it.

The matrices U are small: they are made, and differentiated by autograd, on the host in complex128. On the device remain
the states alone, whose sweep gives ∂J/∂U of every window. The derivation is in docs/method.md.
"""

from functools import reduce

import numpy as np
import torch
from numpy.typing import NDArray

from qtrl_hpc.concentration import Concentration
from qtrl_hpc.quantum.ansatz import Ansatz

# Gates a window. More gates mean fewer passes over memory, but twice the arithmetic each: 3 is best on a CPU.
GATES = 3
# Overlaps are added up in the state's precision over so many amplitudes, from there on in complex128.
PARTIAL_SUM = 4096


class TorchCircuit:
    """Run the ansatz, and pull a cotangent of its probabilities back to its angles.

    Memory, in statevectors: one is kept between calls, ``probabilities`` takes two at most, ``pullback`` four.

    Args:
        ansatz: the paper's ring (``Ansatz.is_ring``).
        device: where the statevector lives.
        dtype: complex128 or complex64.
    """

    def __init__(self, ansatz: Ansatz, device: torch.device, dtype: torch.dtype) -> None:
        self.ansatz = ansatz
        self._device, self._dtype = device, dtype
        # A ring has two qubits at least. The circuit of one qubit gets a second one, which stays |0⟩.
        self._num_qubits = max(2, ansatz.num_qubits)
        self._state = torch.zeros(0, dtype=dtype, device=device)

    def probabilities(self, phi: NDArray[np.float64]) -> torch.Tensor:
        """Run the circuit once, and keep its state for ``pullback``.

        Args:
            phi: angles in circuit order, radians, shape (P,), float64.

        Returns:
            ``p_i = |⟨i|ψ(phi)⟩|²``, shape (2^n,), real, on the device; index = Qiskit's, qubit 0 least significant.
        """
        # As long as the kept state is not needed any more, it need not lie beside the new ones.
        self._state = torch.zeros(0, dtype=self._dtype, device=self._device)
        self._phi = torch.tensor(phi, dtype=torch.float64, requires_grad=True)
        self._windows = windows(self._phi, self.ansatz)
        self._on_device = self._send(self._windows)
        state = torch.tensor([1, 0], dtype=self._dtype, device=self._device)  # |0⟩ of qubit 0
        for window in self._on_device:
            # new[s, m, r] = Σ_c X[c, m]·U[(r, s), c], the qubit s of the next window first
            state = torch.matmul(state.view(window.shape[1], -1).T, window).view(-1)
        self._state = state
        return self._to_qiskit(squared(state))[: self.ansatz.num_amplitudes]

    def concentration(self) -> Concentration:
        """Return how far the probabilities of the last run are spread."""
        return concentration_of(self._state)

    def pullback(self, cotangent: torch.Tensor) -> NDArray[np.float64]:
        """Return Σ_i g_i ∂p_i/∂φ at the last run.

        With μ = conj(λ) = g·conj(ψ), dJ = 2·Re Σ R·dU of each window, R[s, c, r] = Σ_m ψ_before[c, m]·μ_after[s, m, r].
        U† undoes ψ and U^T undoes μ.

        Args:
            cotangent: g = ∂J/∂p of the first states, shape (at most 2^n,), real, on the device, in Qiskit's order.

        Returns:
            ∂J/∂φ in circuit order, shape (P,), float64.
        """
        state, mu = self._state, self._state.conj_physical().mul_(self._from_qiskit(cotangent))
        overlaps = []
        for window in reversed(self._on_device):
            undo, half = window.conj().resolve_conj(), window.shape[2]
            after = state.view(2, -1, half)
            state = (undo[0] @ after[0].T).addmm_(undo[1], after[1].T)
            del after  # so that no more than four states are ever there
            after = mu.view(2, -1, half)
            # Autograd's gradient of a real J with respect to a complex U is ∂J/∂Re U + i·∂J/∂Im U = 2·conj(R).
            overlaps.append(2.0 * torch.stack([_overlap(state, after[0]), _overlap(state, after[1])]).conj().view(-1))
            mu = (window[0] @ after[0].T).addmm_(window[1], after[1].T)
        received = torch.cat(overlaps[::-1]).cpu().split([window.numel() for window in self._windows])
        d_windows = [part.view(window.shape) for part, window in zip(received, self._windows, strict=True)]
        (d_phi,) = torch.autograd.grad(self._windows, self._phi, d_windows, retain_graph=True)
        return d_phi.numpy()

    def _send(self, matrices: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return small matrices on the device, sent as one piece."""
        flat = torch.cat([matrix.detach().reshape(-1) for matrix in matrices]).to(self._device, self._dtype)
        parts = flat.split([matrix.numel() for matrix in matrices])
        return [part.view(matrix.shape) for part, matrix in zip(parts, matrices, strict=True)]

    # After the last window qubit e comes first in memory, then e+1, …, n−1, 0, …, e−1. Qiskit's order begins with n−1.
    # So the two groups of bits, e … n−1 and 0 … e−1, are each reversed.

    def _to_qiskit(self, values: torch.Tensor) -> torch.Tensor:
        high, low = self._halves()
        return _reverse_bits(values, (*high, *low))

    def _from_qiskit(self, values: torch.Tensor) -> torch.Tensor:
        """Return all 2^n values in the order of the state, those beyond the given ones zero."""
        padded = torch.nn.functional.pad(values, (0, (1 << self._num_qubits) - len(values)))
        high, low = self._halves()
        return _reverse_bits(padded, (*high[::-1], *low[::-1]))

    def _halves(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return how many bits each group has, each group in halves."""
        first = len(self._windows) * _gates_a_window(self._num_qubits) % self._num_qubits
        high, low = self._num_qubits - first, first
        return (high // 2, high - high // 2), (low // 2, low - low // 2)


def concentration_of(state: torch.Tensor) -> Concentration:
    """Return how far ``|ψ_i|²`` are spread, which their order does not change; two numbers leave the device.

    They are computed anew from the state, which is kept, rather than kept beside it.
    """
    p = squared(state)
    sums = torch.stack([torch.special.entr(p).sum(dtype=torch.float64), p.square_().sum(dtype=torch.float64)])
    entropy, square = sums.tolist()
    return Concentration(entropy=entropy, participation_ratio=1.0 / square)


def squared(state: torch.Tensor) -> torch.Tensor:
    """Return ``|ψ_i|²``, real, in the state's own order."""
    return state.real.square().addcmul_(state.imag, state.imag)


def windows(phi: torch.Tensor, ansatz: Ansatz) -> list[torch.Tensor]:
    """Return the matrix of each window, as the products read it.

    Args:
        phi: angles in circuit order, radians, shape (P,), float64, on the CPU.
        ansatz: which gates act where.

    Returns:
        U as [s, c, r], shape (2, C, K/2) each, complex128, with K = 2^(gates + 1). The window's first control is the
        most significant bit of rows and columns; rows of U are (r, s), s being the bit of the last target. C < K in the
        first windows: only the columns where qubits that no gate has touched yet are 0.
    """
    gates = _merged_gates(phi, ansatz)
    num_qubits = max(2, ansatz.num_qubits)
    width = _gates_a_window(num_qubits)
    count, size = -(-len(gates) // width), 1 << (width + 1)
    identity = torch.eye(4, dtype=gates.dtype).expand(count * width - len(gates), 4, 4)
    padded = torch.cat([gates, identity]).view(count, width, 1, 4, 4)
    U = torch.eye(size, dtype=gates.dtype).expand(count, size, size)
    for j in range(width):  # gate j acts on the bits j and j + 1 of the rows
        U = (padded[:, j] @ U.reshape(count, 1 << j, 4, -1)).reshape(count, size, size)
    found, known = [], 1
    for matrix in U.view(count, size // 2, 2, size).permute(0, 2, 3, 1).unbind():
        fresh = min(width, num_qubits - known)
        known += fresh
        found.append(matrix.reshape(2, 2, 1 << fresh, -1, size // 2)[:, :, 0].reshape(2, -1, size // 2))
    return found


def _gates_a_window(num_qubits: int) -> int:
    return min(GATES, num_qubits - 1)


def _merged_gates(phi: torch.Tensor, ansatz: Ansatz) -> torch.Tensor:
    """Return the ring's nL gates with the U3s merged in, shape (nL, 4, 4), complex128; an index is 2·control + target.

    U3 on qubit q+1 and the controlled-U3 q → q+1 after it are one gate; so are the controlled-U3 n−1 → 0 and the next
    layer's U3 on qubit 0. The first layer's U3 on qubit 0 goes into the first gate.
    """
    n, layers = ansatz.num_qubits, ansatz.num_layers
    u3 = u3_matrices(phi)
    one = torch.eye(2, dtype=u3.dtype)
    if n == 1:
        return torch.kron(reduce(lambda total, gate: gate @ total, u3), one)[None]
    single, controlled = u3.view(layers, 2, n, 2, 2).unbind(dim=1)
    before = torch.cat([single[:, 1:], one.expand(layers, 1, 2, 2)], dim=1)
    closing = torch.cat([single[1:, :1], one.expand(1, 1, 2, 2)])
    after = torch.cat([one.expand(layers, n - 1, 2, 2), closing], dim=1)
    if_zero, if_one = after @ before, after @ controlled @ before
    zero = torch.zeros_like(if_zero)
    rows = [torch.cat([if_zero, zero], dim=-1), torch.cat([zero, if_one], dim=-1)]
    gates = torch.cat(rows, dim=-2).view(-1, 4, 4)
    return torch.cat([gates[:1] @ torch.kron(single[0, 0], one), gates[1:]])


def u3_matrices(phi: torch.Tensor) -> torch.Tensor:
    """Return the 2×2 matrix of every gate, shape (P/3, 2, 2), complex128, differentiable."""
    theta, phase, lam = phi.view(-1, 3).unbind(dim=-1)
    cos, sin = torch.cos(theta / 2), torch.sin(theta / 2)
    entries = [
        torch.complex(cos, torch.zeros_like(cos)),
        -sin * torch.exp(1j * lam),
        sin * torch.exp(1j * phase),
        cos * torch.exp(1j * (phase + lam)),
    ]
    return torch.stack(entries, dim=-1).view(-1, 2, 2)


def _overlap(state: torch.Tensor, mu: torch.Tensor) -> torch.Tensor:
    """Return Σ_m ψ[c, m]·μ[m, r], shape (C, K/2), complex128, from shapes (C, M) and (M, K/2)."""
    parts = max(1, len(mu) // PARTIAL_SUM)
    pieces = torch.bmm(state.view(len(state), parts, -1).transpose(0, 1), mu.view(parts, -1, mu.shape[1]))
    return pieces.sum(dim=0, dtype=torch.complex128)


def _reverse_bits(values: torch.Tensor, sizes: tuple[int, int, int, int]) -> torch.Tensor:
    """Reverse the bits of an index in two groups, the first ``sizes[0] + sizes[1]`` and the others.

    Each group is taken in two halves, so that tables of 2^(n/2) entries do. The inverse has each group's sizes swapped.

    Args:
        values: shape (2^n,).
        sizes: numbers of bits, most significant first, adding up to n.
    """
    values = values.view([1 << size for size in sizes]).permute(1, 0, 3, 2)
    for axis, size in enumerate((sizes[1], sizes[0], sizes[3], sizes[2])):
        if size > 1:
            values = values.index_select(axis, _reversed_numbers(size, values.device))
    return values.reshape(-1)


def _reversed_numbers(size: int, device: torch.device) -> torch.Tensor:
    """Return the numbers 0 … 2^size − 1 with their bits reversed, shape (2^size,), int64."""
    numbers = torch.arange(1 << size, device=device)
    return sum((((numbers >> bit) & 1) << (size - 1 - bit) for bit in range(size)), torch.zeros_like(numbers))
