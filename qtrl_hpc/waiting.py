"""Calls that may never return: waited for so long, then left behind."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# Between two looks at whether to go on waiting.
SECONDS_BETWEEN_LOOKS = 0.1
CALLED_OFF = "not waited for, as the run was asked to stop"

_left_behind: list[threading.Thread] = []


class GivenUpError(Exception):
    """Waiting was called off."""


def never() -> bool:
    """Return that waiting is not called off."""
    return False


def within(seconds: float | None, call: Callable[[], T], called_off: Callable[[], bool] = never) -> T:
    """Return what a call returns, or give it up: it then goes on in a thread of its own, which nobody waits for.

    Args:
        seconds: to wait; infinity to wait until it is called off; None to make the call in this thread, to its end.
        call: may never return.
        called_off: is asked again and again whether to give up.

    Raises:
        TimeoutError: it took longer.
        GivenUpError: it was called off.
    """
    if seconds is None:
        return call()
    results: list[T] = []
    errors: list[BaseException] = []
    ended = threading.Event()

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # raised again below
            errors.append(error)
        ended.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        _wait(ended, seconds, called_off)
    except GivenUpError:
        _leave_behind(thread)
        raise
    if errors:
        raise errors[0]
    if not results:
        _leave_behind(thread)
        raise TimeoutError(f"no result after {seconds:g} s")
    return results[0]


def pause(seconds: float, called_off: Callable[[], bool] = never) -> None:
    """Sleep.

    Raises:
        GivenUpError: it was called off.
    """
    _wait(threading.Event(), seconds, called_off)


def any_left_behind() -> bool:
    """Return whether a call that was given up still goes on; at its end Python would wait for what that has started."""
    _left_behind[:] = [thread for thread in _left_behind if thread.is_alive()]
    return bool(_left_behind)


def _wait(event: threading.Event, seconds: float, called_off: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0.0 and not event.wait(min(left, SECONDS_BETWEEN_LOOKS)):
        if called_off():
            raise GivenUpError(CALLED_OFF)


def _leave_behind(thread: threading.Thread) -> None:
    any_left_behind()  # forgets those that have ended
    _left_behind.append(thread)
