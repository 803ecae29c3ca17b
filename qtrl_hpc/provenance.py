"""What made a file: versions of the code and of what it stands on."""

import platform
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import qtrl_hpc

PACKAGES = ("numpy", "qiskit", "qiskit-aer", "numba", "torch", "gymnasium", "minigrid", "h5py", "mpi4py")


def versions() -> dict[str, str]:
    """Return the versions of this package, of Python and of the libraries that results depend on."""
    return {"qtrl_hpc": qtrl_hpc.__version__, "python": platform.python_version(), **package_versions(PACKAGES)}


def package_versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the version of each package, or that it is not installed."""
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def git_revision() -> str:
    """Return the commit of the checkout that the package runs from, with "-dirty" where it was changed."""
    checkout = Path(qtrl_hpc.__file__).parent.parent
    if not (checkout / ".git").exists():
        return "not in a git checkout"
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
