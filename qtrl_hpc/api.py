"""Training from Python, in a notebook or a script: the same run as the command's, to the same bits."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc.checkpoint import NEWEST, Checkpoint
from qtrl_hpc.cli import TrainOptions, fresh_run_dir
from qtrl_hpc.config import Config
from qtrl_hpc.distributed import AgreedError, World
from qtrl_hpc.errors import TrainingError, UserError
from qtrl_hpc.job import end_all
from qtrl_hpc.metrics import RECENT_UPDATES, mean_reward
from qtrl_hpc.policy import MLP, PolicySpec
from qtrl_hpc.run_directory import METRICS
from qtrl_hpc.stop import StopRequest
from qtrl_hpc.training import Audience, Ending
from qtrl_hpc.training import train as train_world

if TYPE_CHECKING:
    from qtrl_hpc.inference import Policy

OnUpdate = Callable[[dict[str, Any]], bool | None]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TrainingResult:
    """What a call of ``train`` came to, the same on every rank."""

    run_dir: Path
    """Directory of the run, on rank 0's host: docs/formats.md says what is in it."""
    config: Config
    update: int
    """Updates done."""
    done: bool
    """Whether these are all; otherwise it was stopped, and goes on with ``resume=True``."""
    why: str | None
    """What stopped it."""
    Theta: NDArray[np.float64]
    """What was trained: angles, then the mapping model, shape (P + l,), float64."""
    theta: NDArray[np.float64]
    """The policy's weights that Theta generates, shape (k,), float64."""
    spec: PolicySpec
    """How these make a policy."""
    metrics: list[dict[str, Any]]
    """The lines of ``metrics.jsonl``, one an update, those before ``resume`` included."""

    @property
    def rewards(self) -> NDArray[np.float64]:
        """Return the mean reward of the episodes that ended in each update, shape (update,); NaN where none did."""
        return np.array([row["reward_mean"] for row in self.metrics], np.float64)

    @property
    def reward(self) -> float | None:
        """Return the mean reward of the episodes that ended in the last 100 updates; None where none did."""
        return mean_reward(self.metrics[-RECENT_UPDATES:])

    def policy(self, device: str = "cpu") -> "Policy":
        """Return the trained policy as a torch module, as ``load_policy`` does.

        Args:
            device: torch's name of it.

        Raises:
            UserError: there is no such device.
        """
        from qtrl_hpc.inference import Policy, checked_device

        network = None if self.spec.network == MLP else self.config.policy_network
        return Policy(self.spec, self.theta, network).to(checked_device(device))

    def __repr__(self) -> str:
        reward = "none" if self.reward is None else f"{self.reward:.3f}"
        how = "done" if self.done else f"stopped: {self.why}"
        return (
            f"TrainingResult({self.config.env_id}, {self.update} of {self.config.updates} updates, {how}, "
            f"reward {reward}, run_dir={str(self.run_dir)!r})"
        )


def train(
    config: Config,
    *,
    run_dir: Path | str | None = None,
    resume: bool = False,
    on_update: OnUpdate | None = None,
) -> TrainingResult:
    """Train as ``python -m qtrl_hpc.train`` does, to the same bits. Collective: all ranks.

    Without mpirun there is one rank, with ``config.agents_per_rank`` agents; in a script that mpirun starts, every rank
    makes the same call. In the main thread Ctrl-C, SIGTERM and SIGUSR1 stop the run after the update in progress, with
    a checkpoint, and the result says so (a second Ctrl-C interrupts at once); in another thread no signal is heard. MPI
    is started if it was not yet and goes on afterwards, until the process ends.

    Args:
        config: of the run: ``preset("tuned", ...)``, ``read_config("file.yaml", ...)`` or ``Config(...)``.
        run_dir: directory to write, as the command does; None for a new one, ``runs/DATE-TIME-api-seedSEED``.
        resume: go on from the newest checkpoint in ``run_dir``.
        on_update: called on rank 0 after each update with its metrics, the keys of ``metrics.jsonl``. Where it returns
            False, all ranks stop after the next update: that is the first in whose sum they can learn of it.

    Raises:
        UserError: the configuration does not fit the environment, the run directory or its checkpoint, or code of yours
            returns something else than it must; one line, as the command prints it.
        TrainingError: a gradient is not finite, or the ranks no longer agree.
        OSError: a file of the run cannot be written; one line that names it.
    """
    world = World.connect()
    try:
        with StopRequest() as stop:
            options = TrainOptions.from_json(world.from_first(lambda: _options(config, run_dir, resume).to_json()))
            world.agree(lambda: _check_alike(config, options.config))
            listeners = () if on_update is None else (_listener(on_update, stop),)
            audience = Audience(listeners, again=lambda path: f"train(config, run_dir={str(path)!r}, resume=True)")
            # Its end would be the process's: alone, a person is there to interrupt.
            ending = train_world(world, options, stop, audience, watch=world.size > 1)
            return _result(world, options, ending)
    except (AgreedError, TrainingError):
        raise
    except BaseException as error:
        if world.size == 1:
            raise
        end_all(world, error)  # the other ranks wait for this one, and would for ever


def _options(config: Config, run_dir: Path | str | None, resume: bool) -> TrainOptions:
    if not isinstance(config, Config):
        raise UserError(f"config: got {type(config).__name__}, expected a Config, as preset('tuned') returns")
    if run_dir is None and resume:
        raise UserError("resume: got no run_dir, expected the directory of the run to go on with")
    if config.on_agent_failure == "continue":
        raise UserError("--on-agent-failure: got 'continue', expected 'abort': only the command can outlive ranks")
    path = fresh_run_dir("api", config.seed) if run_dir is None else Path(run_dir)
    return TrainOptions(config=config, run_dir=path, resume=resume)


def _check_alike(ours: Config, theirs: Config) -> None:
    if ours != theirs:
        raise UserError("config: got another one on this rank than on rank 0, expected the same on all")


def _listener(on_update: OnUpdate, stop: StopRequest) -> Callable[[dict[str, Any]], None]:
    def listen(row: dict[str, Any]) -> None:
        if on_update(row) is False:
            stop.asked = "asked to by on_update"

    return listen


def _result(world: World, options: TrainOptions, ending: Ending) -> TrainingResult:
    """Return what rank 0 has written, on every rank. Collective: all ranks."""
    texts, theta = "", np.empty(0)
    if world.rank == 0:
        checkpoint = Checkpoint.load(options.run_dir / NEWEST)
        lines = (options.run_dir / METRICS).read_text().splitlines()
        texts = json.dumps([checkpoint.policy_spec.to_json(), ending.why, lines])
        theta = checkpoint.theta
    spec, why, lines = json.loads(world.from_first(lambda: texts))
    return TrainingResult(
        run_dir=options.run_dir,
        config=options.config,
        update=ending.state.update,
        done=ending.done,
        why=why,
        Theta=ending.state.Theta.vector,
        theta=world.share(theta),
        spec=PolicySpec.from_json(spec),
        metrics=[json.loads(line) for line in lines],
    )
