"""Calls that may never return: waited for so long, then left behind."""

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_left_behind: list[threading.Thread] = []


def within(seconds: float | None, call: Callable[[], T]) -> T:
    """Return what a call returns, or give it up: it then goes on in a thread of its own, which nobody waits for.

    Raises:
        TimeoutError: it took longer.
    """
    if seconds is None:
        return call()
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # raised again below
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        _left_behind.append(thread)
        raise TimeoutError(f"no result after {seconds:g} s")
    return results[0]


def any_left_behind() -> bool:
    """Return whether a call that was given up still goes on; at its end Python would wait for what that has started."""
    return any(thread.is_alive() for thread in _left_behind)
