"""The one place that knows MPI: the world, the one reduction, agreement, and going on without ranks that die.

Nothing here pickles: what travels is float64 buffers and UTF-8 text.
"""

import faulthandler
import json
import os
import signal
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.errors import EXIT_FAILED, TrainingError, UserError, WriteError, one_line
from qtrl_hpc.launcher import check_launcher, is_fault_tolerant, missing_for_tolerance

if TYPE_CHECKING:
    from mpi4py import MPI

T = TypeVar("T")

SECONDS_BETWEEN_TESTS = 1e-3
SEAL = 12
"""Bytes behind each piece that is gathered: the gather's number and a checksum."""
SECONDS_TO_START = 600.0
"""A rank that MPI has not started after so long shows where it is and ends: ranks that miss others wait for ever."""


class AgreedError(UserError):
    """Bad input that every rank knows of: all of them leave together."""


class RanksLostError(Exception):
    """Ranks died, as at least this one has noticed: those left go on with ``World.shrink``, or end."""


class World:
    """The ranks of one run. Collective: all ranks.

    Args:
        comm: an mpi4py communicator of all ranks.
    """

    def __init__(self, comm: "MPI.Intracomm") -> None:
        self._comm = comm
        self.rank: int = comm.rank
        self.size: int = comm.size
        self.node_rank, self.node_size = _place_on_node(comm)
        self.number: int = comm.rank
        """The rank that this process began with, by which it is known where others are lost."""
        self.began_with: int = comm.size
        """Ranks at the start."""
        self.members = list(range(comm.size))
        """The numbers of all ranks that are left, in rank order."""
        self.patience: float | None = None
        """Seconds that ``finish`` waits for the other ranks; None for ever, where one has work that others have not."""
        self._has_disagreed = False
        self._gathers = 0
        """Made with this communicator, the same number on all its ranks."""
        self._outlives = is_fault_tolerant(os.environ)
        """Whether the launcher lets those left live on, who are told of a death as RanksLostError."""
        self.leaves_mpi = False
        """Whether MPI is left as it is at the end: one that may have lost ranks cannot be shut down."""
        self.tolerant = False
        """Whether the run goes on without ranks that die; otherwise their death is its end."""

    @classmethod
    def connect(cls) -> "World":
        """Start MPI and return all its ranks; without a launcher, one. Collective: all ranks.

        Raises:
            UserError: there is no MPI library, or the launcher is of another MPI than mpi4py.
        """
        try:
            # MPI keeps Python's lock while it starts, so that no thread of ours could watch it.
            faulthandler.dump_traceback_later(SECONDS_TO_START, exit=True, file=sys.__stderr__ or sys.stderr)
            try:
                from mpi4py import MPI
            finally:
                faulthandler.cancel_dump_traceback_later()
        except (ImportError, RuntimeError) as error:
            raise UserError(
                f"MPI: mpi4py cannot load an MPI library ({one_line(error)}); load your site's MPI module, "
                "or pip install 'qtrl_hpc[mpi]'"
            ) from error
        world = cls(MPI.COMM_WORLD)
        check_launcher(world.size, library_version(), os.environ)
        return world

    @classmethod
    def alone(cls) -> "World":
        """Return a world of this rank only, in which it may do what other ranks do not; MPI has been started."""
        from mpi4py import MPI

        return cls(MPI.COMM_SELF)

    def gather_text(self, text: str) -> list[str]:
        """Return every rank's text, in rank order, on every rank. Collective: all ranks."""
        pieces = self._gather(text.encode(errors="surrogateescape"))
        return [piece.decode(errors="surrogateescape") for piece in pieces]

    def gather_items(self, items: dict[int, str]) -> dict[int, str]:
        """Return the numbered texts of all ranks together, on every rank. Collective: all ranks."""
        own = json.dumps({str(number): text for number, text in items.items()})
        return {int(number): text for each in self.gather_text(own) for number, text in json.loads(each).items()}

    def agree(self, step: Callable[[], T]) -> T:
        """Run a step that may refuse its input, or find no room to write; where one rank does, all refuse.

        Collective: all ranks.

        Raises:
            AgreedError: on every rank, with the message of the first rank that refused.
        """
        message, result = "", None
        try:
            result = step()
        except (UserError, WriteError) as error:
            message = str(error)
        refusals = [text for text in self.gather_text(message) if text]
        if refusals:
            raise AgreedError(refusals[0])
        return result  # type: ignore[return-value]

    def from_first(self, step: Callable[[], str]) -> str:
        """Run a step on rank 0 and return its text on every rank; a refusal is everybody's. Collective: all ranks."""
        return self.gather_text(self.agree(step) if self.rank == 0 else self.agree(lambda: ""))[0]

    def first_then_others(self, step: Callable[[], None]) -> None:
        """Run a step on rank 0, and when it is done there, on all others at once. Collective: all ranks."""
        if self.rank == 0:
            step()
        self.meet()
        if self.rank != 0:
            step()

    def broadcast(self, vector: NDArray[np.float64]) -> None:
        """Overwrite ``vector`` with rank 0's, in place. Collective: all ranks."""
        with self._losses():
            self._comm.Bcast(vector)

    def share(self, vector: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return rank 0's vector on every rank, whatever length it has. Collective: all ranks."""
        length = np.array([vector.size], np.int64)
        with self._losses():
            self._comm.Bcast(length)
            shared = vector.copy() if self.rank == 0 else np.empty(int(length.item()))
            self._comm.Bcast(shared)
        return shared

    def gather_numbers(self, vector: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the vectors of all ranks in rank order as one, on rank 0; elsewhere nothing. Collective: all ranks."""
        pieces = self._gather(vector.tobytes())
        everyone: NDArray[np.float64] = np.array(np.frombuffer(b"".join(pieces if self.rank == 0 else []), np.float64))
        return everyone

    def _gather(self, piece: bytes) -> list[bytes]:
        """Return every rank's bytes, in rank order, on every rank. Collective: all ranks.

        After a rank's death MPI may return from a gather without a word and without having brought anything, so that
        the buffers hold what an earlier one left there: each piece is sealed with this gather's number and a checksum.

        Raises:
            RanksLostError: not everything arrived.
            RuntimeError: likewise, where no rank outlives another.
        """
        self.meet()
        self._gathers += 1
        seal = self._gathers.to_bytes(SEAL - 4, "little")
        sent = np.frombuffer(piece + seal + zlib.crc32(piece + seal).to_bytes(4, "little"), np.uint8)
        heads = np.zeros((self.size, 2), np.int64)
        with self._losses():
            self._comm.Allgather(np.array([sent.size, self._gathers], np.int64), heads)
            counts = heads[:, 0]
            if (heads[:, 1] == self._gathers).all():
                received = np.zeros(int(counts.sum()), np.uint8)
                self._comm.Allgatherv(sent, [received, counts])
                parts = [part.tobytes() for part in np.split(received, np.cumsum(counts)[:-1])]
                if all(_is_sealed(part, seal) for part in parts):
                    return [part[:-SEAL] for part in parts]
        what = "MPI returned from a gather without what all ranks have sent"
        raise RanksLostError(what) if self._outlives else RuntimeError(what)

    def barrier(self) -> None:
        """Wait for the slowest rank. Collective: all ranks."""
        with self._losses():
            self._comm.Barrier()

    def sum(self, rows: NDArray[np.float64], *, places: list[int] | None, count: int) -> NDArray[np.float64]:
        """Add the rows of all ranks by ONE Allreduce of one contiguous buffer. Collective: all ranks.

        Args:
            rows: this rank's, shape (m, width), float64.
            places: add row by row, these being the places of this rank's among all, so that the bits of the sum do not
                depend on how rows are shared out over ranks; the buffer is then (count, width). None: add in any order.
            count: of the rows of all ranks, for ``places``.

        Returns:
            The sum, shape (width,), the same bits on every rank.
        """
        if places is None:
            buffer: NDArray[np.float64] = rows.sum(axis=0)
            with self._losses():
                self._comm.Allreduce(self._in_place, buffer)
            return buffer
        everyone = np.zeros((count, rows.shape[1]))
        everyone[places] = rows
        with self._losses():
            self._comm.Allreduce(self._in_place, everyone)
        total = np.zeros(rows.shape[1])
        for row in everyone:
            total += row
        return total

    def check_count(self, contributors: float) -> None:
        """Refuse a sum that not every rank is in once: after a rank's death MPI may return such without a word.

        Raises:
            RanksLostError: so that all that are left make the update again.
            RuntimeError: no rank's death is allowed for.
        """
        if contributors == self.size:
            return
        what = f"the sum counts {contributors:g} contributions, expected those of {self.size} ranks"
        raise RanksLostError(what) if self.tolerant else RuntimeError(what)

    def check_tolerant(self) -> None:
        """Refuse to go on without ranks that die where this MPI, or its launch, cannot. Collective: all ranks.

        Raises:
            AgreedError: saying what to do.
        """
        from mpi4py import MPI

        hosts = set(self.gather_text(MPI.Get_processor_name()))

        def check() -> None:
            missing = missing_for_tolerance(library_version(), len(hosts), os.environ)
            if missing:
                raise UserError(f"--on-agent-failure: got 'continue', {missing}")

        self.agree(check)

    def tolerate(self) -> None:
        """From now on go on without ranks that die, instead of ending with them. Collective: all ranks.

        Raises:
            RanksLostError: on all alike, where a rank has been lost before; one rank must not go on while another ends.
        """
        from mpi4py import MPI

        self._comm.Set_errhandler(MPI.ERRORS_RETURN)
        self._come_to_an_agreement()
        self.tolerant = self.leaves_mpi = True

    def settle(self) -> None:
        """Part only when all ranks have come to the end. Collective: all ranks, or all that are left.

        Raises:
            RanksLostError: on all alike, where a rank has been lost or goes on with ``shrink``.
        """
        if self.tolerant:
            self._come_to_an_agreement()

    def _come_to_an_agreement(self) -> None:
        if not self._all_agree(True):
            self._has_disagreed = True
            raise RanksLostError("a rank was lost, and all know it")

    def shrink(self) -> None:
        """Go on with the ranks that are left, whatever they were at. Collective: all that are left.

        Ranks that wait in a collective are woken by the revoked communicator; those that wait in ``settle`` by the
        agreement, which both sides make.
        """
        from mpi4py import MPI

        with self._losses():
            if not self._comm.Is_revoked():
                self._comm.Revoke()
            if not self._has_disagreed:  # in settle already: each rank makes one agreement before it shrinks
                self._all_agree(False)
            self._has_disagreed = False
            old = self._comm
            self._comm = cast("MPI.Intracomm", old.Shrink())
            self._comm.Set_errhandler(MPI.ERRORS_RETURN)
            ranks = self._comm.group.Translate_ranks(list(range(self._comm.size)), old.group)
        self.members = [self.members[rank] for rank in ranks]
        self.rank, self.size, self._gathers = self._comm.rank, self._comm.size, 0

    def end_of(self, loss: RanksLostError) -> Exception:
        """Return what ends a run that does not go on without the dead. Collective: all that are left."""
        failed = self._part("")
        dead = [str(rank) for rank in range(self.began_with) if rank not in self.members]
        words = [f"rank {', '.join(dead)} died"] if dead else []
        words += [f"rank {', '.join(failed)} failed"] if failed else []
        return TrainingError(f"{' and '.join(words)}, and the others end") if words else loss

    def _part(self, failed: str) -> list[str]:
        """Come together, wherever each rank is at, only to ``finish``; return which ranks failed."""
        self.leaves_mpi = True
        while True:
            try:
                self.shrink()
                return [number for number in self.gather_text(failed) if number]
            except RanksLostError:
                continue

    def least(self, number: int) -> int:
        """Return the least of all ranks' numbers. Collective: all ranks."""
        return min(map(int, self.gather_text(str(number))))

    def _all_agree(self, yes: bool) -> bool:
        """Return whether all ranks say yes and none has died; the same answer on all that are left."""
        from mpi4py import MPI

        try:
            return bool(self._comm.Agree(int(yes)))
        except MPI.Exception:
            return False

    @contextmanager
    def _losses(self) -> Iterator[None]:
        """Tell what MPI complains of as RanksLostError.

        Open MPI tells a death as one of three errors that are made for it, and now and then as "other error"; so
        whatever it is, those left first look who they are.
        """
        if not self._outlives:
            yield
            return
        from mpi4py import MPI

        try:
            yield
        except MPI.Exception as error:
            raise RanksLostError(one_line(error)) from None

    def check_same(self, digest: str, what: str) -> None:
        """Stop where ranks hold different values. Collective: all ranks.

        Raises:
            TrainingError: naming the ranks that differ from rank 0.
        """
        digests = self.gather_text(digest)
        different = [str(rank) for rank, other in enumerate(digests) if other != digests[0]]
        if different:
            raise TrainingError(
                f"{what} differs between rank 0 and rank {', '.join(different)}: the replicas have drifted apart"
            )

    def abort(self, code: int) -> NoReturn:
        """End every rank of the job at once, without waiting for any of them; of a tolerant one this rank alone.

        Under a fault-tolerant launcher the others do not end with this rank, nor are they told of its exit, so all come
        together first; a tolerant rank kills itself, of which the others are told. Abort will not do there: where it
        comes after a death, Open MPI's mpirun may wait for itself for ever (in 5 of 18 tries).
        """
        with suppress(OSError):  # a full disk may be where it all goes
            sys.stdout.flush()
            sys.stderr.flush()
        if self.size > 1 and self.tolerant:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.size > 1 and self._outlives:
            self._part(str(self.number))
            self.finish()
        elif self.size > 1:
            self._comm.Abort(code)
        os._exit(code)

    def finish(self) -> None:
        """Wait for all ranks and shut MPI down; one that may lose ranks is left as it is. Collective: all ranks."""
        from mpi4py import MPI

        try:
            self.meet(self.patience)
        except TimeoutError:
            why = f"rank {self.number} waited {self.patience:.0f} s at the end for the others: one hangs"
            print(f"error: {why}", file=sys.stderr, flush=True)
            os._exit(EXIT_FAILED)
        except RanksLostError:
            return
        if not self.leaves_mpi:
            MPI.Finalize()

    def meet(self, patience: float | None = None) -> None:
        """Wait for all ranks asleep, while MPI's own barrier keeps a core busy. Collective: all ranks.

        Raises:
            TimeoutError: some have not come after so many seconds.
        """
        deadline = None if patience is None else time.monotonic() + patience
        with self._losses():
            request = self._comm.Ibarrier()
            while not request.Test():
                if deadline is not None and time.monotonic() > deadline:
                    raise TimeoutError
                time.sleep(SECONDS_BETWEEN_TESTS)

    @property
    def _in_place(self) -> Any:
        from mpi4py import MPI

        return MPI.IN_PLACE


def library_version() -> str:
    """Return the MPI library that mpi4py has loaded, in that library's words.

    Raises:
        ImportError: there is no mpi4py, or it finds no library.
        RuntimeError: as ``ImportError``, by mpi4py's choice.
    """
    from mpi4py import MPI

    return " ".join(MPI.Get_library_version().split(",")[0].split("\n")[0].split())


def _is_sealed(part: bytes, seal: bytes) -> bool:
    return part[-SEAL:-4] == seal and part[-4:] == zlib.crc32(part[:-4]).to_bytes(4, "little")


def _place_on_node(comm: "MPI.Intracomm") -> tuple[int, int]:
    """Return this rank's number among those that share memory with it, and how many they are. Collective: all ranks."""
    from mpi4py import MPI

    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    rank, size = node.rank, node.size
    node.Free()
    return rank, size
