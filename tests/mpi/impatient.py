"""The training command with another limit for the start of MPI: seconds, then the command's flags."""

import sys

from qtrl_hpc import distributed, train

distributed.SECONDS_TO_START = float(sys.argv[1])
train.main(sys.argv[2:])
