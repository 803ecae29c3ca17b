"""Under which names services know a run: ``trackers.json`` in its directory, so that a resumed run goes on there."""

import json
from pathlib import Path

from qtrl_hpc import files
from qtrl_hpc.errors import UserError

NAMES = "trackers.json"


def known_name(run_dir: Path, service: str) -> str | None:
    """Return the name that a service knows a run by; None where it does not know it yet.

    Raises:
        UserError: the file is damaged.
    """
    return _names(run_dir / NAMES).get(service)


def keep_name(run_dir: Path, service: str, name: str) -> None:
    """Note the name that a service knows a run by."""
    path = run_dir / NAMES
    files.replace(path, (json.dumps({**_names(path), service: name}, indent=1) + "\n").encode())


def _names(path: Path) -> dict[str, str]:
    try:
        names = json.loads(path.read_text()) if path.exists() else {}
    except ValueError:
        names = None
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise UserError(f"{path}: expected a JSON object of names (delete it to begin anew in the trackers)")
    return names
