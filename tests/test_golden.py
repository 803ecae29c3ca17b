"""The paper's system against a curve kept from before; ``python tests/test_golden.py`` makes it anew."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from support import metrics, train

from qtrl_hpc.checkpoint import Checkpoint

GOLDEN = Path(__file__).parent / "golden" / "qtrl.json"
FLAGS = ["--preset=qtrl", "--qpu=statevector", "--agents-per-rank=2", "--seed=1", "--updates=30"]


def curve(run_dir, *flags):
    """Train and return what is compared."""
    train(run_dir, *FLAGS, *flags)
    rows, saved = metrics(run_dir), Checkpoint.load(run_dir / "checkpoint.h5")
    phi, beta = saved.state.Theta.phi, saved.state.Theta.beta
    return {
        "reward_mean": [row["reward_mean"] for row in rows],
        "grad_norm": [row["grad_norm"] for row in rows],
        "norms": {name: float(np.linalg.norm(x)) for name, x in (("phi", phi), ("beta", beta), ("theta", saved.theta))},
    }


def check(found, updates):
    golden = json.loads(GOLDEN.read_text())
    assert found["reward_mean"] == pytest.approx(golden["reward_mean"][:updates], rel=1e-12)
    assert found["grad_norm"] == pytest.approx(golden["grad_norm"][:updates], rel=1e-9)
    if updates == 30:
        assert found["norms"] == pytest.approx(golden["norms"], rel=1e-9)


def test_curve_of_the_papers_system_is_as_before(tmp_path):
    check(curve(tmp_path / "run"), 30)


def test_aer_and_an_ordered_sum_start_on_the_same_curve(tmp_path):
    check(curve(tmp_path / "run", "--qpu=aer", "--reduction=ordered", "--updates=5"), 5)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        GOLDEN.write_text(json.dumps(curve(Path(directory) / "run"), indent=1) + "\n")
