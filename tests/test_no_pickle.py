"""Nothing in the package pickles, so that no file and no message can run code."""

import ast
from pathlib import Path

import pytest

import qtrl_hpc

PACKAGE = Path(qtrl_hpc.__file__).parent
PICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
# mpi4py's methods that pickle are those in lower case.
PICKLING = {"send", "recv", "isend", "irecv", "ssend", "issend", "bsend", "sendrecv", "bcast", "scatter", "gather"}
PICKLING |= {"allgather", "alltoall", "reduce", "allreduce", "scan", "exscan", "allow_pickle"}


def pickling(source):
    """Name what in a module might pickle or unpickle."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] in PICKLERS}
        elif isinstance(node, ast.ImportFrom):
            names = {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
            found |= {name for name in names if name.split(".")[0] in PICKLERS or name == "torch.load"}
        elif isinstance(node, ast.Attribute) and node.attr in PICKLING:
            found.add(node.attr)
        elif isinstance(node, ast.Attribute) and node.attr in ("load", "save") and isinstance(node.value, ast.Name):
            found |= {f"{node.value.id}.{node.attr}"} & {"torch.load", "torch.save", "np.load", "np.save", "yaml.load"}
        elif isinstance(node, ast.keyword) and node.arg in PICKLING:
            found.add(node.arg)
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_pickles_nothing(path):
    assert pickling(path.read_text()) == set()


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import pickle", "pickle"),
        ("from dill import loads", "dill"),
        ("def f():\n    import cloudpickle as c", "cloudpickle"),
        ("torch.load(path)", "torch.load"),
        ("np.load(path, allow_pickle=True)", "allow_pickle"),
        ("world._comm.allgather(x)", "allgather"),
        ("comm.bcast(x, root=0)", "bcast"),
    ],
)
def test_module_that_would_pickle_is_noticed(source, name):
    assert name in pickling(source)
