"""How noisy a QPU is: a small YAML file, or the noise of one of Qiskit's fake back ends, for all agents or each."""

import json
import re
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from qtrl_hpc import yaml_text
from qtrl_hpc.errors import one_line, shown

FAKE = "fake:"
# e^(3z) makes a hundredth of the agents' QPUs a thousand times as good or as bad as what was given.
MOST_SPREAD = 3.0
# Of any number, so that what is drawn around it is finite too.
MOST = 1e100
EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


@dataclass(frozen=True, kw_only=True)
class NoiseSettings:
    """The noise of one QPU. Gates in which it is counted: U3 (one qubit) and CX (two); a frame change is free."""

    one_qubit_rate: float = 0.0
    """Depolarising after each one-qubit gate: with this probability the qubit is replaced by I/2."""
    two_qubit_rate: float = 0.0
    """Depolarising after each two-qubit gate: with this probability both qubits are replaced by I/4."""
    t1: float | None = None
    """Amplitude damping: time constant of a qubit's energy, seconds; null for none."""
    t2: float | None = None
    """Time constant of a qubit's coherence, seconds, at most 2·T1; null for 2·T1, no damping of phase alone."""
    one_qubit_time: float = 0.0
    """Seconds that a one-qubit gate takes, for T1 and T2."""
    two_qubit_time: float = 0.0
    """Seconds that a two-qubit gate takes, for T1 and T2."""
    readout_error: tuple[float, float] = (0.0, 0.0)
    """Probabilities of reading 1 where the bit is 0, and 0 where it is 1; in YAML one number stands for both."""
    spread: float = 0.0
    """How much agents' QPUs differ: each number above is multiplied by e^(spread·z), z normal, drawn for each agent."""
    fake: str | None = None
    """Take all from this fake back end of Qiskit's instead, with its coupling map and basis gates."""

    def __post_init__(self) -> None:
        for name in ("one_qubit_rate", "two_qubit_rate"):
            _check(name, getattr(self, name), 0.0, 1.0)
        for name in ("one_qubit_time", "two_qubit_time"):
            _check(name, getattr(self, name), 0.0)
        _check("spread", self.spread, 0.0, MOST_SPREAD)
        for name in ("t1", "t2"):
            if getattr(self, name) is not None:
                _check(name, getattr(self, name), 0.0, above=True)
        if self.t1 is not None and self.t2 is not None and self.t2 > 2.0 * self.t1:
            raise ValueError(f"t2: got {self.t2:g}, expected at most 2·t1 = {2.0 * self.t1:g} seconds")
        if (self.t1 or self.t2) and not (self.one_qubit_time or self.two_qubit_time):
            raise ValueError("t1, t2: got no one_qubit_time and no two_qubit_time, expected seconds that gates take")
        if (self.one_qubit_time or self.two_qubit_time) and not (self.t1 or self.t2):
            raise ValueError("one_qubit_time, two_qubit_time: got no t1 and no t2, expected either in seconds")
        if len(self.readout_error) != 2:
            raise ValueError(f"readout_error: got {list(self.readout_error)}, expected a number, or a list of two")
        for value in self.readout_error:
            _check("readout_error", value, 0.0, 1.0)
        if self.fake is not None:
            if not isinstance(self.fake, str) or not self.fake:
                raise ValueError(f"fake: got {shown(self.fake)}, expected the name of a fake back end of Qiskit's")
            if self.to_dict().keys() != {"fake"}:
                raise ValueError(f"fake: got {shown(self.fake)} beside other numbers, expected it alone")

    def to_dict(self) -> dict[str, Any]:
        """Return what differs from the defaults, as YAML and JSON hold it."""
        values = asdict(self)
        kept = {field.name: values[field.name] for field in fields(self) if values[field.name] != field.default}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in kept.items()}

    def drawn(self, rng: np.random.Generator) -> "NoiseSettings":
        """Return the settings of one agent: each number multiplied by e^(spread·z), within what is possible."""
        if self.spread == 0.0:
            return self
        names = ["one_qubit_rate", "two_qubit_rate", "t1", "t2", "one_qubit_time", "two_qubit_time"]
        factors = dict(zip([*names, "a", "b"], np.exp(self.spread * rng.standard_normal(len(names) + 2)), strict=True))
        values: dict[str, Any] = {}
        for name in names:
            old = getattr(self, name)
            values[name] = None if old is None else float(old * factors[name])
        for name in ("one_qubit_rate", "two_qubit_rate"):
            values[name] = min(1.0, values[name])
        if values["t1"] is not None and values["t2"] is not None:
            values["t2"] = min(values["t2"], 2.0 * values["t1"])
        a, b = self.readout_error
        values["readout_error"] = (min(1.0, float(a * factors["a"])), min(1.0, float(b * factors["b"])))
        return replace(self, spread=0.0, **values)


