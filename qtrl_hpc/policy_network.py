"""Policy networks of the user's own: ``PolicySpec`` -> a torch module whose parameters theta is.

The module takes flattened and scaled observations, shape (batch, obs_size), float64, and returns logits, shape (batch,
actions). It is used in evaluation mode, so that dropout is off and running statistics stay as they are made.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from qtrl_hpc import registry
from qtrl_hpc.errors import ReturnedError
from qtrl_hpc.policy import MLP, PolicySpec

EXPECTED = "a function of the PolicySpec that returns a torch.nn.Module from observations to logits"


def build(spec: PolicySpec, seed: int = 0) -> torch.nn.Module:
    """Return the network that a spec names, which is imported. Buffers and first parameters hang on the seed alone.

    Args:
        spec: of the policy; ``network`` is MODULE:OBJECT.
        seed: of torch while it is made.

    Raises:
        ValueError: it cannot be imported or made, or does not turn observations into logits.
    """
    make: Callable[..., object] = registry.resolve(spec.network, {}, EXPECTED)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = registry.made(EXPECTED, lambda: make(spec))
    if not isinstance(module, torch.nn.Module):
        raise ValueError(f"expected {EXPECTED}, got {registry.kind_of(module)}")
    module = module.double().eval()
    if not any(parameter.numel() for parameter in module.parameters()):
        raise ValueError(f"expected {EXPECTED}: it has no parameters")
    for batch in (1, 2):
        _check_logits(module, torch.zeros(batch, spec.obs_size, dtype=torch.float64), spec.num_actions)
    return module


def _check_logits(module: torch.nn.Module, observations: torch.Tensor, num_actions: int) -> None:
    with torch.inference_mode():
        logits = registry.made(EXPECTED, lambda: module(observations))
    try:
        check_logits(logits, (len(observations), num_actions))
    except ReturnedError as error:
        raise ValueError(f"{error} from observations of {tuple(observations.shape)}") from None


def check_logits(found: object, shape: tuple[int, int]) -> None:
    """Refuse what are no logits of this shape: of more actions, one that there is not could be drawn.

    Raises:
        ReturnedError: saying what it is.
    """
    expected = f"expected a network that returns torch.float64 of {shape}"
    if not isinstance(found, torch.Tensor):
        raise ReturnedError(f"{expected}, got {registry.described(found)}")
    if found.shape != shape or found.dtype != torch.float64:
        raise ReturnedError(f"{expected}, got {found.dtype} of {tuple(found.shape)}")


def with_network(spec: PolicySpec, name: str) -> PolicySpec:
    """Return the spec of a policy with a network of the user's own, whose parameters are counted.

    Raises:
        ValueError: see ``build``.
    """
    if name == MLP:
        return spec
    named = replace(spec, network=name, network_parameters=1)
    return replace(named, network_parameters=sum(each.numel() for each in build(named).parameters()))


def initial_parameters(spec: PolicySpec, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a theta as the network's own layers start, shape (k,), float64."""
    module = build(spec, int(rng.integers(2**63)))
    return torch.nn.utils.parameters_to_vector(module.parameters()).detach().numpy()


def with_theta(spec: PolicySpec, theta: NDArray[np.float64]) -> torch.nn.Module:
    """Return the network with theta as its parameters.

    Raises:
        ValueError: it has another number of them; or see ``build``.
    """
    module = build(spec)
    count = sum(each.numel() for each in module.parameters())
    if count != len(theta):
        raise ValueError(f"expected a network of {len(theta)} parameters, got one of {count}")
    with torch.no_grad():
        torch.nn.utils.vector_to_parameters(torch.tensor(theta, dtype=torch.float64), module.parameters())
    return module
