"""The paper's tables and figure, ablations, and what our recipe reaches: ``python -m qtrl_hpc.reproduce table1``."""

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from threadpoolctl import threadpool_limits

from qtrl_hpc import files, jit
from qtrl_hpc.cli import OneLineParser, asks_for_help, non_empty_path, whole_number
from qtrl_hpc.distributed import World, launch
from qtrl_hpc.errors import EXIT_DONE, EXIT_STOPPED, UserError
from qtrl_hpc.extras import require
from qtrl_hpc.launcher import launched_rank
from qtrl_hpc.reproduce import figures, runner, tables, variants
from qtrl_hpc.reproduce.rewards import FILE, Rewards, clear_leftovers
from qtrl_hpc.reproduce.variants import Setting, Variant
from qtrl_hpc.stop import StopRequest
from qtrl_hpc.streams import harden_streams

STUDIES = {
    "table1": "average reward of five models",
    "table2": "rounds to a target with 1, 2, 4 and 8 agents",
    "figure1": "both as the paper draws them",
    "ablations": "each part of the method and of our recipe left out",
    "tuned": "what our recipe reaches, with few parameters and in other environments too",
}
EPILOG = (
    "Alone, or under mpirun, where seeds are shared out over ranks. Runs that are in the folder already are not made "
    "again, so the same command goes on after a stop (SIGUSR1, SIGTERM or SIGINT to every rank; exit code 75)."
)
PRESETS = ("qtrl", "tuned")
DEFAULT_QPU = "statevector"
MOST_SEEDS = 1000
LAST_FIRST_SEED = 10**9


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
    def suffix(self) -> str:
        """Return what the names of tables and figures end in, where they are not the real ones."""
        return ("-quick" if self.quick else "") + ("" if self.qpu == DEFAULT_QPU else f"-{self.qpu}")

    @property
    def setting(self) -> Setting:
        """Return what is common to all variants."""
        return Setting(qpu=self.qpu, quick=self.quick)


def main(argv: list[str] | None = None) -> NoReturn:
    """Run the command on every rank."""
    harden_streams()
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
    if values["preset"] is not None and values["study"] in ("ablations", "tuned"):
        raise UserError(f"--preset: got {values['preset']!r}, expected none with {values['study']}, which is of tuned")
    values["preset"] = PRESETS if values["preset"] is None else (values["preset"],)
    values["out"] = str(values["out"] or ("results-quick" if values["quick"] else "results"))
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
    if world.rank == 0 and world.size > 1 and tasks:
        print("this rank's runs are done, waiting for the others", flush=True)
    world.meet()
    unfinished = 0
    if world.rank == 0:
        rewards = Rewards(options.folder)
        if tasks:
            rewards.join()
        unfinished = len(runner.missing(wanted(options), options.seed_range, rewards))
        if unfinished:
            print(f"stopped with {unfinished} runs to do; the same command goes on", flush=True)
        else:
            report(options, rewards)
    stopped = any(world.gather_text("stopped" if unfinished else ""))
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
    found: dict[str, list[tables.Table]] = {}
    drawn: dict[str, Any] = {}
    if options.study == "ablations":
        changes = variants.ablations(setting)
        found["ablations"] = [tables.ablations(rewards, changes, seeds)]
        drawn["ablations"] = figures.ablations(rewards, changes, seeds)
    elif options.study == "tuned":
        found["tuned"] = [tables.claims(rewards, variants.claims(setting), seeds)]
    else:
        for name in options.preset:
            rows, counts = variants.table1(setting, name), variants.table2(setting, name)
            if options.study == "table1":
                found[f"table1-{name}"] = [tables.table1(rewards, rows, seeds, name)]
            elif options.study == "table2":
                found[f"table2-{name}"] = tables.table2(rewards, counts, seeds, name)
            else:
                drawn[f"figure1-{name}"] = figures.figure1(rewards, rows[:-1], counts, seeds, name)
    print("written:", *_write(options, found, drawn), sep="\n  ", flush=True)


def _write(options: Options, found: dict[str, list[tables.Table]], drawn: dict[str, Any]) -> list[Path]:
    """Print the tables and write all; a smoke run, or another simulator's, does not take the place of the real one."""
    paths = []
    for stem, several in found.items():
        text = "\n".join(table.to_markdown() for table in several)
        contents = {f"{stem}{options.suffix}.md": text}
        for number, table in enumerate(several, 1):
            counted = f"-{number}" if len(several) > 1 else ""
            contents[f"{stem}{options.suffix}{counted}.csv"] = table.to_csv()
        print(text)
        for name, content in contents.items():
            paths.append(options.folder / name)
            files.replace(paths[-1], content.encode())
    for stem, figure in drawn.items():
        paths += figures.save(figure, options.folder, f"{stem}{options.suffix}")
    return [options.folder / FILE, *paths]


def _prepare(options: Options) -> None:
    """Make the folder and hold it, so that no second command writes to it."""
    if options.study in ("figure1", "ablations"):
        require(options.study, "reproduce", "matplotlib")
    folder = options.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if files.hold(folder / ".lock") is None:
            words = f"warning: {folder}: its file system has no locks, so a second command in it would go unnoticed"
            print(words, file=sys.stderr, flush=True)
        clear_leftovers(folder)
    except BlockingIOError:
        raise UserError(f"--out: got {folder}, which belongs to a command still going on") from None
    except OSError as error:
        raise UserError(f"--out: got {folder}, which cannot be written to ({error.strerror})") from error


def _parser() -> OneLineParser:
    parser = OneLineParser(prog="qtrl_hpc.reproduce", description=__doc__, epilog=EPILOG, allow_abbrev=False)
    parser.add_argument("study", choices=STUDIES, help="; ".join(f"{name}: {what}" for name, what in STUDIES.items()))
    parser.add_argument("--seeds", type=whole_number(1, MOST_SEEDS), help="how many seeds (default: 10)")
    parser.add_argument(
        "--first-seed", type=whole_number(0, LAST_FIRST_SEED), default=0, help="the first of them (default: 0)"
    )
    parser.add_argument("--out", type=non_empty_path, metavar="DIR", help="folder of the results (default: results)")
    parser.add_argument("--quick", action="store_true", help="a smoke run: 2 seeds of 150 rounds, in results-quick")
    parser.add_argument("--preset", choices=PRESETS, help="recipe of table1, table2, figure1 (default: both in turn)")
    parser.add_argument(
        "--qpu", choices=(DEFAULT_QPU, "aer"), default=DEFAULT_QPU, help=f"simulator (default: {DEFAULT_QPU})"
    )
    return parser


if __name__ == "__main__":
    main()
