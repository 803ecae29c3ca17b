"""``qtrl_hpc.reproduce table2`` with a rank of which every run fails: ``python -m failing_reproduction FOLDER``."""

import os
import sys

from qtrl_hpc.errors import TrainingError
from qtrl_hpc.reproduce import __main__ as command
from qtrl_hpc.reproduce import runner

run_one = runner.run_one


def failing(world, config, stop, say):
    """Fail on rank 1."""
    if os.environ["OMPI_COMM_WORLD_RANK"] == "1":
        raise TrainingError("no luck")
    return run_one(world, config, stop, say)


runner.run_one = failing
command.main(["table2", "--quick", "--preset=tuned", f"--out={sys.argv[1]}"])
