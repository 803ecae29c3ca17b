"""How ranks start: many that find no compiled kernels, and one that MPI keeps waiting."""

import sys

import pytest
from support import Job, metrics, train

pytestmark = pytest.mark.mpi


def test_four_ranks_at_once_leave_one_copy_of_each_kernel(tmp_path):
    kept = tmp_path / "kept"
    job = train(tmp_path / "run", "--updates=2", ranks=4, environ={"NUMBA_CACHE_DIR": str(kept)})
    assert "machine code" not in job.err  # it could be kept
    assert len(metrics(tmp_path / "run")) == 2
    kernels = [path.name.split("_float64")[0] for path in kept.rglob("*.nbi") if "float64" in path.name]
    assert sorted(kernels) == [
        "kernels._run",
        "kernels._sweep",
        "mapping_kernels._forward",
        "mapping_kernels._pullback",
    ]
    for index in kept.rglob("*.nbi"):
        assert len(list(index.parent.glob(index.name.replace(".nbi", ".*.nbc")))) == 1


def test_rank_that_mpi_does_not_start_ends_and_shows_where_it_is(tmp_path):
    job = Job([sys.executable, "-m", "hanging_mpi", "--run-dir=run"], tmp_path)
    assert job.wait() == 1
    assert "Timeout (0:00:01)!" in job.err
    assert "in connect" in job.err
    assert not (tmp_path / "run").exists()
