"""End a job in which nothing goes on any more, and say which rank hangs.

A rank that dies is the launcher's business; one that is stopped, or whose environment never returns, would keep all
others waiting until the job's time is over. Each rank has a thread that notes, in a file of the run's directory, what
its rank is at and since when. Where no rank has come on for the time allowed, the files tell who hangs: who is at work
that does not end, or no longer writes its file.
"""

import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from qtrl_hpc import files
from qtrl_hpc.errors import EXIT_FAILED
from qtrl_hpc.status import say_failed
from qtrl_hpc.stopwatch import WAITING, Stopwatch

FOLDER = ".ranks"
SHORTEST_PAUSE, LONGEST_PAUSE = 0.2, 30.0
SECONDS_TO_SPEAK = 2.0


class Sign(NamedTuple):
    """What a rank's thread last wrote of it. Times are seconds since 1970."""

    rank: int
    phase: str
    since: float
    """When the rank began with it."""
    written: float
    """When this was written."""
    host: str
    pid: int


def forget_signs(run_dir: Path) -> None:
    """Remove what an earlier run in this directory has left, before this one's ranks write."""
    shutil.rmtree(run_dir / FOLDER, ignore_errors=True)


class Watchdog:
    """Watch this rank, and with the others' files all ranks, while the ``with`` lasts.

    Args:
        stopwatch: knows what the rank is at.
        rank: of this process.
        seconds: without any progress on any rank, after which the job is ended; None to watch nothing.
        spare: end only the ranks that hang, as the others can go on without them.
    """

    def __init__(self, stopwatch: Stopwatch, rank: int, seconds: float | None, *, spare: bool = False) -> None:
        self._stopwatch, self._rank, self._seconds = stopwatch, rank, seconds
        self._spare = spare
        self._ranks = [rank]
        self._run_dir: Path | None = None
        self._folder: Path | None = None
        self._excused = time.time()  # when this process was last seen to go on after it had been stopped
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        if self._seconds is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._folder:
            with suppress(OSError):  # of others still in it, or of a folder that became read-only
                self._path(self._rank).unlink(missing_ok=True)
                self._path(self._rank).with_suffix(".new").unlink(missing_ok=True)
                self._folder.rmdir()

    def meet(self, run_dir: Path, ranks: list[int]) -> None:
        """Look after all ranks from now on.

        Args:
            run_dir: which this run holds and all ranks see.
            ranks: those that take part, by the numbers they began with.

        Raises:
            WriteError: there is no folder for the files of the ranks, nor can one be made.
        """
        self._ranks, self._run_dir = list(ranks), run_dir
        if self._seconds is not None and len(ranks) > 1:
            with files.writing(run_dir / FOLDER):
                (run_dir / FOLDER).mkdir(exist_ok=True)
            self._folder = run_dir / FOLDER
            if self._rank == min(ranks):
                for path in self._folder.glob("[0-9]*"):
                    if int(path.stem) not in ranks:  # it died
                        path.unlink(missing_ok=True)
            self._write(self._sign(time.time()))  # so that others know the process, should it hang at once

    @property
    def _pause(self) -> float:
        return min(max((self._seconds or 0.0) / 10.0, SHORTEST_PAUSE), LONGEST_PAUSE)

    def _path(self, rank: int) -> Path:
        assert self._folder
        return self._folder / str(rank)

    def _watch(self) -> None:
        assert self._seconds is not None
        last = time.time()
        while not self._over.wait(self._pause):
            now = time.time()
            if now - last > 3.0 * self._pause + 1.0:  # the process was stopped, all of the job may have been
                self._excused = now
            last = now
            own = self._sign(now)
            self._write(own)
            if now - own.since > self._seconds:
                signs = self._read() or [own]
                if now - max(sign.since for sign in signs) > self._seconds:
                    self._act(signs, now)

    def _sign(self, now: float) -> Sign:
        phase, since = self._stopwatch.position
        began = now - (time.monotonic() - since)
        return Sign(self._rank, phase, max(began, self._excused), now, socket.gethostname(), os.getpid())

    def _write(self, sign: Sign) -> None:
        if self._folder is None:
            return
        path, beside = self._path(self._rank), self._path(self._rank).with_suffix(".new")
        try:
            beside.write_text(json.dumps(sign))  # a reader must not see half of it
            os.replace(beside, path)
        except OSError:
            return  # the run will meet it too, and say so

    def _read(self) -> list[Sign]:
        if self._folder is None:
            return []
        signs = []
        for rank in self._ranks:
            try:
                signs.append(Sign(*json.loads(self._path(rank).read_text())))
            except (OSError, ValueError, TypeError):
                continue
        return signs

    def _act(self, signs: list[Sign], now: float) -> None:
        """End the job, or what hangs of it."""
        found = diagnose(signs, self._ranks if self._folder else [self._rank], now, silence=3.0 * self._pause + 1.0)
        speaks = self._rank == min(found.answering, default=self._rank)
        hangs = self._rank in found.busy
        if hangs:
            stack = sys._current_frames().get(threading.main_thread().ident or 0)
            print(f"rank {self._rank} is at:\n{''.join(traceback.format_stack(stack))}", file=sys.stderr, flush=True)
        if speaks:
            print(f"error: {found.words} (--progress-timeout {self._seconds:g})", file=sys.stderr, flush=True)
            for sign in found.mute:
                _kill(sign)
        if self._spare and found.spareable:
            if hangs:
                os.kill(os.getpid(), signal.SIGKILL)
            self._excused = now  # the others' death comes to be known by itself
            return
        if speaks and self._run_dir:
            say_failed(self._run_dir, found.words)
        elif not speaks:
            time.sleep(SECONDS_TO_SPEAK)  # who ends first ends the job
        os._exit(EXIT_FAILED)


