"""TensorBoard's event files, written in this thread.

The package's own ``EventFileWriter`` writes in a thread of its own, where a full disk ends that thread and not the run,
and computes its checksums in Python, byte by byte. Both matter where an update takes 2 ms.
"""

import os
import socket
import struct
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto.event_pb2 import Event

from qtrl_hpc import files

PREFIX = "events.out.tfevents."
_VERSION = "brain.Event:2"
_POLYNOMIAL = 0x82F63B78
_CHUNK = 1024
_MASK = 0xA282EAD8


class EventFile:
    """One event file: records of length, checksum of the length, an ``Event``, checksum of the event.

    Args:
        folder: made if need be. Readers take the files in it by the order of their names, so this one gets the last.
    """

    def __init__(self, folder: Path) -> None:
        with files.writing(folder):
            folder.mkdir(exist_ok=True)
        stamp = max(int(time.time()), _last_stamp(folder) + 1)
        self._path = folder / f"{PREFIX}{stamp:010d}.{socket.gethostname()}.{os.getpid()}"
        with files.writing(self._path):
            self._file = self._path.open("xb")
        self.write(Event(wall_time=time.time(), file_version=_VERSION))
        self.sync()

    def write(self, event: Event) -> None:
        """Append an event, which others can read at once."""
        data = event.SerializeToString()
        length = struct.pack("<Q", len(data))
        pieces = [length, struct.pack("<I", masked_crc(length)), data, struct.pack("<I", masked_crc(data))]
        try:
            self._file.write(b"".join(pieces))
            self._file.flush()
        except OSError as error:
            raise files.unwritable(self._path, error) from error

    def sync(self) -> None:
        """Wait until all events are on disk."""
        with files.writing(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Write no more."""
        with files.writing(self._path):
            self._file.close()


def masked_crc(data: bytes) -> int:
    """Return the checksum of a record: CRC-32C of at least 4 bytes, rotated by 15 bits, plus a constant."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + _MASK) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """Return the CRC-32C (Castagnoli) of at least 4 bytes.

    It is linear over the bits, so that of a chunk is the exclusive or of what each byte alone contributes at its
    distance from the chunk's end; what came before is an exclusive or into the chunk's first four bytes.
    """
    values = np.frombuffer(data, np.uint8)
    state = 0xFFFFFFFF
    first = len(values) % _CHUNK or _CHUNK  # a short chunk comes first: all others are of one length
    if first < 4:
        first += _CHUNK - 4
    start, end = 0, min(first, len(values))
    while start < len(values):
        chunk = values[start:end].copy()
        chunk[:4] ^= np.frombuffer(struct.pack("<I", state), np.uint8)
        contributions = _CONTRIBUTIONS[-len(chunk) :][np.arange(len(chunk)), chunk]
        # Not ufunc.reduce, whose name the ban on pickling has too.
        state = int(np.bitwise_xor.reduceat(contributions, [0])[0])
        start, end = end, min(end + _CHUNK, len(values))
    return state ^ 0xFFFFFFFF


def _contributions() -> NDArray[np.uint32]:
    """Return what byte b (column) at each place of a chunk (row, the last one at its end) contributes."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> 1) ^ np.where(table & 1, np.uint32(_POLYNOMIAL), np.uint32(0))
    rows = [table]
    for _ in range(_CHUNK - 1):
        rows.append(table[rows[-1] & 0xFF] ^ (rows[-1] >> 8))
    return np.array(rows[::-1])


_CONTRIBUTIONS = _contributions()


def _last_stamp(folder: Path) -> int:
    """Return the latest time in the names of the event files that are there, 0 for none."""
    stamps = [path.name.removeprefix(PREFIX).partition(".")[0] for path in folder.glob(f"{PREFIX}*")]
    return max((int(stamp) for stamp in stamps if stamp.isdecimal()), default=0)
