"""Say how runs learn by the environment step and how long they wait: ``python docs/reward_per_step.py RUN_DIR …``."""

import json
import sys
from collections import deque
from pathlib import Path

WINDOW = 10_000  # steps over whose episodes a reward is averaged
LEVEL = 0.9


def main() -> None:
    """Print a line a run."""
    print(f"{'steps':>9} {f'{LEVEL} at':>9} {'last':>7} {'waiting':>8} {'seconds':>8}  run")
    for run in sys.argv[1:]:
        rows = [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]
        means = reward_by_step(rows)
        reached = next((str(step) for step, mean in means if mean >= LEVEL), "never")
        seconds = sum(row["seconds"] for row in rows)
        waiting = sum(row["seconds_waiting"] for row in rows) / seconds
        print(f"{means[-1][0]:9} {reached:>9} {means[-1][1]:7.3f} {waiting:8.1%} {seconds:8.1f}  {run}")


def reward_by_step(rows: list[dict]) -> list[tuple[int, float]]:
    """Return (steps so far, mean reward of the episodes that ended in the last WINDOW of them), update by update."""
    recent: deque[dict] = deque()
    means, total, within = [], 0, 0
    for row in rows:
        recent.append(row)
        total, within = total + row["steps"], within + row["steps"]
        while within - recent[0]["steps"] >= WINDOW:
            within -= recent.popleft()["steps"]
        ended = [each for each in recent if each["episodes"]]
        if total >= WINDOW and ended:
            reward = sum(each["episodes"] * each["reward_mean"] for each in ended)
            means.append((total, reward / sum(each["episodes"] for each in ended)))
    return means


if __name__ == "__main__":
    main()
