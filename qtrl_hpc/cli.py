"""Command lines and YAML files -> configuration."""

import json
import re
from argparse import ArgumentError
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from importlib.resources import files
from itertools import count
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml

from qtrl_hpc import yaml_text
from qtrl_hpc.command import OneLineParser, existing, non_empty_path, with_guess
from qtrl_hpc.config import TOPICS, Config, title_of
from qtrl_hpc.errors import UserError, one_line
from qtrl_hpc.noise import read_noise
from qtrl_hpc.rules import flag_of

DEFAULT_PRESET = "tuned"

TYPE_WORDS = {
    int: "a whole number",
    float: "a number",
    str: "text",
    int | None: "a whole number or null",
    float | None: "a number or null",
    bool: "true or false",
    str | None: "text or null",
    tuple[int, ...]: "a list of whole numbers, as in [10,64,10]",
    tuple[str, ...]: "a list of names, as in [tensorboard]",
}


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What ``qtrl_hpc.train`` is asked to do."""

    config: Config
    run_dir: Path
    resume: bool

    def to_json(self) -> str:
        """Return text, to send to other ranks."""
        return json.dumps({"config": self.config.to_dict(), "run_dir": str(self.run_dir), "resume": self.resume})

    @classmethod
    def from_json(cls, text: str) -> "TrainOptions":
        """Read what ``to_json`` wrote."""
        values = json.loads(text)
        return cls(config=Config.from_dict(values["config"]), run_dir=Path(values["run_dir"]), resume=values["resume"])


def preset_names() -> list[str]:
    """Return the names of the packaged presets."""
    return sorted(
        path.name.removesuffix(".yaml") for path in files("qtrl_hpc.presets").iterdir() if path.name.endswith(".yaml")
    )


def preset(name: str, **changes: Any) -> Config:
    """Return a packaged configuration with some values changed.

    Raises:
        UserError: there is no such preset, or a value makes no sense.
    """
    return build({**_file_values(_preset_path(name)), **changes})


def nearest_preset(
    values: Mapping[str, Any], *, ignoring: Collection[str] = ()
) -> tuple[str, dict[str, tuple[Any, Any]]]:
    """Return the packaged configuration that is nearest, and for each key that differs, its value and the one given.

    Args:
        values: of a configuration, by key.
        ignoring: keys that do not count.
    """
    found = {}
    for name in preset_names():
        theirs = preset(name).to_dict()
        both = {key: (theirs.get(key), ours) for key, ours in values.items() if key not in ignoring}
        found[name] = {key: (other, ours) for key, (other, ours) in both.items() if other != ours}
    nearest = min(found, key=lambda name: (len(found[name]), name != DEFAULT_PRESET))
    return nearest, found[nearest]


def read_config(path: Path | str, **changes: Any) -> Config:
    """Return what a YAML file sets, as ``--config`` reads it, with some values changed; the rest are field defaults.

    Raises:
        UserError: there is no such file, or a value makes no sense.
    """
    file = existing(Path(path), f"{path}: is not there, expected a YAML file")
    return build({**_file_values(file), **changes})


def fresh_run_dir(name: str, seed: int) -> Path:
    """Return the path of a directory that is not there yet, for a run of which nobody has said where."""
    path = Path("runs", f"{datetime.now():%Y%m%d-%H%M%S}-{name}-seed{seed}")
    others = (path.with_name(f"{path.name}-{number}") for number in count(2))
    return path if not path.exists() else next(other for other in others if not other.exists())


def parse_train(argv: list[str]) -> TrainOptions:
    """Read the command line of ``qtrl_hpc.train``.

    A later source wins: field defaults, the run's own ``config.yaml`` (with ``--resume``), the preset, ``--config``,
    flags. With ``--resume`` no preset is applied unless one is named.

    Raises:
        UserError: naming the flag or file, what was got and what is expected.
    """
    first = OneLineParser(prog="qtrl_hpc.train", add_help=False, allow_abbrev=False)
    first.add_argument("--preset", type=str)
    first.add_argument("--config", type=Path, action="append", default=[])
    first.add_argument("--run-dir", type=non_empty_path)
    first.add_argument("--resume", action="store_true")
    own, rest = first.parse_known_args(argv)
    if own.resume and own.run_dir is None:
        raise UserError("--resume: got no --run-dir, expected the directory of the run to go on with")
    sources: list[Path] = []
    if own.resume:
        sources.append(
            existing(
                own.run_dir / "config.yaml",
                f"--run-dir: got {own.run_dir}, which has no config.yaml, expected the directory of a run to --resume",
            )
        )
    name = own.preset or (None if own.resume else DEFAULT_PRESET)
    if name is not None:
        sources.append(_preset_path(name))
    sources += [existing(path, f"--config: got {path}, expected a YAML file that exists") for path in own.config]
    values: dict[str, Any] = {}
    for source in sources:
        values.update(_file_values(source))
    config = build({**values, **parse_values(rest, first._option_string_actions)})
    run_dir = own.run_dir or fresh_run_dir(name or "run", config.seed)
    return TrainOptions(config=config, run_dir=run_dir, resume=own.resume)


def print_train_help() -> None:
    """Print every flag of ``qtrl_hpc.train``, by topic, with the defaults of the default preset."""
    parser = _config_parser(parse_train([]).config)
    run = parser.add_argument_group("Where to start from, and where to write")
    run.add_argument("--preset", default=DEFAULT_PRESET, help=f"packaged configuration: {', '.join(preset_names())}")
    run.add_argument("--run-dir", default="runs/DATE-TIME-PRESET-SEED", help="directory of the run")
    run.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --run-dir")
    parser.print_help()


def _preset_path(name: str) -> Path:
    if name not in preset_names():
        raise UserError(f"--preset: got {name!r}, expected one of {', '.join(preset_names())}")
    return Path(str(files("qtrl_hpc.presets") / f"{name}.yaml"))


def _config_parser(defaults: Config | None = None) -> Any:
    """Return a parser of all flags; with ``defaults`` one whose help shows them, and says what each flag is."""
    import jsonargparse

    parser = jsonargparse.ArgumentParser(
        prog="qtrl_hpc.train",
        description="Train a policy whose weights a quantum circuit generates; every MPI rank is one agent with a QPU.",
        exit_on_error=False,
        default_env=False,
        allow_abbrev=False,
        print_config=None,
    )
    parser.add_argument("--config", action="config", help="YAML file of any of the values below; flags win over it")
    for topic in TOPICS:
        group = parser.add_argument_group(title_of(topic).rstrip("."))
        hints = get_type_hints(topic)
        helps = _descriptions(topic) if defaults else {}  # they take most of the time that a parser takes
        for field in fields(topic):
            if field.name in topic.__annotations__:
                flag = hints[field.name] is bool  # needs no value, though it takes one
                kind = (
                    {"action": jsonargparse.ActionYesNo(no_prefix="no-"), "nargs": "?"}
                    if flag
                    else {"type": hints[field.name]}
                )
                group.add_argument(
                    flag_of(field.name),
                    **kind,
                    default=getattr(defaults or topic, field.name),
                    help=helps.get(field.name),
                )
    return parser


def _descriptions(topic: type) -> dict[str, str | None]:
    from docstring_parser import parse_from_object

    return {item.arg_name: item.description for item in parse_from_object(topic).params}


def _file_values(path: Path) -> dict[str, Any]:
    """Return the values that a YAML file sets, each checked, so that a refusal can name the file."""
    with naming(path):
        values = values_of(yaml_mapping(path), path.parent)
        build(values)
    return values


@contextmanager
def naming(source: object) -> Iterator[None]:
    """Refuse, naming a file or what else it is from, whatever is wrong with what is read.

    Raises:
        UserError: inside the ``with`` something is refused, or cannot be read.
    """
    try:
        yield
    except (UserError, OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{source}: {one_line(error)}") from None


def yaml_mapping(path: Path) -> dict[str, Any]:
    """Return what a YAML file of lines KEY: VALUE says.

    Raises:
        UserError: it says something else.
        OSError: it cannot be read.
        ValueError: it is no YAML that we read.
    """
    written = yaml_text.load(yaml_text.read(path))
    if not isinstance(written, dict):
        raise UserError("expected a YAML file of lines KEY: VALUE")
    return written


def values_of(written: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return values as flags would give them, each of the type that its name asks for.

    Args:
        written: as a YAML file says them.
        folder: of the file, for the files that it names.

    Raises:
        UserError: naming the key.
    """
    _refuse_unnamed(written)
    plain = {name: value for name, value in written.items() if name != "noise"}  # which would be written in quotes
    values = parse_values([f"--config={yaml.safe_dump(plain)}"] if plain else [])
    if written.get("noise") is not None:
        values["noise"] = _noise(written["noise"], folder)
    return values


