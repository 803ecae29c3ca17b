"""Search for a good configuration: ``python -m qtrl_hpc.sweep --config space.yaml --trials 50``.

Any number of these commands at once, on any nodes that see the directory, work on one study.
"""

import atexit
import json
from argparse import RawDescriptionHelpFormatter
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from qtrl_hpc.cli import parse_values
from qtrl_hpc.command import OneLineParser, command_line, existing, non_empty_path, whole_number
from qtrl_hpc.distributed import World
from qtrl_hpc.errors import UserError
from qtrl_hpc.job import launch
from qtrl_hpc.stop import StopRequest
from qtrl_hpc.sweep.search import search
from qtrl_hpc.sweep.space import Space, read_space
from qtrl_hpc.sweep.study import PRUNERS


@dataclass(frozen=True, kw_only=True)
class Options:
    """What ``qtrl_hpc.sweep`` is asked to do."""

    space: Space
    folder: Path
    trials: int
    pruner: str

    def to_json(self) -> str:
        """Return text, to send to other ranks."""
        return json.dumps([self.space.to_json(), str(self.folder), self.trials, self.pruner])

    @classmethod
    def from_json(cls, text: str) -> "Options":
        """Read what ``to_json`` wrote."""
        space, folder, trials, pruner = json.loads(text)
        return cls(space=Space.from_json(space), folder=Path(folder), trials=trials, pruner=pruner)


def main(argv: list[str] | None = None) -> NoReturn:
    """Run the command on every rank; exit codes as those of ``qtrl_hpc.train``."""
    arguments = command_line(argv, lambda: _parser().print_help())
    stop = StopRequest()
    atexit.register(stop.deafen)
    launch(lambda: parse(arguments).to_json(), lambda world, text: _command(world, Options.from_json(text), stop))


def _command(world: World, options: Options, stop: StopRequest) -> int:
    return search(world, options.space, options.folder, options.trials, options.pruner, stop)


def parse(argv: list[str]) -> Options:
    """Read the command line.

    Raises:
        UserError: naming the flag or file, what was got and what is expected.
    """
    parser = _parser()
    own, rest = parser.parse_known_args(argv)
    file = existing(own.config, f"--config: got {own.config}, expected a YAML file that exists")
    space = read_space(file, parse_values(rest, parser._option_string_actions))
    if space.config.on_agent_failure == "continue":
        raise UserError("--on-agent-failure: got 'continue', expected 'abort' in a sweep")
    folder = own.sweep_dir or Path("sweeps", file.stem)
    return Options(space=space, folder=folder, trials=own.trials, pruner=own.pruner)


def _parser() -> OneLineParser:
    parser = OneLineParser(
        prog="qtrl_hpc.sweep",
        description=__doc__,
        epilog="Any flag of qtrl_hpc.train fixes a value, and wins over the file.",
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("--config", type=Path, required=True, help="YAML file of fixed values and a space to draw from")
    parser.add_argument("--trials", type=whole_number(1), required=True, help="of the study in all, whoever runs them")
    parser.add_argument(
        "--sweep-dir", type=non_empty_path, help="directory of the study (default: sweeps/NAME-OF-FILE)"
    )
    parser.add_argument(
        "--pruner", choices=PRUNERS, default="median", help="what ends trials early that do badly (default: median)"
    )
    return parser


if __name__ == "__main__":
    main()
