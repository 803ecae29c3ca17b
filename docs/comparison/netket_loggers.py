"""Try NetKet's other loggers, saved states and early stopping: ``python docs/comparison/netket_loggers.py``.

pip install netket==3.23.0 wandb mlflow-skinny sqlalchemy alembic nqxpack
"""

import os
import tempfile
from pathlib import Path

os.environ.update(WANDB_MODE="offline", MLFLOW_TRACKING_URI="sqlite:///mlflow.db")

import netket as nk


def main() -> None:
    """Run ten steps with each, then until nothing gets better; print what was written."""
    os.chdir(tempfile.mkdtemp())
    hilbert = nk.hilbert.Spin(0.5, 6)
    energy = nk.operator.IsingJax(hilbert, nk.graph.Chain(6), h=1.0)

    def driver() -> nk.driver.VMC_SR:
        sampler = nk.sampler.MetropolisLocal(hilbert, n_chains=16)
        state = nk.vqs.MCState(sampler, nk.models.RBM(), n_samples=256, seed=0)
        return nk.driver.VMC_SR(energy, nk.optimizer.Sgd(0.05), variational_state=state, diag_shift=0.01)

    for callback in (
        nk.logging.WandbLog(project="comparison", mode="offline"),
        nk.logging.MLFlowLog(experiment_name="comparison"),
        nk.logging.SaveVariationalState("states", 5),
    ):
        driver().run(10, callback=callback, show_progress=False)
    print("written:", sorted(path.name for path in Path().iterdir()))
    last = driver()
    last.run(200, callback=nk.callbacks.EarlyStopping(patience=5), show_progress=False)
    print("stopped early, after step", last.step_count)


if __name__ == "__main__":
    main()
