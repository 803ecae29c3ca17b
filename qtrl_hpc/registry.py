"""What is chosen by name: one of ours, or MODULE:OBJECT of the user's own.

Functions raise ValueError, whose text says what was expected; who knows the flag puts it in front.
"""

import importlib
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, TypeVar

import numpy as np

from qtrl_hpc.errors import ReturnedError, UserError, one_line

T = TypeVar("T")

OWN = "MODULE:OBJECT"
MOST_PARTS = 8
"""Of a tuple that is described."""


def is_own(name: str) -> bool:
    """Return whether a name is MODULE:OBJECT."""
    return re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", name) is not None


def check_name(name: object, names: Collection[str], *, further: str = "") -> None:
    """Refuse what is neither one of the names nor MODULE:OBJECT; nothing is imported.

    Args:
        name: what was given.
        names: of ours.
        further: what else may stand there, in words.

    Raises:
        ValueError: listing what there is, and saying what is closest.
    """
    if not isinstance(name, str) or not (name in names or is_own(name)):
        choices = ", ".join([*names, *filter(None, [further]), OWN])
        raise ValueError(f"expected one of {choices}{did_you_mean(name, names)}")


def did_you_mean(name: object, names: Iterable[str], most: int = 1) -> str:
    """Return words that say which names are close to a name, or nothing."""
    close = get_close_matches(name, list(names), n=most) if isinstance(name, str) else []
    return f" (did you mean {' or '.join(close)}?)" if close else ""


def resolve(name: str, ours: Mapping[str, Callable[..., T]], expected: str) -> Callable[..., T]:
    """Return what a name stands for: ours, or what MODULE:OBJECT is once imported.

    Args:
        name: of ours, or MODULE:OBJECT.
        ours: by name.
        expected: of the user's own, in words.

    Raises:
        ValueError: there is no such name, module or object, the module raises, or the object cannot be called.
    """
    check_name(name, ours)
    if name in ours:
        return ours[name]
    found: Callable[..., T] = imported(name)
    if not callable(found):
        raise ValueError(f"expected {expected}, got {kind_of(found)}, which cannot be called")
    return found


def imported(name: str) -> Any:
    """Import MODULE and return OBJECT; modules are looked for in the current folder too, as by ``python -m``.

    Raises:
        ValueError: it cannot be imported, or has no such object.
    """
    module_name, _, attribute = name.partition(":")
    look_in_current_folder()
    module = made("a module that can be imported", lambda: importlib.import_module(module_name))
    close = did_you_mean(attribute, [each for each in vars(module) if not each.startswith("_")])
    return made(f"an object that the module has{close}", lambda: getattr(module, attribute))


def look_in_current_folder() -> None:
    """Let modules be imported from the current folder, as under ``python -m``, also for commands on PATH."""
    if os.getcwd() not in sys.path and not getattr(sys.flags, "safe_path", False):
        sys.path.insert(0, os.getcwd())


def made(expected: str, make: Callable[[], T]) -> T:
    """Return what a call of the user's own code returns.

    Args:
        expected: in words.
        make: the call.

    Raises:
        ValueError: whatever it raised, in one line.
    """
    try:
        return make()
    except (Exception, SystemExit) as error:  # the user's own code may raise anything
        raise ValueError(f"expected {expected} ({type(error).__name__}: {one_line(error)})") from None


def check_members(found: object, expected: str, attributes: Iterable[str], methods: Iterable[str]) -> None:
    """Refuse an object that lacks what a protocol has.

    Args:
        found: the object.
        expected: in words.
        attributes: that it must have.
        methods: that it must have, and that can be called.

    Raises:
        ValueError: naming the first that it lacks.
    """
    if missing := [each for each in (*attributes, *methods) if not hasattr(found, each)]:
        raise ValueError(f"expected {expected}: {kind_of(found)} has no {missing[0]}")
    if not all(callable(getattr(found, each)) for each in methods):
        raise ValueError(f"expected {expected} whose {' and '.join(methods)} can be called")


@contextmanager
def naming(flag: str, name: str, kind: type[ValueError] = ReturnedError) -> Iterator[None]:
    """Say which flag is meant, and what it was given.

    Args:
        flag: without the dashes.
        name: that it was given.
        kind: of error to put it in front of.

    Raises:
        UserError: in place of that error.
    """
    try:
        yield
    except kind as error:
        raise UserError(f"--{flag}: got {name!r}, {error}") from None


def check_array(name: str, found: object, shape: tuple[int, ...]) -> None:
    """Refuse what is no array of float64 of this shape.

    Args:
        name: of what returned it.
        found: what it returned.
        shape: expected.

    Raises:
        ReturnedError: saying what it is.
    """
    if not isinstance(found, np.ndarray) or found.dtype != np.float64 or found.shape != shape:
        raise ReturnedError(f"expected {name} to return float64 of shape {shape}, got {described(found)}")


def check_returned(name: str, found: object, shape: tuple[int, ...]) -> None:
    """Refuse what is no array of finite float64 of this shape (see ``check_array``)."""
    check_array(name, found, shape)
    if not np.isfinite(found).all():  # type: ignore[call-overload]  # an array, as was checked
        raise ReturnedError(f"expected {name} to return finite numbers")


def described(found: object) -> str:
    """Return what something is that was returned, for messages: an array by dtype and shape, a tuple by its parts."""
    if isinstance(found, tuple):
        return f"a tuple of {len(found)}: ({', '.join(map(described, found[:MOST_PARTS]))})"
    if isinstance(found, np.ndarray):
        return f"{found.dtype} of {found.shape}"
    return "None" if found is None else kind_of(found)


def kind_of(found: object) -> str:
    """Return the type of an object with its article, for messages."""
    kind = type(found).__name__
    return f"{'an' if kind[0] in 'aeioAEIO' else 'a'} {kind}"