def _refuse_unnamed(written: dict[str, Any]) -> None:
    """Refuse what jsonargparse would without naming the key: no value where null is none of its values, no boolean."""
    hints = get_type_hints(Config)
    for name, value in written.items():
        if name not in hints:  # also what means something to jsonargparse: config would name a further file
            raise UserError(f"got the key {str(name)[:80]!r}, expected names of flags, as in learning_rate")
        empty = value is None and name in hints and type(None) not in get_args(hints[name])
        if empty or (hints.get(name) is bool and not isinstance(value, bool)):
            raise UserError(f"{flag_of(name)}: got {value}, expected {_in_words(hints[name])}")


def parse_values(argv: list[str], further: Iterable[str] = ()) -> dict[str, Any]:
    """Return only the values that ``argv`` itself sets, as plain types.

    Args:
        argv: flags of a configuration.
        further: flags that the command has besides, to guess what a misspelt one was to be.

    Raises:
        UserError: naming the flag, what was got and what is expected.
    """
    if not argv:
        return {}
    try:
        namespace = _config_parser().parse_args(argv, defaults=False)
    except (ArgumentError, SystemExit, OSError, ValueError) as error:
        flags = [*further, *(flag_of(field.name) for field in fields(Config))]
        raise UserError(with_guess(_our_words(one_line(error)), flags)) from None
    return {name: value for name, value in dict(namespace).items() if name != "config" and not name.startswith("__")}