class Diagnosis(NamedTuple):
    """Who hangs."""

    answering: list[int]
    busy: list[int]
    mute: list[Sign | None]
    words: str
    spareable: bool
    """Whether those who hang can be ended alone: by themselves, or on its own host by the lowest rank that answers."""


def diagnose(signs: list[Sign], ranks: list[int], now: float, *, silence: float) -> Diagnosis:
    """Return who keeps the others waiting.

    Args:
        signs: last written by each rank that has written any.
        ranks: of the run.
        now: seconds since 1970.
        silence: seconds without a new sign, after which a rank's process does not run.
    """
    known = {sign.rank: sign for sign in signs}
    answering = [rank for rank, sign in known.items() if now - sign.written <= silence]
    busy = [rank for rank in answering if known[rank].phase not in WAITING]
    mute = [rank for rank in ranks if rank not in answering]
    words = [_of_mute(rank, known.get(rank), now) for rank in mute]
    words += [f"rank {rank} is in {known[rank].phase} since {now - known[rank].since:.0f} s" for rank in busy]
    if not words:
        words = [f"all {len(ranks)} ranks wait for each other since {now - max(s.since for s in signs):.0f} s"]
    host = known[min(answering)].host if answering else None
    last = [known.get(rank) for rank in mute]
    return Diagnosis(
        answering=answering,
        busy=busy,
        mute=last,
        words="no progress: " + ", ".join(words),
        spareable=bool(busy or mute) and all(sign is not None and sign.host == host for sign in last),
    )


def _of_mute(rank: int, sign: Sign | None, now: float) -> str:
    if sign is None:
        return f"rank {rank} does not answer"
    return (
        f"rank {rank} does not answer since {now - sign.written:.0f} s "
        f"(process {sign.pid} on {sign.host}, last in {sign.phase})"
    )


def _kill(sign: Sign | None) -> None:
    """Kill a process that hangs, if it runs on this host."""
    if sign is not None and sign.host == socket.gethostname():
        with suppress(OSError):
            os.kill(sign.pid, signal.SIGKILL)
