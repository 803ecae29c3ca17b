"""Who plays which agents after ranks have died, what it takes to go on without them, and what MPI brings then."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtrl_hpc.distributed import RanksLostError, World
from qtrl_hpc.launcher import missing_for_tolerance
from qtrl_hpc.survival import agents_of

OPEN_MPI = "Open MPI v5.0.11"
ENABLED = {"OMPI_MCA_mpi_ft_enable": "1"}


def test_agents_of_the_dead_are_no_more_or_shared_out():
    assert agents_of([0, 2, 3], 2, 4, adopt=False) == {0: [0, 1], 2: [4, 5], 3: [6, 7]}
    assert agents_of([1, 3], 2, 4, adopt=True) == {1: [2, 3, 0, 4], 3: [6, 7, 1, 5]}


@given(st.sets(st.integers(0, 9), min_size=1), st.integers(1, 3))
def test_adopted_every_agent_has_one_rank(members, agents_per_rank):
    shares = agents_of(sorted(members), agents_per_rank, 10, adopt=True)
    assert sorted(agent for share in shares.values() for agent in share) == list(range(10 * agents_per_rank))
    sizes = [len(share) for share in shares.values()]
    assert max(sizes) - min(sizes) <= 1
    for rank in members:
        assert shares[rank][:agents_per_rank] == list(range(rank * agents_per_rank, (rank + 1) * agents_per_rank))


@pytest.mark.parametrize(
    ("library", "hosts", "environ", "words"),
    [
        (OPEN_MPI, 1, ENABLED, ""),
        (OPEN_MPI, 2, {**ENABLED, "OMPI_MCA_coll": "^han"}, ""),
        (OPEN_MPI, 2, {**ENABLED, "OMPI_MCA_coll": "^hcoll,han"}, ""),
        (OPEN_MPI, 2, {**ENABLED, "OMPI_MCA_coll": "basic,libnbc,ftagree"}, ""),
        (OPEN_MPI, 2, ENABLED, "--mca coll ^han"),
        (OPEN_MPI, 2, {**ENABLED, "OMPI_MCA_coll": "han,basic"}, "--mca coll ^han"),
        (OPEN_MPI, 1, {}, "mpirun --with-ft ulfm"),
        (OPEN_MPI, 1, {"OMPI_MCA_mpi_ft_enable": "0"}, "mpirun --with-ft ulfm"),
        ("Open MPI v4.1.4", 1, ENABLED, "expected Open MPI 5 or newer"),
        ("MPICH Version:      4.3.0", 1, ENABLED, "not MPICH Version:"),
    ],
)
def test_what_is_missing_is_said_with_what_to_do(library, hosts, environ, words):
    found = missing_for_tolerance(library, hosts, environ)
    assert (found == "") == (words == "")
    assert words in found


class Negligent:
    """A communicator that returns from a gather without a word, having brought nothing or what it brought before."""

    def __init__(self, comm, brings):
        self._comm, self._brings, self._kept = comm, brings, {}

    def __getattr__(self, name):
        return getattr(self._comm, name)

    def Allgather(self, sent, received):
        self._gather("Allgather", sent, received, received)

    def Allgatherv(self, sent, received):
        self._gather("Allgatherv", sent, received, received[0])

    def _gather(self, name, sent, received, buffer):
        if self._brings == name:
            buffer.flat[:] = self._kept.get(name, 0)
        else:
            getattr(self._comm, name)(sent, received)
            self._kept[name] = buffer.flatten()

    def neglect(self, name):
        self._brings = name


@pytest.mark.parametrize("name", ["Allgather", "Allgatherv"])
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(("outlives", "error"), [(True, RanksLostError), (False, RuntimeError)])
def test_gather_that_brings_nothing_is_noticed(name, before, outlives, error):
    world = World.alone()
    world._comm, world._outlives = Negligent(world._comm, None), outlives
    if before:
        assert world.gather_text("12:old") == ["12:old"]
        assert world.gather_numbers(np.array([0.5, -1.0])).tolist() == [0.5, -1.0]
    world._comm.neglect(name)
    for step in (
        lambda: world.gather_text("12:new"),
        lambda: world.gather_numbers(np.array([0.5, -1.0])),
        lambda: world.least(3),
        lambda: world.check_same("digest", "the state"),
    ):
        with pytest.raises(error, match="without what all ranks have sent"):
            step()
