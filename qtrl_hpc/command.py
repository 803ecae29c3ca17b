"""What all commands have in common: how a command line is read and refused, and by whom under a launcher."""

import os
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from qtrl_hpc.errors import EXIT_BAD_INPUT, EXIT_DONE, UserError
from qtrl_hpc.launcher import launched_rank


class OneLineParser(ArgumentParser):
    """An argparse parser whose errors are ``UserError``."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of exiting."""
        raise UserError(message)


def run_refusing(command: Callable[[list[str]], int], argv: list[str] | None) -> int:
    """Run a command that needs no MPI; print a ``UserError`` as one line and return exit code 2.

    Under a launcher its first process alone does the work.

    Args:
        command: reads the command line, does what it says and returns the exit code.
        argv: the command line; None for this process's own.
    """
    if launched_rank(os.environ) > 0:
        return EXIT_DONE
    try:
        return command(sys.argv[1:] if argv is None else argv)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT


def command_line(argv: list[str] | None, print_help: Callable[[], None]) -> list[str]:
    """Return the command line of a command that every rank runs; one that asks for help ends here, with one help text.

    Args:
        argv: the command line; None for this process's own.
        print_help: is called by the first process alone.
    """
    arguments = sys.argv[1:] if argv is None else argv
    if "-h" in arguments or "--help" in arguments:
        if launched_rank(os.environ) == 0:
            print_help()
        sys.exit(EXIT_DONE)
    return arguments


def whole_number(low: int, high: int | None = None) -> Callable[[str], int]:
    """Return what reads a whole number of at least ``low``, and at most ``high``, from a command line."""
    expected = f"a whole number of at least {low}" if high is None else f"a whole number from {low} to {high}"

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or int(text) < low or (high is not None and int(text) > high):
            raise ArgumentTypeError(f"got {text!r}, expected {expected}")
        return int(text)

    return read


def non_empty_path(text: str) -> Path:
    """Read a path from a command line; an unset variable of a script is none."""
    if not text:
        raise ArgumentTypeError("got '', expected the name of a directory")
    return Path(text)


def existing(path: Path, refusal: str) -> Path:
    """Return the path of a file that is there.

    Raises:
        UserError: it is not, in the words of ``refusal``.
    """
    try:
        found = path.is_file()
    except OSError:
        found = False
    if not found:
        raise UserError(refusal)
    return path
