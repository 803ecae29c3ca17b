"""What of NetKet was tried: ``python docs/comparison/netket_run.py``; pip install netket==3.23.0 tensorboardX h5py.

A ground state by variational Monte Carlo; then its gradients divided over two devices (two of the CPU's).
"""

import json
import os
import tempfile
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import h5py
import jax
import netket as nk


def main() -> None:
    """Run 30 steps with each logger; print what was written."""
    folder = Path(tempfile.mkdtemp())
    hilbert = nk.hilbert.Spin(0.5, 8)
    energy = nk.operator.IsingJax(hilbert, nk.graph.Chain(8), h=1.0)
    exact = nk.exact.lanczos_ed(energy)[0]
    state = nk.vqs.MCState(nk.sampler.MetropolisLocal(hilbert, n_chains=16), nk.models.RBM(), n_samples=1024, seed=0)
    driver = nk.driver.VMC_SR(energy, nk.optimizer.Sgd(0.05), variational_state=state, diag_shift=0.01)
    logs = [nk.logging.JsonLog(str(folder / "run")), nk.logging.HDF5Log(str(folder / "run"), mode="write")]
    driver.run(60, out=[*logs, nk.logging.TensorBoardLog(str(folder / "board"))], show_progress=False)
    print("devices", jax.device_count(), "samples over", state.samples.sharding)
    print("energy", state.expect(energy), "exact", float(exact), "weights", state.n_parameters)
    print("json", list(json.loads((folder / "run.log").read_text())["Energy"]))
    with h5py.File(folder / "run.h5") as file:
        print("hdf5", list(file["data"]["Energy"]))
    print("files", sorted(path.name for path in folder.rglob("*") if path.is_file()))


if __name__ == "__main__":
    main()
