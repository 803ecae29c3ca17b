"""Train all by turns and print a table: ``python docs/comparison/learning.py PYTHON_WITH_SB3 SEEDS``."""

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def run(command: list[str]) -> dict[str, Any]:
    """Return what a script says in its last line."""
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    print(done.stdout.splitlines()[-1], flush=True)
    return json.loads(done.stdout.splitlines()[-1])


def middle(rows: list[dict[str, Any]], what: str, which: int) -> str:
    """Return median, least and most of what was reached, and how often it was not."""
    reached = [row[what][which] for row in rows if row[what]]
    if not reached:
        return "never"
    text = f"{statistics.median(reached):.4g} ({min(reached):.4g}-{max(reached):.4g})"
    return text if len(reached) == len(rows) else f"{text}, {len(rows) - len(reached)} never"


def main() -> None:
    """Run every seed of every algorithm once."""
    python, seeds = sys.argv[1], range(int(sys.argv[2]))
    theirs = [[python, str(HERE / "sb3.py"), name] for name in ("A2C", "PPO", "PPO-zoo")]
    ours = [[sys.executable, str(HERE / "ours.py"), policy] for policy in ("quantum", "classical")]
    rows = [run([*command, str(seed)]) for seed in seeds for command in (*theirs, *ours)]
    print("| | numbers | greedy: CPU s | greedy: steps | sampled: CPU s | sampled: steps | evaluated, least |")
    for name in dict.fromkeys(row["name"] for row in rows):
        of_it = [row for row in rows if row["name"] == name]
        cells = [middle(of_it, what, which) for what in ("greedy", "sampled") for which in (0, 1)]
        least = [f"{min(row['evaluated'][which] for row in of_it):.3f}" for which in (0, 1)]
        print("|", name, "|", of_it[0]["numbers"], "|", " | ".join(cells), "|", ", ".join(least), "|")


if __name__ == "__main__":
    main()
