"""A script that trains by the Python API under mpirun; argument: what goes wrong on rank 1, if anything."""

import os
import sys

from qtrl_hpc import UserError, preset, train

RANK = int(os.environ["OMPI_COMM_WORLD_RANK"])
QUICK = {"env_id": "CartPole-v1", "num_actions": 2, "policy_hidden_sizes": [8], "layers": 1, "qpu": "statevector"}
QUICK |= {"max_episode_steps": 20, "updates": 8, "seed": 3}


def stop_after_three(row):
    return row["update"] < 3


def say(result):
    print(f"rank {RANK}: {result.update} {result.why} {len(result.rewards)} {result.theta.sum()!r}", flush=True)


def main(fault):
    config = preset("tuned", **QUICK)
    if fault == "other":
        try:
            train(preset("tuned", **{**QUICK, "seed": RANK}), run_dir="other")
        except UserError as error:
            print(f"rank {RANK}: {error}", flush=True)
        return
    if fault == "raises":
        if RANK == 1:
            sys.modules["qtrl_hpc.training"].make_fleet = None
        train(config, run_dir="raises")
    say(train(config, run_dir="whole"))
    say(train(config, run_dir="parts", on_update=stop_after_three))
    say(train(config, run_dir="parts", resume=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
