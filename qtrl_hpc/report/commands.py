"""A configuration -> the commands that make the same run."""

import json
import shlex
from functools import cache
from pathlib import Path
from typing import Any

from qtrl_hpc.cli import preset, preset_names
from qtrl_hpc.config import Config
from qtrl_hpc.rules import flag_of

LONGEST_FLAG = 200


def closest_preset(config: Config) -> tuple[str, dict[str, tuple[Any, Any]]]:
    """Return the packaged configuration that is nearest, and for each key that differs, its value and ours."""
    ours = config.to_dict()
    found = {}
    for name, packaged in _presets().items():
        theirs = packaged.to_dict()
        found[name] = {key: (theirs[key], ours[key]) for key in ours if ours[key] != theirs[key]}
    nearest = min(found, key=lambda name: (len(found[name]), name != "tuned"))
    return nearest, found[nearest]


def commands(config: Config, path: Path, ranks: int) -> list[tuple[str, str]]:
    """Return commands with what each is for: train from flags, train from the file, export, evaluate, report."""
    name, differing = closest_preset(config)
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


@cache
def _presets() -> dict[str, Config]:
    return {name: preset(name) for name in preset_names()}


def as_flag(value: Any) -> str:
    """Return a value as the command line of ``qtrl_hpc.train`` takes it."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
