"""Rank 1 never comes to the end; rank 0 has two seconds of patience."""

import time

from qtrl_hpc.distributed import World
from qtrl_hpc.job import launch


def command(world: World, text: str) -> int:
    world.patience = 2.0
    if world.rank == 1:
        time.sleep(100.0)
    return 0


launch(lambda: "", command)
