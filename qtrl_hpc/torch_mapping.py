"""The mapping model M_beta on torch: as ``qtrl_hpc.mapping``, with the activations of a chunk of rows at a time."""

from functools import reduce
from typing import Any

import torch

from qtrl_hpc import mlp

# What the activations of a chunk may take, with what autograd keeps of them: about a CPU's cache, a little of a GPU's
# memory.
CHUNK_BYTES = {"cpu": 8 << 20, "cuda": 256 << 20}


class TorchMapping:
    """An MLP on the rows [the n bits of i as ±1, most significant first; x_i], i = 0 … k−1.

    Rows go through in chunks of 2^c, so that the low c bits are the same in all chunks and the others are constant in
    each: the first layer is base[i mod 2^c] + shift[i div 2^c] + slope·x_i, and the bits of all k rows are never there
    at once. ``pullback`` computes each chunk again. With activation none the layers are first multiplied into one.

    Args:
        num_qubits: n.
        num_rows: k, how many basis states are used.
        hidden_sizes: of the hidden layers.
        activation: between the layers: none, tanh or relu.
        device: where rows and activations live.
        dtype: float64 or float32.
        chunk_bytes: what the activations of a chunk may take.
    """

    def __init__(
        self,
        *,
        num_qubits: int,
        num_rows: int,
        hidden_sizes: tuple[int, ...],
        activation: mlp.Activation,
        device: torch.device,
        dtype: torch.dtype,
        chunk_bytes: int | None = None,
    ) -> None:
        self.num_rows = num_rows
        self.sizes = (num_qubits + 1, *hidden_sizes, 1)
        self._activation, self._device, self._dtype = activation, device, dtype
        # A row has its bits and, of each unit, the sum, the activation, and the gradients of both.
        row_bytes = dtype.itemsize * (num_qubits + 4 * sum(self.sizes[1:]))
        rows = max(1, (chunk_bytes or CHUNK_BYTES[device.type]) // row_bytes)
        self._low = min(num_qubits, rows.bit_length() - 1)
        self._chunks = [
            slice(start, min(start + (1 << self._low), num_rows)) for start in range(0, num_rows, 1 << self._low)
        ]
        self._low_bits = _signs(min(num_rows, 1 << self._low), self._low, device, dtype)
        self._high_bits = _signs(len(self._chunks), num_qubits - self._low, device, dtype)

    @torch.no_grad()
    def forward(self, beta: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Return M_beta of every row.

        Args:
            beta: layer by layer, weight row-major then bias, shape (l,), on the device.
            x: the feature of each basis state, shape (k,), on the device.

        Returns:
            Shape (k,), on the device.
        """
        shift, *shared = self._layers(beta)
        output = torch.empty_like(x)
        for j, rows in enumerate(self._chunks):
            output[rows] = self._chunk(shared, shift[j], x[rows])
        return output

    def pullback(
        self, beta: torch.Tensor, x: torch.Tensor, cotangent: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the gradients with respect to beta and to x.

        Args:
            beta: as given to ``forward``, shape (l,).
            x: as given to ``forward``, shape (k,).
            cotangent: ∂J/∂output, shape (k,).

        Returns:
            ∂J/∂beta, shape (l,), and ∂J/∂x, shape (k,), on the device.
        """
        beta = beta.detach().requires_grad_()
        shift, *shared = self._layers(beta)
        leaves = _leaves(shared)
        d_shift, d_x = torch.zeros_like(shift), torch.empty_like(x)
        d_shared = [torch.zeros_like(leaf) for leaf in leaves]
        for j, rows in enumerate(self._chunks):
            own = _leaves([shift[j], x[rows]])
            output = self._chunk(leaves, *own)
            *parts, d_shift[j], d_x[rows] = torch.autograd.grad(output, [*leaves, *own], cotangent[rows])
            for total, part in zip(d_shared, parts, strict=True):
                total += part
        (d_beta,) = torch.autograd.grad([shift, *shared], beta, [d_shift, *d_shared])
        return d_beta, d_x

    def _layers(self, beta: torch.Tensor) -> list[torch.Tensor]:
        """Return shift (chunks, h), base (2^c, h) and slope (h,) of the first layer; weight, bias of each other one."""
        layers: Any = mlp.split_parameters(beta, self.sizes)  # type: ignore[arg-type]  # it but slices and reshapes
        if self._activation == "none":
            layers = [reduce(lambda a, b: (b[0] @ a[0], b[0] @ a[1] + b[1]), layers)]
        (weight, bias), *rest = layers
        high, low, slope = weight.split([self._high_bits.shape[1], self._low, 1], dim=1)
        base = torch.addmm(bias, self._low_bits, low.T)
        return [self._high_bits @ high.T, base, slope[:, 0], *(tensor for layer in rest for tensor in layer)]

    def _chunk(self, shared: list[torch.Tensor], shift: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Return the output of a chunk's rows."""
        base, slope, *rest = shared
        values = torch.addcmul(base[: len(x)] + shift, x[:, None], slope)
        for weight, bias in zip(rest[::2], rest[1::2], strict=True):
            values = torch.tanh(values) if self._activation == "tanh" else torch.relu(values)
            values = torch.addmm(bias, values, weight.T)
        return values[:, 0]


def _leaves(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    return [tensor.detach().requires_grad_() for tensor in tensors]


def _signs(count: int, num_bits: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Return the bits of 0 … count − 1 as ±1, most significant first, shape (count, num_bits)."""
    numbers = torch.arange(count, device=device)[:, None]
    return ((numbers >> torch.arange(num_bits - 1, -1, -1, device=device)) & 1).to(dtype) * 2 - 1
