"""Policy files: theta and how to read it, for inference anywhere, as HDF5, safetensors or ONNX."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc import files, hdf5, onnx_format, safetensors_format
from qtrl_hpc.errors import UserError, one_line
from qtrl_hpc.hdf5_headers import SIGNATURE
from qtrl_hpc.policy import PolicySpec

FORMAT = "qtrl_hpc-policy"
FORMAT_VERSION = 1
SUFFIXES = (".h5", ".safetensors", ".onnx")

Shapes = dict[str, tuple[int, ...]]
"""A network's arrays of weights by name, in the order in which theta is read, row-major."""


@dataclass(frozen=True, kw_only=True)
class PolicyFile:
    """What a ``policy.h5`` holds."""

    theta: NDArray[np.float64]
    """Shape (k,), in the order of ``PolicySpec``."""
    spec: PolicySpec
    env_id: str
    """The environment that it was trained in."""
    provenance: dict[str, Any]
    """Where it comes from: configuration, update, digest of Theta, versions."""

    def save(self, path: Path) -> None:
        """Write a ``policy.h5`` atomically (docs/formats.md)."""
        files.replace(path, self.to_hdf5())

    def to_hdf5(self) -> bytes:
        """Return the bytes of a ``policy.h5``."""
        return hdf5.encode(
            format=FORMAT,
            format_version=FORMAT_VERSION,
            attributes=self._attributes(),
            datasets={"/theta": self.theta},
        )

    def to_safetensors(self, shapes: Shapes) -> bytes:
        """Return the bytes of a ``policy.safetensors``, its tensors of these names and shapes."""
        ends = np.cumsum([math.prod(shape) for shape in shapes.values()])
        parts = np.split(self.theta, ends[:-1])
        arrays = {name: part.reshape(shapes[name]) for name, part in zip(shapes, parts, strict=True)}
        return safetensors_format.encode(self.texts(shapes), arrays)

    def texts(self, shapes: Shapes) -> dict[str, str]:
        """Return what a file of named arrays says in words: how to read it, where it comes from, its digest."""
        named = {"format": FORMAT, "format_version": FORMAT_VERSION, **self._attributes()}
        digest = hdf5.content_digest(named, {"/theta": self.theta})
        words = {name: str(value) for name, value in named.items()}
        return {**words, "parameters": json.dumps([*shapes]), "digest": digest}

    def _attributes(self) -> hdf5.Attributes:
        return {
            "policy_spec": self.spec.to_json(),
            "env_id": self.env_id,
            "provenance": json.dumps(self.provenance, sort_keys=True),
        }

    @classmethod
    def load(cls, path: Path) -> "PolicyFile":
        """Read a policy file of any of the three formats, which is told from its first bytes.

        Of an ``.onnx`` file the weights are read; its graph is never run.

        Raises:
            UserError: it is missing, damaged, of another kind or of a newer version; the text names the file.
        """
        content = hdf5.content_of(path, FORMAT, ", as python -m qtrl_hpc.export makes of a run")
        suffix = _suffix_by_content(content, path)
        if suffix == ".h5":
            attributes, data = hdf5.decode(path, content, format=FORMAT, format_version=FORMAT_VERSION)
        else:
            attributes, data = _decode_named(path, content, suffix)
        try:
            spec = PolicySpec.from_json(str(attributes["policy_spec"]))
            theta = data["/theta"]
            if theta.shape != (spec.num_parameters,):
                raise ValueError(f"theta has shape {theta.shape}, its policy_spec needs {spec.num_parameters} numbers")
            if not np.isfinite(theta).all():
                raise ValueError("theta holds numbers that are not finite")
            provenance = json.loads(str(attributes["provenance"]))
            return cls(theta=theta, spec=spec, env_id=str(attributes["env_id"]), provenance=provenance)
        except (KeyError, ValueError, RecursionError) as error:
            raise UserError(f"{path}: lacks something that a policy has ({error})") from error


def _suffix_by_content(content: bytes, path: Path) -> str:
    if content.startswith(SIGNATURE):
        return ".h5"
    if content[8:9] == b"{":  # behind the length of a safetensors header
        return ".safetensors"
    if content[:1] == b"\x08":  # an ONNX model's first field, ir_version
        return ".onnx"
    return path.suffix if path.suffix in SUFFIXES else ".h5"


def _decode_named(path: Path, content: bytes, suffix: str) -> tuple[hdf5.Attributes, hdf5.Datasets]:
    """Return the attributes and theta of a file of named arrays, as ``hdf5.decode`` does."""
    decode = onnx_format.decode if suffix == ".onnx" else safetensors_format.decode
    try:
        texts, arrays = decode(content)
        version = texts.get("format_version", "")
        readable = version.isascii() and version.isdigit() and len(version) < 10
        named: hdf5.Attributes = {
            "format": texts.get("format", ""),
            "format_version": int(version) if readable else version,
        }
        hdf5.check_kind(path, named, FORMAT, FORMAT_VERSION)
        attributes: hdf5.Attributes = {name: texts[name] for name in ("policy_spec", "env_id", "provenance")}
        theta = _theta(texts["parameters"], arrays)
        if texts["digest"] != hdf5.content_digest({**named, **attributes}, {"/theta": theta}):
            raise ValueError("its contents do not have the digest that it was written with")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise hdf5.DamagedError(
            f"{path}: is damaged or no {suffix} file as we write them, expected a {FORMAT} file "
            f"({one_line(error)[:200]})"
        ) from error
    return attributes, {"/theta": theta}


def _theta(parameters: str, arrays: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return theta, shape (k,), put together from the arrays that a JSON list of names orders."""
    names = json.loads(parameters)
    if not isinstance(names, list) or not names or len(set(names)) != len(names):
        raise ValueError("its parameters are no list of names")
    return np.concatenate([arrays[name].reshape(-1) for name in names])
