"""The training command where MPI never comes to an end of starting, and keeps Python's lock meanwhile."""

import ctypes
import sys
from importlib.abc import MetaPathFinder

from qtrl_hpc import distributed, train


class Hanging(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "mpi4py.MPI":
            ctypes.PyDLL(None).sleep(100)


sys.meta_path.insert(0, Hanging())
distributed.SECONDS_TO_START = 1.0
train.main()
