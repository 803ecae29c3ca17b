"""What World promises, tried on every rank; run by test_world.py under mpirun."""

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from qtrl_hpc.distributed import AgreedError
from qtrl_hpc.errors import TrainingError, UserError
from qtrl_hpc.job import launch


def check(world, text):
    assert text == "parsed by rank 0"
    assert world.size == 4
    assert (world.node_rank, world.node_size) == (world.rank, 4)  # all on one node
    texts = world.gather_text("αβ" * world.rank)
    assert texts == ["", "αβ", "αβαβ", "αβαβαβ"], texts

    vector = np.full(3, float(world.rank))
    world.broadcast(vector)
    assert vector.tolist() == [0.0, 0.0, 0.0]

    shared = world.share(np.arange(5.0) if world.rank == 0 else np.zeros(world.rank))
    assert shared.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert world.share(np.zeros(0 if world.rank == 0 else 3)).size == 0
    gathered = world.gather_numbers(np.full(world.rank, world.rank / 2))
    assert gathered.tolist() == ([0.5, 1.0, 1.0, 1.5, 1.5, 1.5] if world.rank == 0 else [])
    assert world.gather_numbers(np.zeros(0)).size == 0

    # Of these four the sum depends on the order: ((1 + 1e16) + 1) - 1e16 = 0, in exact arithmetic 2.
    rows = np.array(
        [[[1.0, 1.0], [1e16, 2.0]], [[1.0, 3.0], [-1e16, 4.0]], [[0.0, 5.0]] * 2, [[0.0, 6.0]] * 2][world.rank]
    )
    kept = rows.copy()
    assert world.sum(rows, places=[2 * world.rank, 2 * world.rank + 1], count=8).tolist() == [0.0, 32.0]
    assert world.sum(rows, places=None, count=8)[1] == 32.0
    assert (rows == kept).all()

    assert world.agree(lambda: world.rank) == world.rank
    with pytest.raises(AgreedError, match=r"^rank 2 refuses$"):
        world.agree(lambda: refuse(world) if world.rank >= 2 else None)
    assert world.from_first(lambda: f"rank {world.rank}") == "rank 0"

    world.check_same("same", "the digest")
    with pytest.raises(TrainingError, match="the digest differs between rank 0 and rank 3"):
        world.check_same("same" if world.rank != 3 else "other", "the digest")
    world.barrier()
    done = Path("first")
    world.first_then_others(lambda: (time.sleep(0.3), done.touch()) if world.rank == 0 else wait_for_nothing(done))
    print(f"rank {world.rank} is content", flush=True)
    return 7


def wait_for_nothing(done):
    assert done.exists()


def refuse(world):
    raise UserError(f"rank {world.rank} refuses")


def fail(world, text):
    if world.rank == 1:
        raise UserError("something only rank 1 knows")
    world.barrier()
    return 0


if __name__ == "__main__":
    launch(lambda: "parsed by rank 0", {"check": check, "fail": fail}[sys.argv[1]])
