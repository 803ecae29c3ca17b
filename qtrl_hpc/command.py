"""What all commands have in common: how a command line is read and refused, and by whom under a launcher."""

import os
import re
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn

from qtrl_hpc.errors import EXIT_BAD_INPUT, EXIT_DONE, EXIT_INTERRUPTED, UserError
from qtrl_hpc.launcher import launched_rank
from qtrl_hpc.registry import did_you_mean
from qtrl_hpc.streams import harden_streams


class OneLineParser(ArgumentParser):
    """An argparse parser whose errors are ``UserError``."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of exiting."""
        raise UserError(with_guess(message, self._option_string_actions))


def with_guess(message: str, flags: Iterable[str]) -> str:
    """Return argparse's message about a flag that there is not, with the one that is closest."""
    unknown = re.match(r"unrecognized arguments: (--[\w-]+)", message, re.IGNORECASE)
    return message + (did_you_mean(unknown[1], flags) if unknown else "")


def run_refusing(command: Callable[[list[str]], int], argv: list[str] | None) -> int:
    """Run a command that needs no MPI; print a ``UserError`` as one line and return exit code 2, or 130 for Ctrl-C.

    Under a launcher its first process alone does the work.

    Args:
        command: reads the command line, does what it says and returns the exit code.
        argv: the command line; None for this process's own.
    """
    harden_streams()
    if launched_rank(os.environ) > 0:
        return EXIT_DONE
    try:
        return command(sys.argv[1:] if argv is None else argv)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def command_line(argv: list[str] | None, print_help: Callable[[], None]) -> list[str]:
    """Return the command line of a command that every rank runs; one that asks for help ends here, with one help text.

    Args:
        argv: the command line; None for this process's own.
        print_help: is called by the first process alone.
    """
    harden_streams()
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
        UserError: it is not, in the words of ``refusal``; or nobody may know.
    """
    try:
        found = path.is_file()
    except PermissionError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except OSError:
        found = False
    if not found:
        raise UserError(refusal)
    return path
