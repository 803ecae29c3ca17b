"""Run a command that SIGTERM does not reach: ``python jobs/without_sigterm.py mpirun …``.

scancel sends SIGTERM to every process of a job, and Open MPI's mpirun, or any of its daemons on the other nodes, then
kills the ranks a quarter of a second later. Without it they have as long as Slurm gives them (KillWait, 30 s unless the
site says otherwise). The ranks themselves do get SIGTERM: Open MPI sets their signals to what is usual.
"""

import os
import signal
import sys

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # what is blocked stays so in the command
os.execvp(sys.argv[1], sys.argv[1:])
