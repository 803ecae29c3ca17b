"""Each fault of the soak once (``make soak`` draws them for as long as one likes)."""

import pytest
from soak import faults

pytestmark = [pytest.mark.mpi, pytest.mark.timeout(900)]

# Numbers that draw three ranks, of which rank 0 dies: alone, and its agent is taken over; with another at once; at the
# first checkpoint.
CHEAP = {"deaths": 88, "deaths-below-quorum": 9, "deaths-in-start-up": 18}


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    return faults.Ground(tmp_path_factory.mktemp("ground"))


@pytest.mark.parametrize("name", faults.FAULTS)
def test_fault_ends_the_run_by_name_or_is_outlived_and_it_goes_on_to_the_same_bits(ground, monkeypatch, name):
    monkeypatch.setattr(faults, "KILLS", 3)
    number = CHEAP.get(name, list(faults.FAULTS).index(name))
    outcomes = faults.try_fault(name, 0, number, ground)
    if skipped := [outcome.skipped for outcome in outcomes if outcome.skipped]:
        pytest.skip(skipped[0])
    assert [problem for outcome in outcomes for problem in outcome.problems] == []
    assert len(outcomes) == (3 if name == "kills" else 1)
    assert all(outcome.equal for outcome in outcomes if name not in ("directory-removed", "deaths-below-quorum"))
