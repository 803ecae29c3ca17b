"""Explain runs on one self-contained page: ``python -m qtrl_hpc.report RUN_DIR [RUN_DIR …]``."""

import argparse
import math
import sys
from pathlib import Path

from qtrl_hpc.checkpoint import Checkpoint, load_newest
from qtrl_hpc.command import OneLineParser, run_refusing, whole_number
from qtrl_hpc.errors import EXIT_DONE, UserError
from qtrl_hpc.evaluate import trusted
from qtrl_hpc.extras import require
from qtrl_hpc.inference import Policy
from qtrl_hpc.output_file import check_output, write_output
from qtrl_hpc.report import agent, figures
from qtrl_hpc.report.circuit import MOST_DRAWN, MOST_SIMULATED, circuit_of
from qtrl_hpc.report.curves import add_smoothing, default_window, grouped
from qtrl_hpc.report.data import POSITIONS, RunData, load
from qtrl_hpc.report.page import Report, render
from qtrl_hpc.report.time import time_of

NAME = "report.html"


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_refusing(command, argv)


def command(argv: list[str]) -> int:
    """Read the command line, write the page, and say where it is.

    Raises:
        UserError: naming the flag or file, what was got and what is expected.
    """
    options = _parser().parse_args(argv)
    if options.output is None and len(options.runs) > 1:
        raise UserError(f"--output: got none with {len(options.runs)} runs, expected the file to write, as in {NAME}")
    require("qtrl_hpc.report", "report", "jinja2", "matplotlib", "imageio", "PIL", "pylatexenc")
    runs = [load(path) for path in options.runs]
    output: Path = options.output or options.runs[0] / NAME
    check_output(output, "--output", ".html")
    content = render(collect(runs, options)).encode(errors="replace")  # a path may be no text
    write_output(output, "--output", content)
    print(f"{output}: {len(runs)} run{'s' if len(runs) > 1 else ''}, {len(content) / 1000:.0f} kB, one file")
    return EXIT_DONE


def collect(runs: list[RunData], options: argparse.Namespace) -> Report:
    """Work out all that the page shows, the details of the run with the highest reward of late, the first of equals.

    What cannot be had is missing from the page, which says why.
    """
    best = max(runs, key=lambda run: -math.inf if run.recent_reward is None else run.recent_reward)
    missing: dict[str, str] = {}
    checkpoint = _checkpoint(best, missing)
    report = Report(run=best, groups=grouped(runs), checkpoint=checkpoint, time=time_of(best), missing=missing)
    _say("curves")
    window = options.smooth or default_window(runs)
    report.curves = figures.curve_pictures(report.groups, options.x, POSITIONS[options.x], window)
    if evaluations := figures.evaluations_picture(best):
        report.curves.append(evaluations)
    if report.time:
        report.time_picture = figures.time_picture(report.time)
    if checkpoint:
        _say("circuit and weights")
        _draw_circuit(report, checkpoint, options)
        report.weights = figures.weights_picture(checkpoint)
        _play(report, checkpoint, options)
    return report


def _checkpoint(run: RunData, missing: dict[str, str]) -> Checkpoint | None:
    try:
        return load_newest(run.path)[1]
    except UserError as error:
        missing["agent"] = missing["circuit"] = str(error)
        return None


def _draw_circuit(report: Report, checkpoint: Checkpoint, options: argparse.Namespace) -> None:
    try:
        report.circuit = circuit_of(checkpoint, options.ansatz)
    except UserError as error:
        report.missing["circuit"] = str(error)
    if report.circuit is None:
        return
    report.circuit_picture = figures.circuit_picture(report.circuit)
    report.probabilities = figures.probability_pictures(report.circuit)
    if not report.probabilities:
        report.missing["probabilities"] = f"More than {MOST_SIMULATED} qubits: the probabilities were not worked out."
    if report.circuit_picture is None:
        report.missing["drawing"] = f"More than {MOST_DRAWN} qubits: a drawing could not be read."


def _play(report: Report, checkpoint: Checkpoint, options: argparse.Namespace) -> None:
    _say(f"{options.episodes} episode{'s' if options.episodes > 1 else ''}")
    try:
        env_id = trusted("the run", "environment", "--env-id", checkpoint.config.env_id, options.env_id)
        policy = Policy(checkpoint.policy_spec, checkpoint.theta, options.policy_network)
        report.evaluation = agent.played(policy, env_id, report.run.path, episodes=options.episodes, seed=options.seed)
        _say("animation")
        count = min(options.gif_episodes, options.episodes)
        report.animation = agent.animated(policy, env_id, episodes=count, seed=options.seed)
    except UserError as error:
        report.missing["agent"] = str(error)


def _say(what: str) -> None:
    print(f"report: {what}", file=sys.stderr, flush=True)


def _parser() -> OneLineParser:
    parser = OneLineParser(prog="qtrl_hpc.report", description=__doc__, allow_abbrev=False)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN_DIR", help="directory of a run")
    parser.add_argument("--output", type=Path, help=f"file to write, .html (default: RUN_DIR/{NAME})")
    parser.add_argument("--episodes", type=whole_number(1), default=100, help="to evaluate the policy (default: 100)")
    parser.add_argument("--gif-episodes", type=whole_number(1), default=3, help="to draw of them (default: 3)")
    parser.add_argument("--seed", type=whole_number(0), default=0, help="of the evaluation (default: 0)")
    parser.add_argument("--env-id", help="another environment to play in than the run's, or the run's own module")
    parser.add_argument("--ansatz", help="the run's, where it is MODULE:OBJECT and you trust it")
    parser.add_argument("--policy-network", help="the run's, where it is MODULE:OBJECT and you trust it")
    parser.add_argument("--x", choices=POSITIONS, default="updates", help="axis of the curves (default: updates)")
    add_smoothing(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
