"""The classical policy that theta is read as: its sizes, its layers, its action probabilities."""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc import mlp, registry
from qtrl_hpc.errors import ReturnedError

MLP = "mlp"
ACTIVATIONS = ("relu", "tanh")


@dataclass(frozen=True, kw_only=True)
class PolicySpec:
    """Say how to read theta and how to feed it: all that inference needs beside theta itself.

    θ = fc1.weight row-major, fc1.bias, fc2.weight, … ; π(a|s) = softmax(W2·act(W1·obs + b1) + b2).
    """

    obs_shape: tuple[int, ...]
    """Shape of one observation; it is flattened row-major."""

    hidden_sizes: tuple[int, ...]
    """Hidden layers of the policy."""

    num_actions: int
    """Actions 0 … num_actions-1 are used."""

    activation: mlp.Activation
    """Between the layers: relu or tanh."""

    observation_key: str | None
    """The entry of a dictionary observation that is used; None where the observation is an array."""

    observation_scale: float
    """The flattened observation is multiplied by this."""

    max_episode_steps: int = 10_000
    """An episode that has not ended by itself is cut after so many steps."""

    network: str = MLP
    """mlp: the layers above; MODULE:OBJECT: a network of the user's own (``qtrl_hpc.policy_network``)."""

    network_parameters: int | None = None
    """k of a network of the user's own, whose parameters theta is, in their order; None for mlp."""

    def __post_init__(self) -> None:
        for sizes in (self.obs_shape, self.hidden_sizes, (self.num_actions, self.max_episode_steps)):
            if not isinstance(sizes, tuple) or not all(type(size) is int and size > 0 for size in sizes):
                raise ValueError(f"policy sizes: got {sizes!r}, expected whole numbers of at least 1")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"policy activation: got {self.activation!r}, expected one of {', '.join(ACTIVATIONS)}")
        if not (isinstance(self.observation_scale, int | float) and np.isfinite(self.observation_scale)):
            raise ValueError(f"observation_scale: got {self.observation_scale!r}, expected a finite number")
        if not (self.observation_key is None or isinstance(self.observation_key, str)):
            raise ValueError(f"observation_key: got {self.observation_key!r}, expected a name or null")
        registry.check_name(self.network, (MLP,))
        count = self.network_parameters
        if (self.network == MLP) != (count is None) or not (count is None or (type(count) is int and count > 0)):
            raise ValueError(f"network_parameters: got {count!r} with the network {self.network!r}")

    @property
    def obs_size(self) -> int:
        """Return how many numbers one observation has."""
        return math.prod(self.obs_shape)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return the layer sizes of an mlp, observation first, actions last."""
        return (self.obs_size, *self.hidden_sizes, self.num_actions)

    @property
    def num_parameters(self) -> int:
        """Return k, the length of theta."""
        return mlp.num_parameters(self.sizes) if self.network_parameters is None else self.network_parameters

    @property
    def shape(self) -> str:
        """Return the layer sizes, or the network, for people."""
        return "-".join(map(str, self.sizes)) if self.network == MLP else self.network

    def to_json(self) -> str:
        """Return the JSON that policy files hold; of an mlp, that of files from before there were other networks."""
        values = asdict(self)
        if self.network == MLP:
            del values["network"], values["network_parameters"]
        return json.dumps(values, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "PolicySpec":
        """Read what ``to_json`` wrote.

        Raises:
            ValueError: it is not such JSON, or a value in it makes no sense.
        """
        try:
            values = json.loads(text)
            fields: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
            }
            return cls(**fields)
        except (TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"policy_spec: got {text[:80]!r}, expected an object of PolicySpec's fields") from error


def flatten_observation(obs: object, spec: PolicySpec) -> NDArray[np.float64]:
    """Return one observation as the numbers that the policy reads, shape (obs_size,), float64."""
    flat = np.empty(spec.obs_size)
    write_observation(obs, spec, flat)
    return flat


def write_observation(obs: object, spec: PolicySpec, out: NDArray[np.float64]) -> None:
    """Write one observation to ``out``, shape (obs_size,), float64, flattened row-major and scaled.

    Raises:
        ReturnedError: it is none of that size.
    """
    try:
        if spec.observation_key is not None:
            obs = obs[spec.observation_key]  # type: ignore[index]
        # Where sizes differ this raises, while assigning alone might repeat a number.
        out[:] = np.asarray(obs).reshape(out.shape)
    except (TypeError, ValueError, LookupError):
        raise ReturnedError(f"expected observations {observed(spec)}, got {registry.described(obs)}") from None
    if spec.observation_scale != 1.0:
        out *= spec.observation_scale


def observed(spec: PolicySpec) -> str:
    """Return what observations must be, for messages."""
    under = "" if spec.observation_key is None else f" in a dictionary, under {spec.observation_key!r}"
    return f"of shape {spec.obs_shape}{under}"


def policy_layers(theta: NDArray[np.float64], spec: PolicySpec) -> mlp.Layers:
    """Return theta of an mlp, shape (k,), as (weight, bias) views, one pair a layer."""
    return mlp.split_parameters(theta, spec.sizes)


def log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log π over the last axis, without overflow."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    logs: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return logs
