"""What is printed must not end the work: where nobody reads it any more, or a terminal lacks a letter."""

import io
import os
import sys
from typing import Any


class _Outlasting(io.FileIO):
    """A stream's descriptor. Once its reader is gone, what is written to it is lost without an error."""

    lost = False

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            self.lost = True
            return super().write(data)


def harden_streams() -> None:
    """Let this process's stdout and stderr take whatever is printed: a run of a night must not die of a closed pipe.

    Behind ``| head -1``, and where a stream was closed from the start, ``>&-``, output goes nowhere. A letter that the
    encoding lacks becomes a question mark. A stream that somebody has put in the place of the process's own, as test
    runners and notebooks do, is left alone.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  # for as long as the process lives
        elif stream is getattr(sys, f"__{name}__"):
            stream.flush()
            setattr(sys, name, _hardened(stream))


def nobody_reads() -> bool:
    """Return whether what was printed last has gone nowhere, for want of a reader: work only to be read may end."""
    buffer = getattr(sys.stdout, "buffer", None)
    return bool(getattr(getattr(buffer, "raw", buffer), "lost", False))


def _hardened(stream: Any) -> io.TextIOWrapper:
    raw = _Outlasting(stream.fileno(), "w", closefd=False)
    buffer: Any = raw if stream.write_through else io.BufferedWriter(raw)
    return io.TextIOWrapper(
        buffer,
        encoding=stream.encoding,
        errors="replace" if stream.errors == "strict" else stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
