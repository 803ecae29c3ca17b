"""Policy files: theta and how to read it, for inference anywhere."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc import hdf5
from qtrl_hpc.errors import UserError
from qtrl_hpc.policy import PolicySpec

FORMAT = "qtrl_hpc-policy"
FORMAT_VERSION = 1


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
        """Write the file atomically (docs/formats.md)."""
        hdf5.write(
            path,
            format=FORMAT,
            format_version=FORMAT_VERSION,
            attributes={
                "policy_spec": self.spec.to_json(),
                "env_id": self.env_id,
                "provenance": json.dumps(self.provenance, sort_keys=True),
            },
            datasets={"/theta": self.theta},
        )

    @classmethod
    def load(cls, path: Path) -> "PolicyFile":
        """Read a policy file.

        Raises:
            UserError: it is missing, damaged, of another kind or of a newer version; the text names the file.
        """
        attributes, data = hdf5.read(path, format=FORMAT, format_version=FORMAT_VERSION)
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
