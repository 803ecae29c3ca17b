"""Train a policy whose weights a quantum circuit generates: ``mpirun -n 8 python -m qtrl_hpc.train``.

From Python, ``qtrl_hpc.train(config)``: this module is also the function of its name (qtrl_hpc/api.py).
"""

import atexit
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn

from qtrl_hpc.cli import TrainOptions, asks_for_help, parse_train, print_train_help
from qtrl_hpc.distributed import World, launch
from qtrl_hpc.errors import EXIT_DONE, EXIT_STOPPED
from qtrl_hpc.launcher import launched_rank
from qtrl_hpc.stop import StopRequest
from qtrl_hpc.streams import harden_streams
from qtrl_hpc.training import train

if TYPE_CHECKING:
    from qtrl_hpc.api import OnUpdate, TrainingResult
    from qtrl_hpc.config import Config


def main(argv: list[str] | None = None) -> NoReturn:
    """Run the command on every rank; exit codes as in docs/architecture.md."""
    harden_streams()
    arguments = sys.argv[1:] if argv is None else argv
    if asks_for_help(arguments):
        if launched_rank(os.environ) == 0:
            print_train_help()
        sys.exit(EXIT_DONE)
    stop = StopRequest()
    atexit.register(stop.deafen)
    launch(
        lambda: parse_train(arguments).to_json(),
        lambda world, text: _command(world, TrainOptions.from_json(text), stop),
    )


def _command(world: World, options: TrainOptions, stop: StopRequest) -> int:
    return EXIT_DONE if train(world, options, stop).done else EXIT_STOPPED


class _Callable(ModuleType):
    """This module's class: importing it sets the package's ``train`` to it, which people call."""

    def __call__(
        self,
        config: "Config",
        *,
        run_dir: Path | str | None = None,
        resume: bool = False,
        on_update: "OnUpdate | None" = None,
    ) -> "TrainingResult":
        """Train as the command does (see ``qtrl_hpc.api.train``). Collective: all ranks."""
        from qtrl_hpc import api

        return api.train(config, run_dir=run_dir, resume=resume, on_update=on_update)


sys.modules[__name__].__class__ = _Callable

if __name__ == "__main__":
    main()
