"""Train preset tuned for as many steps as ``sb3.py``, beside it: ``python docs/comparison/ours.py SEED RUN_DIR``."""

import json
import resource
import subprocess
import sys
from pathlib import Path


def main() -> None:
    """Train 8 agents in one process on one thread; print when the last 104 episodes had a mean reward of 0.9."""
    seed, run_dir = sys.argv[1], Path(sys.argv[2])
    command = [sys.executable, "-m", "qtrl_hpc.train", "--qpu", "statevector", "--agents-per-rank", "8"]
    subprocess.run([*command, "--seed", seed, "--run-dir", str(run_dir)], check=True, stdout=subprocess.DEVNULL)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    rewards = [row["reward_mean"] for row in rows]
    means = [(end, sum(rewards[end - 13 : end]) / 13) for end in range(13, len(rows) + 1)]
    reached = next((end for end, mean in means if mean >= 0.9), len(rows))
    steps = sum(8 * row["episode_length_mean"] for row in rows[:reached])
    print(f"ours seed {seed}: 1749 numbers, {steps:.0f} steps to {means[reached - 13][1]:.3f} ({reached} updates);")
    print(f"{len(rows)} updates in {usage.ru_utime + usage.ru_stime:.1f} CPU s, last 13 {means[-1][1]:.3f}")


if __name__ == "__main__":
    main()