def read_noise(text: object, folder: Path = Path()) -> str:
    """Return ``--noise`` as a configuration holds it: the files that it names replaced by what is in them, as JSON.

    So a run keeps the numbers themselves, and the other ranks need not have the file.

    Args:
        text: ``fake:NAME``, the name of a YAML file, YAML in braces or brackets, a mapping, or a list of any of these.
        folder: that the names of files are meant in; those in a file are meant in the file's own.

    Raises:
        ValueError: naming the file and the key, what was got and what is expected.
    """
    return _to_text(_read(text, folder))


def noise_settings(text: str) -> list[NoiseSettings]:
    """Return the settings that a configuration holds: one for all agents, or one for each.

    Raises:
        ValueError: it is not what ``read_noise`` returns.
    """
    try:
        value = json.loads(text)
    except (ValueError, TypeError):
        raise ValueError("expected what read_noise returns: JSON") from None
    return [_settings(each) for each in (value if isinstance(value, list) else [value])]


def settings_of(text: str, num_agents: int) -> list[NoiseSettings]:
    """Return the settings of each agent, before ``spread`` is drawn.

    Raises:
        ValueError: a list has not as many as there are agents.
    """
    found = noise_settings(text)
    if not isinstance(json.loads(text), list):
        return found * num_agents
    if len(found) != num_agents:
        raise ValueError(f"got a list of {len(found)}, expected one for each of the {num_agents} agents")
    return found


def _read(value: object, folder: Path, *, in_list: bool = False) -> list[NoiseSettings] | NoiseSettings:
    if isinstance(value, dict):
        return _settings(value)
    if isinstance(value, list):
        if in_list or not value:
            raise ValueError(f"got {shown(value)}, expected a list with the settings of each agent")
        return [_one(each, folder) for each in value]
    if not isinstance(value, str) or not value:
        raise ValueError(f"got {shown(value)}, expected fake:NAME or a YAML file")
    if value.startswith(FAKE):
        return _settings({"fake": value.removeprefix(FAKE)})
    if value[0] in "{[":
        return _read(_yaml(value, shown(value)), folder, in_list=in_list)
    path = folder / value
    try:
        written = yaml_text.read(path)
    except (OSError, ValueError) as error:
        reason = f" ({error})" if isinstance(error, ValueError) else ""
        raise ValueError(
            f"got {shown(str(path))}, expected fake:NAME or a YAML file that can be read{reason}"
        ) from None
    try:
        found = _yaml(written, "it")
        if not isinstance(found, dict | list):
            raise ValueError("expected lines KEY: VALUE, or a list of such for each agent")
        return _read(found, path.parent, in_list=in_list)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _one(value: object, folder: Path) -> NoiseSettings:
    found = _read(value, folder, in_list=True)
    assert isinstance(found, NoiseSettings)
    return found


def _yaml(text: str, name: str) -> object:
    try:
        return yaml_text.load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"got {name}, which is not YAML as it is expected ({one_line(error)})") from None


def _settings(values: object) -> NoiseSettings:
    names = [field.name for field in fields(NoiseSettings)]
    if not isinstance(values, dict):
        raise ValueError(f"got {shown(values)}, expected lines KEY: VALUE")
    for name in values:
        if name not in names:
            raise ValueError(f"got the key {shown(name)}, expected some of {', '.join(names)}")
    given: dict[str, Any] = {name: _number(value) for name, value in values.items()}
    if "readout_error" in given:
        error = given["readout_error"]
        given["readout_error"] = tuple(map(_number, error)) if isinstance(error, list) else (error, error)
    return NoiseSettings(**given)


def _number(value: object) -> object:
    """Return 1e-4 as the number that is meant; to YAML it is text, as it has no point."""
    return float(value) if isinstance(value, str) and EXPONENT.fullmatch(value) else value


def _to_text(settings: list[NoiseSettings] | NoiseSettings) -> str:
    plain = [each.to_dict() for each in settings] if isinstance(settings, list) else settings.to_dict()
    return json.dumps(plain, sort_keys=True)


def _check(name: str, value: object, low: float, high: float = MOST, *, above: bool = False) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    number = number and abs(value) < 2**1023  # type: ignore[arg-type]  # else no float64 holds it
    inside = number and (low < value if above else low <= value) and value <= high  # type: ignore[operator]
    if not inside:
        bounds = f"{'above' if above else 'of at least'} {low:g} and at most {high:g}"
        raise ValueError(f"{name}: got {shown(value)}, expected a number {bounds}")
