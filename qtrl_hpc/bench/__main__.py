"""Time everything that is claimed to be fast: ``python -m qtrl_hpc.bench``."""

import os
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.status import Status
from threadpoolctl import threadpool_limits

from qtrl_hpc.bench import gradients, kernels, machine, runs
from qtrl_hpc.bench.report import Report, report_paths, save
from qtrl_hpc.bench.rows import MeasurementError, Row, Say, missing
from qtrl_hpc.command import OneLineParser, run_refusing
from qtrl_hpc.errors import EXIT_DONE, EXIT_FAILED, UserError, one_line
from qtrl_hpc.launcher import is_launched

Section = Callable[[bool, Say], list[Row]]

# Cores; a little always runs.
OTHERS_THAT_DISTURB = 0.2

SECTIONS: dict[str, Section] = {
    "statevector": kernels.statevector,
    "aer": kernels.aer,
    "gradients": gradients.gradients,
    "mapping": kernels.mapping,
    "action": kernels.action,
    "growth": kernels.growth,
    "whole-run": runs.whole_run,
    "efficiency": runs.efficiency,
    "allreduce": runs.reduction_share,
    "memory": runs.memory_use,
    "startup": runs.startup,
    "update": runs.update,
}


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    # Ended from outside, it still ends the processes that it has started.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    return run_refusing(command, argv)


def command(argv: list[str]) -> int:
    """Read the command line, measure, and print or write the report.

    Returns:
        ``EXIT_DONE``, or ``EXIT_FAILED`` where a figure could not be measured though all that it needs is there.

    Raises:
        UserError: naming the flag, what was got and what is expected.
    """
    options = _parser().parse_args(argv)
    names = _section_names(options.only)
    if is_launched(os.environ):
        raise UserError(
            "qtrl_hpc.bench: got started by a launcher, expected to be started alone: it calls mpirun itself"
        )
    # One thread for libraries that are loaded later, and in the processes that are started; those loaded already below.
    os.environ["OMP_NUM_THREADS"] = "1"
    described = machine.describe()
    paths = report_paths(options.output, described["date"][:10]) if options.output else []
    start = time.monotonic()
    with threadpool_limits(1):
        rows, failed = measure(names, quick=options.quick)
    report = Report(
        command=shlex.join([*_program(), *argv]),
        quick=options.quick,
        machine=described,
        rows=rows,
        seconds=time.monotonic() - start,
    )
    if options.json:
        print(report.to_json())
    else:
        report.print()
    if (others := max((row.others or 0.0) for row in rows)) > OTHERS_THAT_DISTURB:
        print(f"warning: other processes kept up to {others:g} cores busy: see the column others", file=sys.stderr)
    if paths:
        save(report, paths)
        print(f"written: {', '.join(map(str, paths))}", file=sys.stderr)
    return EXIT_FAILED if failed else EXIT_DONE


def measure(names: list[str], *, quick: bool) -> tuple[list[Row], bool]:
    """Measure sections, showing on stderr which one, and return their rows and whether any of them failed."""
    rows: list[Row] = []
    failed = False
    console = Console(stderr=True, highlight=False)
    with console.status("") as status:
        for number, name in enumerate(names, 1):
            head = f"{number}/{len(names)} {name}"
            say = _say(console, status, head)
            say("")
            watch = machine.Watch()
            try:
                found = SECTIONS[name](quick, say)
            except Exception as error:  # what has been measured is not lost for what cannot be
                console.print(f"{head}: {error}", markup=False)
                if not isinstance(error, MeasurementError):
                    traceback.print_exc()
                found, failed = [missing(name, "could not be measured", "", one_line(error))], True
            rows += [replace(row, others=watch.others()) for row in found]
    return rows, failed


def _say(console: Console, status: Status, head: str) -> Say:
    """Return what shows the present step: in place on a terminal, else a line each."""

    def say(words: str) -> None:
        text = f"{head}  {words}".rstrip()
        if console.is_terminal:
            status.update(text)
        else:
            console.print(text, markup=False, soft_wrap=True)

    return say


def _program() -> list[str]:
    """Return how we were started: by our own name, or by a script around us (docs/benchmarks/with_torchquantum.py)."""
    name = Path(sys.argv[0]).name
    return ["python", "-m", "qtrl_hpc.bench"] if name in ("__main__.py", "qtrl-bench") else ["python", name]


def _section_names(only: list[str] | None) -> list[str]:
    for name in only or []:
        if name not in SECTIONS:
            raise UserError(f"--only: got {name!r}, expected some of {', '.join(SECTIONS)}")
    return [name for name in SECTIONS if only is None or name in only]


def _parser() -> OneLineParser:
    parser = OneLineParser(prog="qtrl_hpc.bench", description=__doc__, allow_abbrev=False)
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"some figures only: {', '.join(SECTIONS)}")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, shorter runs: about a minute or two")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="also write a dated report to DIR: Markdown and JSON"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