def build(values: dict[str, Any]) -> Config:
    """Return a configuration of these values; the rest are field defaults.

    Raises:
        UserError: a key is unknown or a value makes no sense.
    """
    try:
        if values.get("noise") is not None:
            values = {**values, "noise": _noise(values["noise"])}
        return Config.from_dict(values)
    except ValueError as error:
        raise UserError(str(error)) from None


def _noise(given: object, folder: Path = Path()) -> str:
    """Return ``--noise`` with what its files hold in their place: a run keeps the numbers themselves."""
    try:
        return read_noise(given, folder)
    except (ValueError, TypeError) as error:
        raise ValueError(f"--noise: {one_line(error)}") from None


def _our_words(message: str) -> str:
    """Return jsonargparse's message about a value, with the flag's name and what a person would call its type."""
    if found := re.match(r"argument (--[\w-]+)/.*invalid _boolean_type value: (.*)", message):
        return f"{found[1]}: got {found[2]}, expected {_in_words(bool)}"
    found = re.search(r'Parser key "(\w+)"', message)
    if not found or found[1] not in (hints := get_type_hints(Config)):
        return message
    got = re.search(r"(?:Got|Given) value: (\S*)", message)
    value = got[1][:100] if got else repr("")
    return f"{flag_of(found[1])}: got {value}, expected {_in_words(hints[found[1]])}"


def _in_words(hint: Any) -> str:
    return TYPE_WORDS.get(hint) or f"one of {', '.join(get_args(hint))}"
