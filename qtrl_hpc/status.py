"""``status.json``: how a run stands or has ended, for scripts and people; an exit code may get lost on the way."""

import json
import os
import socket
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from qtrl_hpc import files
from qtrl_hpc.errors import WriteError

STATUS = "status.json"
State = Literal["running", "done", "stopped", "failed"]


@dataclass
class Status:
    """Write ``status.json``; of a run that was killed it says ``running`` for ever.

    Args:
        folder: the run's directory.
        updates: of the run in all.
        agents: N, all agents of the run.
    """

    folder: Path
    updates: int
    agents: int
    update: int = 0
    """Updates that the newest checkpoint holds."""
    left: list[dict[str, Any]] = field(default_factory=list)
    """Who died in this run and since which update, where the others went on."""

    def __post_init__(self) -> None:
        self._started = _now()

    def write(self, state: State, why: str | None = None) -> None:
        """Replace the file.

        Args:
            state: running; done: all updates are made; stopped: go on with ``--resume``; failed: something is wrong.
            why: a run stopped or failed, in one line.

        Raises:
            WriteError: the file can neither be replaced nor written over.
        """
        values = {
            "state": state,
            "why": why,
            "update": self.update,
            "updates": self.updates,
            "agents": self.agents,
            "left": self.left,
            "started": self._started,
            "changed": _now(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
        _put(self.folder / STATUS, values)


def say_failed(folder: Path, why: str, state: State = "failed", *, keep: bool = False) -> None:
    """Note in a run's ``status.json`` that it failed, on whichever rank that is; the rest stays as it was.

    A run fails of one thing, and what cannot be written must not hide it: it is let go.

    Args:
        folder: of the run.
        why: in one line.
        state: stopped, where a person has cut it off.
        keep: leave what another rank has said already.
    """
    try:
        path = folder / STATUS
        values = json.loads(path.read_text()) if path.exists() else {}
        if keep and values.get("state") == state:
            return
        values.update(state=state, why=why, changed=_now())
        _put(path, values)
    except (OSError, ValueError):
        return


def _put(path: Path, values: dict[str, Any]) -> None:
    """Replace the file; where a full disk has no room for a second one, write over the first."""
    content = (json.dumps(values, indent=1) + "\n").encode()
    try:
        files.replace(path, content)
    except WriteError as error:
        try:
            files.overwrite(path, content)
        except OSError:
            raise error from None


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
