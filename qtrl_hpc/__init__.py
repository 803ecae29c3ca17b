"""Reinforcement-learning policies whose weights a quantum circuit generates, trained across MPI ranks.

From Python: ``from qtrl_hpc import train, preset, load_policy`` (docs/api.md). Names are imported when they are
asked for: ``import qtrl_hpc`` alone, or ``qtrl_hpc.inference``, brings nothing quantum and no MPI.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qtrl_hpc.api import TrainingResult, train
    from qtrl_hpc.cli import preset, read_config
    from qtrl_hpc.config import Config
    from qtrl_hpc.errors import TrainingError, UserError
    from qtrl_hpc.inference import Policy, load_policy

__all__ = [
    "Config",
    "Policy",
    "TrainingError",
    "TrainingResult",
    "UserError",
    "load_policy",
    "preset",
    "read_config",
    "train",
]
__version__ = "0.1.0"

_MODULES = {
    "Config": "config",
    "Policy": "inference",
    "TrainingError": "errors",
    "TrainingResult": "api",
    "UserError": "errors",
    "load_policy": "inference",
    "preset": "cli",
    "read_config": "cli",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for; the module ``train`` is itself the function."""
    if name == "train":
        return importlib.import_module("qtrl_hpc.train")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"qtrl_hpc.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
