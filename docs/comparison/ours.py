"""Train preset tuned until the mean reward of the last 100 episodes is 0.9: ``python docs/comparison/ours.py SEED RUN_DIR``."""

import json
import subprocess
import sys
import time
from pathlib import Path


def main() -> None:
    """Train 8 agents in one process on one thread; print when the mean was reached."""
    seed, run_dir = sys.argv[1], Path(sys.argv[2])
    start = time.perf_counter()
    command = [sys.executable, "-m", "qtrl_hpc.train", "--qpu", "statevector", "--agents-per-rank", "8"]
    subprocess.run([*command, "--seed", seed, "--run-dir", str(run_dir)], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    updates = [sum(row["reward_mean"] for row in rows[i - 13 : i]) / 13 for i in range(13, len(rows) + 1)]
    reached = next((i for i, mean in enumerate(updates, 13) if mean >= 0.9), None)
    if reached is None:
        sys.exit(f"seed {seed}: a mean of 0.9 not reached in {len(rows)} updates, {seconds:.1f} s")
    before = seconds - sum(row["seconds"] for row in rows[reached:])
    steps = sum(8 * row["episode_length_mean"] for row in rows[:reached])
    print(f"ours seed {seed}: 1749 numbers, {reached} updates, {steps:.0f} steps, {before:.1f} s with start-up;", end=" ")
    print(f"all {len(rows)} updates {seconds:.1f} s, last 100 {sum(row['reward_mean'] for row in rows[-100:]) / 100:.3f}")


if __name__ == "__main__":
    main()
