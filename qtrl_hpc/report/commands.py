"""A configuration -> the commands that make the same run."""

import json
import shlex
from pathlib import Path
from typing import Any

from qtrl_hpc.cli import nearest_preset
from qtrl_hpc.config import Config
from qtrl_hpc.rules import flag_of

LONGEST_FLAG = 200


def commands(config: Config, path: Path, ranks: int) -> list[tuple[str, str]]:
    """Return commands with what each is for: train from flags, train from the file, export, evaluate, report."""
    name, differing = nearest_preset(config.to_dict())
    launcher = f"mpirun -n {ranks} " if ranks > 1 else ""
    flags = [f"{flag_of(key)} {shlex.quote(as_flag(ours))}" for key, (_, ours) in differing.items()]
    again = shlex.quote(str(path.with_name(f"{path.name}-again")))
    policy = shlex.quote(str(path / "policy.h5"))
    run_dir = shlex.quote(str(path))
    by_flags = " ".join([f"{launcher}python -m qtrl_hpc.train --preset {name}", *flags, f"--run-dir {again}"])
    by_file = f"{launcher}python -m qtrl_hpc.train --config {shlex.quote(str(path / 'config.yaml'))} --run-dir {again}"
    own, own_circuit = _own_modules(config, "env_id", "policy_network"), _own_modules(config, "ansatz")
    trained = [] if any(len(flag) > LONGEST_FLAG for flag in flags) else [("Train it again, by flags", by_flags)]
    return [
        *trained,
        ("Train it again, from its configuration", by_file),
        ("Export the policy", f"python -m qtrl_hpc.export {run_dir} --output {policy}{own}"),
        ("Evaluate it", f"python -m qtrl_hpc.evaluate {policy} --episodes 100{own}"),
        ("Make this report", f"python -m qtrl_hpc.report {run_dir}{own}{own_circuit}"),
    ]


def _own_modules(config: Config, *keys: str) -> str:
    """Return the flags without which a command does not import what the run has by MODULE:OBJECT."""
    values = {key: getattr(config, key) for key in keys}
    return "".join(f" {flag_of(key)} {shlex.quote(name)}" for key, name in values.items() if ":" in name)


def as_flag(value: Any) -> str:
    """Return a value as the command line of ``qtrl_hpc.train`` takes it."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
