"""Rank 2 is dead before the others agree to outlive deaths: one that is late must not end while another goes on."""

import os
import signal
import sys
import time

from qtrl_hpc.distributed import RanksLostError, World

world = World.connect()
if world.rank == 2:
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(0.3 * world.rank)
try:
    world.tolerate()
    print("goes on", flush=True)
except RanksLostError as loss:
    print(world.end_of(loss), flush=True)
world.finish()
sys.stdout.flush()
os._exit(0)
