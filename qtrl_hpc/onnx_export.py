"""A policy as an ONNX model, and the proof that it is the same policy.

The graph takes observations as the environment gives them and does what ``inference.Policy`` does, in float64.
"""

import io
import logging
import warnings
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qtrl_hpc import onnx_format
from qtrl_hpc.errors import UserError, one_line
from qtrl_hpc.extras import require
from qtrl_hpc.inference import Policy, parameter_shapes
from qtrl_hpc.policy import PolicySpec

TOLERANCE = 1e-6
"""The largest difference of a probability between the model and the policy."""

LIBRARIES = ("onnx", "onnxruntime", "onnxscript")
_OPSET = 18
_LAYERS = "layers."
_FOLDED = "folded."
_ERRORS_ALONE = 3


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

    Raises:
        UserError: torch cannot make a graph of a network of the user's own.
    """
    try:
        model = _traced(policy)
    except Exception as error:  # torch.export's and torch.onnx's own, and whatever the user's module raises
        raise _cannot("torch", "export", policy.spec, error) from error
    _forget_the_exporter(model.graph)
    _rename(model.graph)
    _complete(model.graph, policy)
    return model


def _traced(policy: Policy) -> Any:
    """Return the model as torch makes it."""
    example = torch.zeros(2, *policy.spec.obs_shape, dtype=torch.float32)
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # of what is not installed and not needed, and pages of what is raised as well
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
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
        logging.disable(disabled)
    if program is None:
        raise RuntimeError("torch made no ONNX model")
    return program.model_proto


def _cannot(who: str, what: str, spec: PolicySpec, error: Exception) -> UserError:
    cause = error.__cause__ or error  # torch.onnx's own words are of what to read
    reason = one_line(Exception(str(cause).strip().partition("\n")[0]))[:200]
    return UserError(
        f"--output: got .onnx, expected .h5 or .safetensors: {who} cannot {what} the network {spec.network} as an ONNX "
        f"model in float64 ({type(cause).__name__}: {reason})"
    )


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
        UserError: onnxruntime does not know an operation that a network of the user's own is made of.
    """
    import onnxruntime

    _, arrays = onnx_format.decode(content)
    for name in parameter_shapes(policy):
        weights = policy.layers.get_parameter(name).detach().cpu().numpy()
        if name not in arrays or arrays[name].tobytes() != weights.tobytes():
            raise VerificationError(f"the ONNX model has other weights {name} than the policy")
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _ERRORS_ALONE  # it warns of initializers that no node reads (_complete)
    try:
        session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
        logits, found = session.run(["logits", "probabilities"], {"observation": observations})
    except Exception as error:  # its exceptions have no base of their own
        raise _cannot("onnxruntime", "run", policy.spec, error) from error
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
            _rename_array(graph, array, array.name.removeprefix(_LAYERS))


def _rename_array(graph: Any, array: Any, name: str) -> None:
    old, array.name = array.name, name
    for node in graph.node:
        node.input[:] = [name if each == old else each for each in node.input]


def _complete(graph: Any, policy: Policy) -> None:
    """Have the graph hold each weight as it is under its name, also one that no node reads as it is.

    torch computes beforehand what does not hang on the observation, as it does for a normalisation behind a layer, and
    drops what has no effect; two names of one weight become one.
    """
    import onnx

    held = {array.name: array for array in graph.initializer}
    for name in parameter_shapes(policy):
        weights = policy.layers.get_parameter(name).detach().numpy()
        array = held.get(name)
        if array is not None and onnx.numpy_helper.to_array(array).tobytes() == weights.tobytes():
            continue
        if array is not None:
            _rename_array(graph, array, f"{_FOLDED}{name}")
        graph.initializer.append(onnx.numpy_helper.from_array(weights, name))


def _forget_the_exporter(graph: Any) -> None:
    """Drop notes on how torch got here, which name folders of this machine."""
    for kept in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del kept.metadata_props[:]
    del graph.value_info[:]
