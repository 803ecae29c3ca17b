"""What went wrong, sorted by who can mend it, and the exit codes that say so."""

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_STOPPED = 75  # EX_TEMPFAIL of sysexits.h: run again with --resume
EXIT_INTERRUPTED = 130  # as shells say it of a program that Ctrl-C has ended


class UserError(Exception):
    """Bad input: one line that names the flag or file, what was got and what is expected. Exit code 2."""


def one_line(error: BaseException) -> str:
    """Return what an error says, without its line breaks, nor what a terminal would act upon."""
    text = " ".join(str(error).split())
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def shown(value: object, most: int = 100) -> str:
    """Return what a person reads of a value in a message: its ``repr``, not all of it if it is long."""
    text = repr(value).replace("\n", " ")
    return text if len(text) <= most else f"{text[:most]}…"


class TrainingError(RuntimeError):
    """Training cannot go on, as every rank knows: a gradient is not finite, or replicas differ. Exit code 1."""


class WriteError(OSError):
    """A file cannot be written, which its text names: a full disk, a quota, one that became read-only. Exit code 1."""

    advice = ""
    """What to do then, for people."""

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.filename}: cannot be written ({self.strerror}){self.advice}"


class ReturnedError(ValueError):
    """Code of the user's own has returned something else than it must; who knows the flag puts it in front."""


class QpuError(Exception):
    """A QPU gave no result that can be used, however often it was asked: its agent sits the update out."""
