"""MLflow (extra ``mlflow``): a database in the run directory unless MLFLOW_TRACKING_URI says otherwise."""

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path

# Read when it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunStatus
from mlflow.exceptions import MlflowException

from qtrl_hpc.config import Config
from qtrl_hpc.errors import UserError, one_line
from qtrl_hpc.trackers.names import keep_name, known_name

EXPERIMENT = "qtrl_hpc"
MOST_METRICS, MOST_PARAMS = 1000, 100
"""Of one request."""
MOST_OF_UPDATE = 100
"""Metrics, at least."""
LAST_UPDATE = "time/iterations"


class MLflow:
    """Log to MLflow, in batches; see ``Tracker``.

    A resumed run goes on under the same run id. What was logged cannot be taken back, so updates that are made again,
    which have the same values but for the seconds, are not logged again.

    Args:
        run_dir: of the run.
        config: of the run, logged as parameters when the run begins.

    Raises:
        UserError: MLflow refuses to start.
    """

    def __init__(self, run_dir: Path, config: Config) -> None:
        for name in ("alembic", "mlflow"):  # they tell of each table that they make
            logging.getLogger(name).setLevel(logging.WARNING)
        self._metrics: list[Metric] = []
        try:
            self._begin(run_dir.resolve(), config)
        except MlflowException as error:
            raise UserError(f"--trackers [mlflow]: MLflow does not start: {one_line(error)[:300]}") from error

    def _begin(self, run_dir: Path, config: Config) -> None:
        elsewhere = os.environ.get("MLFLOW_TRACKING_URI")
        self._client = MlflowClient(tracking_uri=elsewhere or f"sqlite:///{run_dir / 'mlflow.db'}")
        known = known_name(run_dir, "mlflow")
        if known is None:
            artifacts = None if elsewhere else (run_dir / "mlflow-artifacts").as_uri()
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
            experiment = self._client.get_experiment_by_name(name)
            identity = experiment.experiment_id if experiment else self._client.create_experiment(name, artifacts)
            self._run_id = self._client.create_run(identity, run_name=run_dir.name).info.run_id
            params = [Param(key, str(value)) for key, value in config.to_dict().items()]
            for start in range(0, len(params), MOST_PARAMS):
                self._client.log_batch(self._run_id, params=params[start : start + MOST_PARAMS])
            keep_name(run_dir, "mlflow", self._run_id)
            self.logged = self._last = 0
        else:
            self._run_id = known
            self._client.update_run(known, status=RunStatus.to_string(RunStatus.RUNNING))
            self.logged = self._last = int(self._client.get_run(known).data.metrics.get(LAST_UPDATE, 0))

    def log(self, update: int, values: Mapping[str, float]) -> None:
        """Take one update's values; they are sent when they fill a request."""
        begins = update > self._last
        self._last = max(self._last, update)
        if update <= self.logged:
            return
        # An update and its evaluation are sent together: of an update that MLflow knows, nothing is sent again.
        if begins and len(self._metrics) + MOST_OF_UPDATE > MOST_METRICS:
            self._send()
        now = int(time.time() * 1000)
        self._metrics += [Metric(tag, value, now, update) for tag, value in values.items()]

    def video(self, update: int, tag: str, path: Path) -> None:
        """Keep a GIF among the run's artifacts."""
        if update > self.logged:
            self._client.log_artifact(self._run_id, str(path), "videos")

    def flush(self) -> None:
        """Send all values."""
        self._send()

    def cut_back(self, update: int) -> None:
        """Log nothing until what was logged already has been made again."""
        self.logged = self._last

    def close(self, *, done: bool) -> None:
        """Send all values, and say how the run ended."""
        self._send()
        self._client.set_terminated(self._run_id, "FINISHED" if done else "FAILED")

    def _send(self) -> None:
        metrics, self._metrics = self._metrics, []
        if metrics:
            self._client.log_batch(self._run_id, metrics=metrics)
