"""``space.yaml``: which values are fixed, and from where the others are drawn."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from qtrl_hpc.cli import DEFAULT_PRESET, build, naming, preset, values_of, yaml_mapping
from qtrl_hpc.config import Config
from qtrl_hpc.errors import UserError, shown

RANGE_KEYS = ("low", "high", "log", "step")


class Trial(Protocol):
    """What of ``optuna.Trial`` is asked for values."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return a whole number from ``low`` to ``high``."""
        ...

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return a number from ``low`` to ``high``."""
        ...

    def suggest_categorical(self, name: str, choices: list[str]) -> Any:
        """Return one of the choices."""
        ...


@dataclass(frozen=True)
class Range:
    """A number from ``low`` to ``high``: whole where both are, else any, or in steps from ``low``."""

    name: str
    low: float
    high: float
    log: bool = False
    step: float | None = None

    def suggest(self, trial: Trial) -> Any:
        """Return what a trial has here."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(self.name, self.low, self.high, step=int(self.step or 1), log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)

    def value(self, param: Any) -> Any:
        """Return the value that Optuna keeps as ``param``."""
        return param

    def to_dict(self) -> dict[str, Any]:
        """Return it as ``space.yaml`` says it."""
        step = {} if self.step is None else {"step": self.step}
        return {"low": self.low, "high": self.high, **({"log": True} if self.log else {}), **step}


@dataclass(frozen=True)
class Choice:
    """One of some values. Optuna keeps their JSON: it knows no lists."""

    name: str
    choices: tuple[Any, ...]

    def suggest(self, trial: Trial) -> Any:
        """Return what a trial has here."""
        return self.value(trial.suggest_categorical(self.name, [json.dumps(choice) for choice in self.choices]))

    def value(self, param: Any) -> Any:
        """Return the value that Optuna keeps as ``param``."""
        return json.loads(param)

    def to_dict(self) -> dict[str, Any]:
        """Return it as ``space.yaml`` says it."""
        return {"choices": list(self.choices)}


@dataclass(frozen=True)
class Space:
    """What a sweep looks through."""

    config: Config
    """The fixed values; in place of the others, the first of those that may be drawn."""
    dimensions: tuple[Range | Choice, ...]

    def config_of(self, values: dict[str, Any]) -> Config:
        """Return a trial's configuration.

        Raises:
            UserError: the values do not go together.
        """
        return build({**self.config.to_dict(), **values})

    def to_json(self) -> str:
        """Return text, to send to other ranks."""
        return json.dumps({"config": self.config.to_dict(), "space": self.to_dict()})

    def to_dict(self) -> dict[str, Any]:
        """Return the dimensions, as ``space.yaml`` says them."""
        return {dimension.name: dimension.to_dict() for dimension in self.dimensions}

    @classmethod
    def from_json(cls, text: str) -> "Space":
        """Read what ``to_json`` wrote."""
        written = json.loads(text)
        dimensions = [
            Choice(name, tuple(keys["choices"])) if "choices" in keys else Range(name, **keys)
            for name, keys in written["space"].items()
        ]
        return cls(Config.from_dict(written["config"]), tuple(dimensions))


def read_space(path: Path, flags: dict[str, Any]) -> Space:
    """Read a ``space.yaml``: names of flags with fixed values, ``preset``, and ``space``.

    Args:
        path: of the file.
        flags: fixed values from the command line, which win.

    Raises:
        UserError: naming the file and the key, what was got and what is expected.
    """
    with naming(path):
        written = yaml_mapping(path)
        dimensions = written.pop("space", None)
        name = written.pop("preset", DEFAULT_PRESET)
        if not isinstance(dimensions, dict) or not dimensions:
            raise UserError("space: expected NAME: {low, high} or NAME: {choices: [...]}, at least one")
        base = preset(str(name))
        for name in dimensions:
            if name in written:
                raise UserError(f"space: {name} is fixed in the same file, expected one of the two")
            if name in flags:
                raise UserError(f"space: {name} is fixed by its flag, expected one of the two")
        fixed = {**base.to_dict(), **values_of(written, path.parent), **flags}
        found = tuple(_dimension(str(name), keys, path.parent) for name, keys in dimensions.items())
        first = {each.name: _ends(each)[0] for each in found}
        config = build({**fixed, **first})
        for each in found:
            for value in _ends(each)[1:]:
                with naming(f"space: {each.name}"):
                    replace(config, **{each.name: value})
    return Space(config, found)


def _dimension(name: str, keys: object, folder: Path) -> Range | Choice:
    if not isinstance(keys, dict) or not (set(keys) == {"choices"} or {"low", "high"} <= set(keys)):
        raise UserError(f"space: {shown(name)}: got {shown(keys)}, expected {{low, high}} or {{choices: [...]}}")
    if set(keys) == {"choices"}:
        choices = keys["choices"]
        if not isinstance(choices, list) or not choices:
            raise UserError(f"space: {name}: got choices {shown(choices)}, expected a list of values")
        values = tuple(_plain(name, choice, folder) for choice in choices)
        if len({json.dumps(value) for value in values}) < len(values):
            raise UserError(f"space: {name}: got a choice twice in {shown(choices)}")
        return Choice(name, values)
    unknown = [key for key in keys if key not in RANGE_KEYS]
    if unknown:
        raise UserError(f"space: {name}: got the key {shown(unknown[0])}, expected {', '.join(RANGE_KEYS)}")
    low, high = (_plain(name, keys[key], folder) for key in ("low", "high"))
    if not all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high)):
        raise UserError(f"space: {name}: got low and high, expected choices: its values are no numbers")
    if not low < high:
        raise UserError(f"space: {name}: got low {low} and high {high}, expected a low below high")
    log, step = keys.get("log", False), keys.get("step")
    if not isinstance(log, bool) or (log and (step is not None or low <= 0)):
        raise UserError(f"space: {name}: got log {shown(log)}, expected true, with a low above 0 and no step, or false")
    return Range(name, low, high, log, None if step is None else _step(name, low, high, step))


def _step(name: str, low: float, high: float, step: object) -> float:
    is_whole = isinstance(low, int)
    right = isinstance(step, int if is_whole else int | float) and not isinstance(step, bool) and float(str(step)) > 0
    if right:
        steps = (high - low) / float(str(step))
        right = math.isfinite(steps) and abs(steps - round(steps)) < 1e-9 * steps
    if not right:
        kind = "whole number" if is_whole else "number"
        raise UserError(f"space: {name}: got step {shown(step)}, expected a {kind} above 0 that leads from low to high")
    return int(str(step)) if is_whole else float(str(step))


def _plain(name: str, value: object, folder: Path) -> Any:
    """Return a value of the type that the flag of its name has, as JSON knows it."""
    try:
        found = values_of({name: value}, folder)[name]
    except UserError as error:
        raise UserError(f"space: {error}") from None
    return list(found) if isinstance(found, tuple) else found


def _ends(dimension: Range | Choice) -> tuple[Any, ...]:
    return dimension.choices if isinstance(dimension, Choice) else (dimension.low, dimension.high)
