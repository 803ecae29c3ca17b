"""What this machine has, what would hurt a run, what to do: ``python -m qtrl_hpc.doctor``, alone or under mpirun."""

import faulthandler
import os
import socket
import sys
import threading
import traceback
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from qtrl_hpc.command import OneLineParser, command_line, non_empty_path
from qtrl_hpc.distributed import World, library_version
from qtrl_hpc.doctor import folder, gather, measure, report
from qtrl_hpc.doctor.checks import examine
from qtrl_hpc.doctor.facts import Facts
from qtrl_hpc.errors import EXIT_BAD_INPUT, EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, UserError
from qtrl_hpc.launcher import launched_rank

EPILOG = "Exit code 0: nothing would hurt a run; 1: something would; 2: bad flags."
SECONDS_AT_MOST = 60.0
SECONDS_TO_COMPILE = 180.0
MESSAGES_ADVICE = (
    "messages between ranks do not arrive, as with a firewall or the wrong network between hosts; "
    "try mpirun --mca btl_tcp_if_include NAME --mca oob_tcp_if_include NAME with the network's name (ip link)"
)


def main(argv: list[str] | None = None) -> NoReturn:
    """Run the command on every rank; the exit code is the same on all."""
    arguments = command_line(argv, lambda: _parser().print_help())
    first = launched_rank(os.environ) == 0
    try:
        options = _parser().parse_args(arguments)
    except UserError as error:
        if first:
            print(f"error: {error}", file=sys.stderr, flush=True)
        # A launcher would end rank 0 for the exit code of another, before it has said why.
        sys.exit(EXIT_BAD_INPUT if first else EXIT_DONE)
    # What starts processes comes before MPI does.
    found: dict[str, Any] = {}
    if first:
        with bounded("trying the run directory", "its file system does not answer: name another with --run-dir"):
            found = folder.look(folder.nearest(options.run_dir))
        found["mpirun"] = gather.mpirun_version()
    world, trouble = _connect()
    if world is None and not first:
        sys.exit(EXIT_DONE)
    try:
        ranks = _see(world, found | {"mpi_trouble": trouble})
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        if world is None:
            sys.exit(EXIT_INTERRUPTED)
        world.abort(EXIT_INTERRUPTED)
    except BaseException:
        print(f"rank {launched_rank(os.environ)} failed:\n{traceback.format_exc()}", file=sys.stderr, flush=True)
        if world is None:
            sys.exit(EXIT_FAILED)
        world.abort(EXIT_FAILED)
    code = _tell(ranks, options, first=world is None or world.rank == 0)
    if world is not None:
        world.finish()
    sys.exit(code)


def _connect() -> tuple[World | None, str | None]:
    """Return all ranks; or none, and why."""
    # Should MPI start without letting go of Python's lock, only this watch can still end it.
    faulthandler.dump_traceback_later(SECONDS_AT_MOST + 5.0, exit=True)
    try:
        with bounded("starting MPI", f"{MESSAGES_ADVICE}; or mpirun is not the library's own (which -a mpirun)"):
            return World.connect(), None
    except UserError as error:
        return None, str(error)
    finally:
        faulthandler.cancel_dump_traceback_later()


def _see(world: World | None, found: dict[str, Any]) -> list[Facts]:
    """Return what every rank sees, on every rank. Collective: all ranks."""
    rank = 0 if world is None else world.rank
    found |= gather.machine() | gather.launcher(os.environ)
    if (path := gather.library_file()) is not None:
        found |= {"library": library_version()} | gather.library(path)
    if world is not None:
        with bounded("a message to the other ranks", MESSAGES_ADVICE):
            world.meet()
            usable = None if found.get("folder_trouble") else found.get("folder")
            found |= folder.look_together(world, usable)
        with bounded("the Allreduce timing", MESSAGES_ADVICE):
            found |= measure.reduction(world)
    with bounded("the circuit timing", "see what else runs on this host", SECONDS_TO_COMPILE):
        found |= measure.circuit(world)
        if world is None or world.node_rank == 0:
            found |= gather.graphics() | gather.shared_memory()
        if rank == 0 and not found.get("aer_trouble"):
            found |= measure.aer()
    found["pools"] = gather.pools()
    facts = Facts(rank=rank, **found)
    if world is None:
        return [facts]
    with bounded("the other ranks' answers", MESSAGES_ADVICE, SECONDS_TO_COMPILE):
        return [Facts.from_json(text) for text in world.gather_text(facts.to_json())]


def _tell(ranks: list[Facts], options: Namespace, *, first: bool) -> int:
    """Print the report on the first rank, and return the exit code."""
    findings = examine(ranks)
    if first and options.json:
        print(report.to_json(ranks, findings), flush=True)
    elif first:
        report.show(ranks, findings)
        sys.stdout.flush()
    return EXIT_FAILED if report.count(findings, "hurts") else EXIT_DONE


@contextmanager
def bounded(what: str, advice: str, seconds: float | None = None) -> Iterator[None]:
    """End this process, and say what it was at and what to do, where a step takes longer than ``seconds``."""
    seconds = SECONDS_AT_MOST if seconds is None else seconds
    timer = threading.Timer(seconds, _give_up, (f"{what} takes longer than {seconds:g} s: {advice}",))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _give_up(words: str) -> None:
    print(f"error: rank {launched_rank(os.environ)} on {socket.gethostname()}: {words}", file=sys.stderr, flush=True)
    os._exit(EXIT_FAILED)


def _parser() -> OneLineParser:
    parser = OneLineParser(prog="qtrl_hpc.doctor", description=__doc__, epilog=EPILOG, allow_abbrev=False)
    parser.add_argument(
        "--run-dir", type=non_empty_path, default=Path("runs"), metavar="DIR", help="where runs will be (default: runs)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, with all that each rank saw")
    return parser


if __name__ == "__main__":
    main()
