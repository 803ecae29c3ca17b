"""Libraries that not everybody has: extras of the package."""

import importlib

from qtrl_hpc.errors import UserError


def require(what: str, extra: str, *modules: str) -> None:
    """Refuse to start what would end for want of a library.

    Args:
        what: needs it: a flag or a command, as people write it.
        extra: of this package, that brings it.
        modules: the names that are imported.

    Raises:
        UserError: one is not installed; it says what to install.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            name = module.partition(".")[0]
            raise UserError(f"{what}: needs {name}, which is missing: pip install 'qtrl_hpc[{extra}]'") from error
