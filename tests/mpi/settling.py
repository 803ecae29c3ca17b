"""Ranks 1 to 3 have come to the end, rank 0 has not: all must come together again, whether rank 2 has died or nobody.

Each prints the size that is left, the number of members, and the sum of all its ranks' tens and ones.
"""

import os
import signal
import sys
import time

import numpy as np

from qtrl_hpc.distributed import RanksLostError, World

world = World.connect()
world.tolerate()
world.barrier()
if world.rank == 2 and sys.argv[1] == "rank 2":
    os.kill(os.getpid(), signal.SIGKILL)
for _ in range(2):  # what the first leaves behind must not spoil the second
    try:
        if world.rank == 0:
            time.sleep(0.3)
            raise RanksLostError("so it seems")
        world.settle()
    except RanksLostError:
        world.shrink()
world.settle()
total = world.sum(np.array([[10.0 / world.size]]), places=None, count=world.size)
print(f"{world.size}:{len(world.members)}:{total[0]:.0f}", flush=True)
world.finish()
sys.stdout.flush()
os._exit(0)
