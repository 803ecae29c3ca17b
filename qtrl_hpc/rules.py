"""Rules that the values of a configuration keep; what breaks one is refused by the name of its flag."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NoReturn, get_args

from qtrl_hpc import registry
from qtrl_hpc.errors import shown


@dataclass(frozen=True, kw_only=True)
class Checked:
    """Fields that are checked when they are set: each topic's ``__post_init__`` names them, rule by rule.

    A rule raises ValueError. What a field's type says is not said again: its ``Literal`` lists the choices, and a
    number may be null where its type has None.
    """

    def __post_init__(self) -> None:
        """End the chain of the topics' checks."""

    def _whole(self, *names: str, low: int = 1, high: int | None = None) -> None:
        for name in names:
            value = getattr(self, name)
            if self._is_null(name, value):
                continue
            if isinstance(value, int) and high is not None and value > high:
                refuse(name, value, f"at most {high}")
            if not is_whole(value) or value < low:
                refuse(name, value, f"a whole number of at least {low}{_below(value)}")

    def _number(self, *names: str, low: float = -math.inf, high: float = math.inf, above: float = -math.inf) -> None:
        for name in names:
            value = getattr(self, name)
            if self._is_null(name, value):
                continue
            if not (_is_number(value) and math.isfinite(value) and low <= value <= high and above < value):
                bounds = [f"above {above:g}"] if above > -math.inf else []
                bounds += [f"of at least {low:g}"] if low > -math.inf else []
                bounds += [f"of at most {high:g}"] if high < math.inf else []
                refuse(name, value, " ".join(["a finite number", " and ".join(bounds)]).strip())

    def _truth(self, name: str) -> None:
        if not isinstance(getattr(self, name), bool):
            refuse(name, getattr(self, name), "true or false")

    def _choice(self, *names: str) -> None:
        for name in names:
            choices = get_args(self._type(name))
            if getattr(self, name) not in choices:
                refuse(name, getattr(self, name), f"one of {', '.join(choices)}")

    def _name(self, name: str, names: Collection[str], further: str = "") -> None:
        value = getattr(self, name)
        try:
            registry.check_name(value, names, further=further)
        except ValueError as error:
            raise ValueError(f"{flag_of(name)}: got {shown(value)}, {error}") from None

    def _sizes(self, name: str) -> None:
        value = getattr(self, name)
        if not isinstance(value, list | tuple) or not all(is_whole(size) and size > 0 for size in value):
            refuse(name, value, "a list of layer sizes of at least 1, as in [10,64,10]")
        object.__setattr__(self, name, tuple(value))

    def _is_null(self, name: str, value: object) -> bool:
        return value is None and type(None) in get_args(self._type(name))

    def _type(self, name: str) -> Any:
        return self.__dataclass_fields__[name].type


def flag_of(name: str) -> str:
    """Return the flag of a configuration's field."""
    return f"--{name.replace('_', '-')}"


def refuse(name: str, got: object, expected: str) -> NoReturn:
    """Refuse the value of a field.

    Raises:
        ValueError: naming the flag, what was got and what is expected.
    """
    raise ValueError(f"{flag_of(name)}: got {shown(got)}, expected {expected}")


def is_whole(value: object) -> bool:
    """Return whether a value is a whole number of 64 bits."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _below(value: object) -> str:
    """Return words for the upper bound of whole numbers, where it is what was missed."""
    return " and below 2^63" if isinstance(value, int) and value >= 2**63 else ""


def _is_number(value: object) -> bool:
    """Return whether a value is a number that float64 can hold; NaN and infinity are."""
    is_int = isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, float) or (is_int and abs(int(value)) < 2**1023)  # type: ignore[call-overload]
