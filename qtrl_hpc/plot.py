"""Draw curves of runs: ``python -m qtrl_hpc.plot RUN_DIR [RUN_DIR …] --output reward.png``."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qtrl_hpc.command import OneLineParser, run_refusing
from qtrl_hpc.drawing import image, tidy
from qtrl_hpc.errors import EXIT_DONE, UserError, shown
from qtrl_hpc.extras import require
from qtrl_hpc.output_file import check_output, write_output
from qtrl_hpc.report.curves import BAND, Curve, add_smoothing, curve, default_window, draw, grouped
from qtrl_hpc.report.data import POSITIONS, QUANTITIES, RunData, load


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_refusing(command, argv)


def command(argv: list[str]) -> int:
    """Read the command line, draw, and say what was drawn.

    Raises:
        UserError: naming the flag or file, what was got and what is expected.
    """
    options = _parser().parse_args(argv)
    require("qtrl_hpc.plot", "report", "matplotlib")
    check_output(options.output, "--output", ".png", ".pdf", ".svg")
    runs = [load(path) for path in options.runs]
    window = options.smooth or default_window(runs)
    groups = grouped(runs)
    key, words = QUANTITIES.get(options.quantity, (options.quantity, options.quantity.replace("_", " ")))
    curves = [found for group in groups if (found := curve(group, key, options.x, window))]
    if not curves:
        raise UserError(
            f"--quantity: got {shown(options.quantity)}, which no run has, expected one of {_present(runs)}"
        )
    figure = draw_figure(curves, POSITIONS[options.x], _axis(words, window))
    write_output(options.output, "--output", image(figure, options.output.suffix[1:].lower(), dpi=150))
    drawn = f"{_count(len(runs), 'run')} in {_count(len(curves), 'curve')}"
    print(f"{options.output}: {words}, {drawn}, running mean of {_count(window, 'update')}")
    return EXIT_DONE


def draw_figure(curves: Sequence[Curve], x_words: str, y_words: str) -> Any:
    """Return a figure of curves with their bands, and words that say what a band is."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"text.parse_math": False}):  # labels are names, of people's own
        figure = Figure(figsize=(7.0, 4.2), layout="constrained")
        axes = figure.subplots()
        draw(axes, curves)
        axes.set(xlabel=x_words, ylabel=y_words)
        axes.grid(alpha=0.25, linewidth=0.6)
        tidy(axes)
        bands = any(each.num_runs > 1 for each in curves)
        if bands:
            figure.supxlabel(BAND, fontsize="x-small", color="0.35")
        if len(curves) > 1 or bands:
            axes.legend(frameon=False, fontsize="small")
        return figure


def _axis(words: str, window: int) -> str:
    return words if window == 1 else f"{words}\n(running mean of {window} updates)"


def _present(runs: Sequence[RunData]) -> str:
    keys = {name for run in runs for name in run.rows[-1] if name != "update"}
    short = [name for name, (key, _) in QUANTITIES.items() if key in keys]
    return ", ".join([*short, *sorted(keys - {key for key, _ in QUANTITIES.values()} - {"qpu_failures", "left"})])


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _parser() -> OneLineParser:
    parser = OneLineParser(prog="qtrl_hpc.plot", description=__doc__, epilog=BAND, allow_abbrev=False)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN_DIR", help="directory of a run")
    parser.add_argument("--output", type=Path, required=True, help="file to write: .png, .pdf or .svg")
    parser.add_argument(
        "--quantity",
        default="reward",
        help=f"{', '.join(QUANTITIES)}, or any key of metrics.jsonl (default: reward)",
    )
    parser.add_argument("--x", choices=POSITIONS, default="updates", help="axis to draw against (default: updates)")
    add_smoothing(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
