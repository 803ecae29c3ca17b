"""Run directories written by hand: what was in each update is known."""

import json

from qtrl_hpc.cli import preset
from qtrl_hpc.run_directory import config_yaml


def written_run(path, rewards, *, agents=2, status=True, torn=False, **changes):
    """Write the directory of a run whose updates earned ``rewards`` (None: no episode ended), and return it."""
    path.mkdir()
    config = preset("tuned", **changes)
    (path / "config.yaml").write_text(config_yaml(config))
    rows = [
        {"update": update, "episodes": 2, "steps": 10, "reward_mean": reward, "seconds": 0.5, "seconds_circuit": 0.2}
        for update, reward in enumerate(rewards, 1)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows) + ('{"update": 99, "rew' if torn else "")
    (path / "metrics.jsonl").write_text(text)
    if status:
        (path / "status.json").write_text(json.dumps({"state": "running", "agents": agents}))
    return path
