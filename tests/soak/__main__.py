"""Try faults for so many minutes: ``python -m soak --minutes 30 [--seed 0] [--only kills,files] [--number 17]``.

Every case is drawn from the seed and its number alone, so that ``--number`` repeats it (with ``--only``, if that was
given). A table is printed at the end; the exit code is 1 where anything was not as promised.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import pytest

from soak.faults import FAULTS, UPDATES, Ground, Outcome, table, try_fault
from soak.files import Tally, run_batch

# A case of "kills" is up to sixteen kills, one of "files" so many files.
WEIGHTS = {"kills": 8, "files": 4, "deaths": 2}
FILES = 250


def main():
    """Run the command; return its exit code."""
    names = [*FAULTS, "files"]
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(names), help=f"some of {', '.join(names)}")
    parser.add_argument("--number", type=int, help="repeat one case")
    parser.add_argument("--out", type=Path, help="append outcomes to this file, one JSON object a line")
    options = parser.parse_args()
    chosen = [name for name in options.only.split(",") if name]
    if unknown := set(chosen) - set(names):
        parser.error(f"--only: got {', '.join(unknown)}, expected some of {', '.join(names)}")
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    ground, outcomes, tally = Ground(folder), [], Tally()
    began, number = time.monotonic(), options.number or 0
    print(f"{datetime.now():%Y-%m-%d %H:%M} soak of {options.minutes:g} minutes, seed {options.seed}, in {folder}")
    ground.whole(2, UPDATES)  # kernels are compiled now, not while a fault is timed
    while options.number is None or number == options.number:
        if options.number is None and time.monotonic() - began > 60.0 * options.minutes:
            break
        drawn = random.Random(f"{options.seed}:{number}")
        name = drawn.choices(chosen, [WEIGHTS.get(each, 1) for each in chosen])[0]
        found = _one(name, options.seed, number, ground, tally)
        outcomes += found
        bad = [f"{outcome.fault}: {problem}" for outcome in found for problem in outcome.broken]
        print(f"{time.monotonic() - began:6.0f} s  {number:4d} {name:30s} {len(found):3d}  {'; '.join(bad) or 'well'}")
        sys.stdout.flush()
        if options.out:
            with options.out.open("a") as file:
                file.writelines(json.dumps(asdict(outcome)) + "\n" for outcome in found)
        number += 1
    print("\n".join(["", *table(outcomes), "", *tally.table(), "", *tally.problems]))
    well = not any(outcome.broken for outcome in outcomes) and not tally.problems
    if well:
        ground.clear()
    else:
        print(f"\nnot as promised; what was written is in {folder}")
    return 0 if well else 1


def _one(name, seed, number, ground, tally):
    try:
        if name == "files":
            run_batch(seed, number * FILES, FILES, ground.folder, tally)
            return []
        return try_fault(name, seed, number, ground)
    except (Exception, pytest.fail.Exception) as error:
        return [Outcome(name, problems=[repr(error)])]


if __name__ == "__main__":
    sys.exit(main())
