"""A policy as an ONNX model, and the proof that it is the same policy.

The graph takes observations as the environment gives them and does what ``inference.Policy`` does, in float64.
"""

import logging
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qtrl_hpc import onnx_format
from qtrl_hpc.extras import require
from qtrl_hpc.inference import Policy, parameter_shapes
from qtrl_hpc.policy import PolicySpec

TOLERANCE = 1e-6
"""The largest difference of a probability between the model and the policy."""

LIBRARIES = ("onnx", "onnxruntime", "onnxscript")
_OPSET = 18
_LAYERS = "layers."


class VerificationError(Exception):
    """The model is not the policy that it was made from. Exit code 1."""


def require_onnx(what: str) -> None:
    """Refuse where the extra is missing.

    Args:
        what: needs it, for the refusal.

    Raises:
        UserError: saying what to install.
    """
    require(what, "onnx", *LIBRARIES)


class _FromObservations(torch.nn.Module):
    """Observations, shape ``(batch, *obs_shape)``, to logits and probabilities, both (batch, actions) in float64."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.layers = policy.layers
        self.scale = float(policy.spec.observation_scale)

    def forward(self, observation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = observation.to(torch.float64).flatten(1)
        logits = self.layers(features if self.scale == 1.0 else features * self.scale)
        return logits, torch.softmax(logits, dim=-1)


def to_onnx(policy: Policy) -> Any:
    """Return a policy as an ``onnx.ModelProto`` whose initializers bear the names of ``parameter_shapes``.

    Input ``observation``: float32, shape ``(batch, *obs_shape)``, any batch. Outputs ``logits`` and ``probabilities``:
    float64, shape (batch, actions).
    """
    example = torch.zeros(2, *policy.spec.obs_shape, dtype=torch.float32)
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns of what is not installed and not needed
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                _FromObservations(policy.cpu()).eval(),
                (example,),
                dynamo=True,
                verbose=False,
                external_data=False,
                opset_version=_OPSET,
                input_names=["observation"],
                output_names=["logits", "probabilities"],
                dynamic_shapes={"observation": {0: torch.export.Dim("batch")}},
            )
    finally:
        logger.setLevel(level)
    if program is None:
        raise VerificationError("torch made no ONNX model")
    model = program.model_proto
    _forget_the_exporter(model.graph)
    _rename(model.graph)
    return model


def encode(model: Any, texts: dict[str, str]) -> bytes:
    """Return the bytes of a model with these texts as its ``metadata_props``."""
    del model.metadata_props[:]
    for name, text in texts.items():
        model.metadata_props.add(key=name, value=text)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def verify(content: bytes, policy: Policy, observations: NDArray[np.float32]) -> float:
    """Run a model under onnxruntime, and read its weights.

    Args:
        content: the model's bytes.
        policy: that it was made from.
        observations: to run both on, shape ``(batch, *obs_shape)``, float32.

    Returns:
        The largest difference of a probability.

    Raises:
        VerificationError: it is more than ``TOLERANCE``, or the weights are not the policy's, bit for bit.
    """
    import onnxruntime

    _, arrays = onnx_format.decode(content)
    for name in parameter_shapes(policy):
        weights = policy.layers.get_parameter(name).detach().cpu().numpy()
        if name not in arrays or arrays[name].tobytes() != weights.tobytes():
            raise VerificationError(f"the ONNX model has other weights {name} than the policy")
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    logits, found = session.run(["logits", "probabilities"], {"observation": observations})
    expected = policy.probabilities(observations.astype(np.float64))
    difference = float(np.abs(found - expected).max())
    if not difference <= TOLERANCE or not np.isfinite(logits).all():
        raise VerificationError(
            f"the ONNX model's probabilities differ by {difference:.2g} from the policy's, at most {TOLERANCE:g} may be"
        )
    return difference


def random_observations(spec: PolicySpec, count: int = 256) -> NDArray[np.float32]:
    """Return numbers such as environments give, ``(2·count, *obs_shape)``: normal ones, and whole ones of a byte."""
    rng = np.random.default_rng(0)
    normal = rng.normal(size=(count, *spec.obs_shape)).astype(np.float32)
    return np.concatenate([normal, rng.integers(0, 256, size=normal.shape).astype(np.float32)])


def _rename(graph: Any) -> None:
    """Give the initializers the names of ``policy.layers``, without the module that they were exported in."""
    for array in graph.initializer:
        if array.name.startswith(_LAYERS):
            old, array.name = array.name, array.name.removeprefix(_LAYERS)
            for node in graph.node:
                node.input[:] = [array.name if name == old else name for name in node.input]


def _forget_the_exporter(graph: Any) -> None:
    """Drop notes on how torch got here, which name folders of this machine."""
    for kept in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del kept.metadata_props[:]
    del graph.value_info[:]
