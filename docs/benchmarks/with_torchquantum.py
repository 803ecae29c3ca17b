"""Run the benchmark with TorchQuantum beside it: ``python docs/benchmarks/with_torchquantum.py --only statevector``.

TorchQuantum 0.1.8 imports much of Qiskit 0.x that no newer Qiskit has, and TensorFlow-sized helpers, none of which its
simulator needs. In a virtual environment of its own, never in the project's:

    python3.11 -m venv /tmp/torchquantum && . /tmp/torchquantum/bin/activate
    pip install -e '.[mpi,bench]' -c constraints.txt
    pip install --no-deps torchquantum==0.1.8 torchpack opt_einsum torchdiffeq pathos pox ppft multiprocess \
        scikit-learn joblib toml multimethod loguru tqdm

What is still missing is stood in for by modules that hold nothing but mocks; the simulation and its autograd are
TorchQuantum's own, and its gradient is compared with ours before it is timed.
"""

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from unittest.mock import MagicMock

from qtrl_hpc.bench.__main__ import main

STOOD_IN_FOR = ("matplotlib", "qiskit", "qiskit_ibm_runtime", "torchvision")


class StandIns(MetaPathFinder, Loader):
    """Find what nobody else finds."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return a module of mocks for any name below ``STOOD_IN_FOR``."""
        return ModuleSpec(fullname, self, is_package=True) if fullname.split(".")[0] in STOOD_IN_FOR else None

    def create_module(self, spec: ModuleSpec) -> MagicMock:
        """Return the module."""
        return MagicMock(__spec__=spec, __path__=[], __name__=spec.name, __all__=[])

    def exec_module(self, module: object) -> None:
        """Leave it as it is."""


if __name__ == "__main__":
    sys.meta_path.append(StandIns())
    sys.exit(main())
