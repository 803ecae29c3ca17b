"""The paper's tables and figure, ablations, and what our recipe reaches: ``python -m qtrl_hpc.reproduce table1``."""

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from threadpoolctl import threadpool_limits

from qtrl_hpc import files, jit
from qtrl_hpc.cli import OneLineParser, asks_for_help, whole_number
from qtrl_hpc.distributed import World, launch
from qtrl_hpc.errors import EXIT_DONE, EXIT_STOPPED, UserError
from qtrl_hpc.launcher import launched_rank
from qtrl_hpc.reproduce import figures, runner, tables, variants
from qtrl_hpc.reproduce.rewards import Rewards
from qtrl_hpc.reproduce.variants import Setting, Variant
from qtrl_hpc.stop import StopRequest

STUDIES = ("table1", "table2", "figure1", "ablations", "tuned")
PRESETS = ("qtrl", "tuned")
MOST_SEEDS = 1000


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command is asked to do."""

    study: str
    seeds: int
    first_seed: int
    out: str
    quick: bool
    preset: tuple[str, ...]
    qpu: str

    @property
    def seed_range(self) -> range:
        """Return the seeds."""
        return range(self.first_seed, self.first_seed + self.seeds)

    @property
    def folder(self) -> Path:
        """Return where the results go."""
        return Path(self.out)

    @property
    def setting(self) -> Setting:
        """Return what is common to all variants."""
        return Setting(qpu=self.qpu, quick=self.quick)


def main(argv: list[str] | None = None) -> NoReturn:
    """Run the command on every rank."""
    arguments = sys.argv[1:] if argv is None else argv
    if asks_for_help(arguments):
        if launched_rank(os.environ) == 0:
            _parser().print_help()
        sys.exit(EXIT_DONE)
    stop = StopRequest()
    launch(
        lambda: json.dumps(asdict(parse(arguments))),
        lambda world, text: command(world, Options(**json.loads(text)), stop),
    )


def parse(argv: list[str]) -> Options:
    """Read the command line.

    Raises:
        UserError: naming the flag, what was got and what is expected.
    """
    values = vars(_parser().parse_args(argv))
    values["preset"] = tuple(dict.fromkeys(values["preset"]))
    values["out"] = values["out"] or ("results-quick" if values["quick"] else "results")
    values["seeds"] = values["seeds"] or (2 if values["quick"] else 10)
    return Options(**values)


def command(world: World, options: Options, stop: StopRequest) -> int:
    """Run what has not been run yet, then write tables and figures. Collective: all ranks.

    Returns:
        ``EXIT_DONE``, or ``EXIT_STOPPED`` where a signal stopped it.

    Raises:
        AgreedError: the folder cannot be written to or holds damaged results, or matplotlib is missing.
    """
    world.agree(jit.check_cache_folder)
    threadpool_limits(1)
    world.agree(lambda: _prepare(options) if world.rank == 0 else None)
    tasks = world.agree(lambda: runner.missing(wanted(options), options.seed_range, Rewards(options.folder)))
    if world.rank == 0:
        print(f"{options.study}: {len(tasks)} runs to do on {world.size} rank(s), results in {options.out}", flush=True)
    runner.run_tasks(runner.share(tasks, world.size)[world.rank], options.folder, stop, visible=world.rank == 0)
    stopped = any(world.gather_text("stopped" if stop.received else ""))
    if world.rank == 0:
        rewards = Rewards(options.folder)
        if tasks:
            rewards.gather()
        if stopped:
            print("stopped; finished runs are kept, the same command goes on", flush=True)
        else:
            report(options, rewards)
    world.barrier()
    return EXIT_STOPPED if stopped else EXIT_DONE


def wanted(options: Options) -> list[Variant]:
    """Return every variant that a study needs."""
    setting = options.setting
    if options.study == "ablations":
        return [row.variant for row in variants.ablations(setting)]
    if options.study == "tuned":
        return [row.variant for row in variants.claims(setting)]
    found: list[Variant] = []
    for name in options.preset:
        if options.study in ("table1", "figure1"):
            found += variants.table1(setting, name)
        if options.study in ("table2", "figure1"):
            found += variants.table2(setting, name)
    return found


def report(options: Options, rewards: Rewards) -> None:
    """Write the study's tables and figures, print the tables, and say where they are."""
    setting, seeds = options.setting, options.seed_range
    found: list[tables.Table] = []
    drawn: dict[str, Any] = {}
    if options.study == "ablations":
        changes = variants.ablations(setting)
        found = [tables.ablations(rewards, changes, seeds)]
        drawn["ablations"] = figures.ablations(rewards, changes, seeds)
    elif options.study == "tuned":
        found = [tables.claims(rewards, variants.claims(setting), seeds)]
    else:
        for name in options.preset:
            rows, counts = variants.table1(setting, name), variants.table2(setting, name)
            if options.study == "table1":
                found.append(tables.table1(rewards, rows, seeds, name))
            elif options.study == "table2":
                found += tables.table2(rewards, counts, seeds, name)
            else:
                drawn[f"figure1-{name}"] = figures.figure1(rewards, rows[:-1], counts, seeds, name)
    paths = []
    for number, table in enumerate(found, 1):
        suffix = f"-{number}" if len(found) > 1 else ""
        paths.append(options.folder / f"{options.study}{suffix}.csv")
        files.replace(paths[-1], table.to_csv().encode())
    if found:
        paths.append(options.folder / f"{options.study}.md")
        text = "\n".join(table.to_markdown() for table in found)
        files.replace(paths[-1], text.encode())
        print(text)
    for name, figure in drawn.items():
        paths += figures.save(figure, options.folder, name)
    print("written: " + ", ".join(map(str, [options.folder / "rewards.h5", *paths])), flush=True)


def _prepare(options: Options) -> None:
    """Make the folder and hold it, so that no second command writes to it."""
    if options.study in ("figure1", "ablations"):
        figures.check_matplotlib()
    folder = options.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.hold(folder / ".lock")
    except BlockingIOError:
        raise UserError(f"--out: got {folder}, which belongs to a command still going on") from None
    except OSError as error:
        raise UserError(f"--out: got {folder}, which cannot be written to ({error.strerror})") from error


def _parser() -> OneLineParser:
    parser = OneLineParser(prog="qtrl_hpc.reproduce", description=__doc__, allow_abbrev=False)
    parser.add_argument("study", choices=STUDIES, help=", ".join(STUDIES))
    parser.add_argument("--seeds", type=whole_number(1, MOST_SEEDS), help="how many seeds (default: 10)")
    parser.add_argument("--first-seed", type=whole_number(0), default=0, help="the first of them (default: 0)")
    parser.add_argument("--out", metavar="DIR", help="folder of the results (default: results)")
    parser.add_argument("--quick", action="store_true", help="a smoke run: 2 seeds of 150 rounds, in results-quick")
    parser.add_argument(
        "--preset", nargs="+", choices=PRESETS, default=PRESETS, help="recipes of the paper's tables (default: both)"
    )
    parser.add_argument(
        "--qpu", choices=("statevector", "aer"), default="statevector", help="simulator (default: statevector)"
    )
    return parser


if __name__ == "__main__":
    main()
