"""What a report draws: curves, time, probabilities, weights."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtrl_hpc import mlp
from qtrl_hpc.checkpoint import Checkpoint
from qtrl_hpc.drawing import COLOURS, tidy
from qtrl_hpc.policy import MLP, policy_layers
from qtrl_hpc.report.circuit import MOST_DRAWN, Circuit, drawn_circuit
from qtrl_hpc.report.curves import Curve, Group, curve, draw
from qtrl_hpc.report.data import RunData
from qtrl_hpc.report.svg import INK, Picture, page_style, picture
from qtrl_hpc.report.time import Time

SIZE = (5.2, 3.1)
"""Inches: text of 10 points can be read where this is as wide as a phone."""
LEGEND_LINE = 0.2
"""Inches that a line of a legend below takes, lest the axes have too little left."""
MOST_LAYERS, MOST_SIDE = 6, 512
BINS = 60
CIRCUIT_STYLE = {
    "backgroundcolor": "none",
    "textcolor": INK,
    "linecolor": INK,
    "gatefacecolor": "#2f6da8",
    "gatetextcolor": "#ffffff",
    "subfontsize": 9,
    "displaycolor": {},
}

PANELS: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    ("reward", "reward", (("reward_mean", ""),)),
    ("length", "episode length (steps)", (("episode_length_mean", ""),)),
    ("entropy", "entropy of the policy (nats)", (("entropy_mean", ""),)),
    (
        "gradients",
        "norm of the gradient",
        (("grad_norm", "all of Θ"), ("grad_norm_phi", "φ"), ("grad_norm_beta", "β")),
    ),
    ("probability-entropy", "entropy of the probabilities (nats)", (("probability_entropy", ""),)),
    ("participation", "participation ratio 1/Σp²", (("participation_ratio", ""),)),
)
"""Name, words for the axis, and keys of ``metrics.jsonl`` with words where there are several."""


def curve_pictures(groups: Sequence[Group], x: str, x_words: str, window: int) -> list[Picture]:
    """Return one figure a quantity that any run has."""
    pictures = []
    for name, words, keys in PANELS:
        # Several quantities and several groups in one figure would be too much: then the first quantity alone.
        wanted = keys if len(groups) == 1 else keys[:1]
        found = [(part, line) for key, part in wanted for group in groups if (line := curve(group, key, x, window))]
        curves = [
            replace(line, label=_both(line.label, part if len(found) > len(groups) else "")) for part, line in found
        ]
        if curves:
            raw = groups[0].runs[0] if len(groups) == 1 and len(groups[0].runs) == 1 and len(curves) == 1 else None
            pictures.append(_curves(name, words, curves, x_words, window, raw=_raw(raw, wanted[0][0], x)))
    return pictures


def evaluations_picture(run: RunData) -> Picture | None:
    """Return the evaluations on the way, each with its interval; None where there were none."""
    names = ("update", "reward_mean", "reward_low", "reward_high")
    rows = [tuple(row.get(name) for name in names) for row in run.evaluations]
    table = np.array([row for row in rows if all(isinstance(value, int | float) for value in row)], np.float64)
    if not table.size:
        return None
    update, mean, low, high = table.T
    with page_style():
        figure, axes = _panel()
        errors = np.abs(np.array([low, high]) - mean)
        axes.errorbar(update, mean, errors, fmt="o-", color=COLOURS[3], ecolor=COLOURS[3], capsize=2, markersize=4)
        axes.set(xlabel="updates", ylabel="reward, evaluated")
    alt = f"{len(table)} evaluations on the way, the last with a mean reward of {mean[-1]:.4g}"
    return picture(figure, "evaluations", alt, "Evaluated on the way: mean reward with its 95 % interval.")


def time_picture(time: Time) -> Picture:
    """Return where the time of updates goes, phases one upon the other."""
    with page_style():
        figure, axes = _panel()
        axes.stackplot(
            time.updates,
            time.milliseconds.T,
            labels=time.names,
            colors=[COLOURS[(number + 1) % len(COLOURS)] for number in range(len(time.names))],
            linewidth=0,
        )
        axes.set(xlabel="updates", ylabel="milliseconds an update")
        axes.set_ylim(bottom=0.0, top=1.25 * float(np.percentile(time.milliseconds.sum(axis=1), 98)))
        axes.margins(x=0.01)
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles[::-1], labels[::-1], loc="outside right center")
    most = max(time.shares, key=lambda share: share.percent)
    alt = f"Milliseconds an update by phase; {most.name} takes most, {most.percent:.0f} %"
    return picture(figure, "time", alt, "Means over a few updates each; single slow ones may be cut off.")


def circuit_picture(circuit: Circuit) -> Picture | None:
    """Return one layer of the circuit; None where it has too many qubits to be read."""
    ansatz = circuit.layer
    if ansatz.num_qubits > MOST_DRAWN:
        return None
    with page_style(maths=True):
        figure = drawn_circuit(ansatz, CIRCUIT_STYLE)
        alt = f"Circuit of one layer: {len(ansatz.targets)} gates on {ansatz.num_qubits} qubits"
        caption = "One layer. A gate's small print is the numbers of its angles in φ; a dot is a control."
        return picture(figure, "circuit", alt, caption, bbox_inches="tight", pad_inches=0.05)


def probability_pictures(circuit: Circuit) -> list[Picture]:
    """Return the trained circuit's probabilities as a map, and how they are spread, beside those at the start."""
    if circuit.probabilities is None or circuit.at_start is None:
        return []
    scaled = circuit.probabilities * circuit.ansatz.num_amplitudes
    return [_probability_map(scaled, circuit.ansatz.num_qubits), _spread(scaled, circuit)]


def weights_picture(checkpoint: Checkpoint) -> Picture:
    """Return the policy's weights, a map a layer."""
    layers = _layers(checkpoint)
    heights = [float(np.clip(weight.shape[0] / 14.0, 0.7, 3.0)) for weight, _ in layers[:MOST_LAYERS]]
    with page_style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.4, sum(heights) + 0.75 * len(heights)), layout="constrained")
        rows = np.atleast_1d(figure.subplots(len(heights), 1, height_ratios=heights))
        for number, (axes, (weight, bias)) in enumerate(zip(rows, layers[:MOST_LAYERS], strict=True), 1):
            _weights(figure, axes, weight, bias, f"fc{number}")
    sizes = "-".join(map(str, checkpoint.policy_spec.sizes))
    left = f" The first {MOST_LAYERS} of {len(layers)} layers." if len(layers) > MOST_LAYERS else ""
    cut = any(max(weight.shape) > MOST_SIDE for weight, _ in layers)
    left += f" Of each the first {MOST_SIDE} rows and columns." if cut else ""
    low, high = checkpoint.theta.min(), checkpoint.theta.max()
    alt = f"Heat maps of the weights of the policy {sizes}, from {low:.3g} to {high:.3g}"
    caption = (
        f"The {checkpoint.theta.size} weights θ, a row an output, a column an input; the last column is the bias.{left}"
    )
    return picture(figure, "weights", alt, caption)


def _layers(checkpoint: Checkpoint) -> mlp.Layers:
    """Return the layers of an mlp; of a network of the user's own, whose layers only its code knows, theta in rows."""
    theta, spec = checkpoint.theta, checkpoint.policy_spec
    if spec.network == MLP:
        return policy_layers(theta, spec)
    width = math.ceil(math.sqrt(4 * theta.size))
    rows = np.full(-(-theta.size // width) * width, np.nan)
    rows[: theta.size] = theta
    return [(rows.reshape(-1, width), np.empty(0))]


def _panel() -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.3, linewidth=0.6)
    axes.set_axisbelow(True)
    tidy(axes)
    return figure, axes


def _raw(run: RunData | None, key: str, x: str) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    return None if run is None else (run.position(x), run.values(key))


def _curves(
    name: str,
    words: str,
    curves: Sequence[Curve],
    x_words: str,
    window: int,
    raw: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
) -> Picture:
    with page_style():
        figure, axes = _panel()
        if raw is not None and window > 1:
            axes.plot(*raw, color=COLOURS[0], alpha=0.2, linewidth=0.5)
        draw(axes, curves)
        axes.set(xlabel=x_words, ylabel=words)
        if name == "gradients":
            axes.set_yscale("log")
        if any(each.label for each in curves):
            if len(curves) > 3 or max(len(each.label) for each in curves) > 24:
                figure.set_size_inches(SIZE[0], SIZE[1] + LEGEND_LINE * len(curves))
                figure.legend(loc="outside lower center")
            else:
                axes.legend()
    ends = "; ".join(_both(each.label, f"{each.middle[0]:.4g} to {each.middle[-1]:.4g}") for each in curves)
    alt = f"{words} against {x_words}, from the first to the last point: {ends}"
    mean = f", running mean of {window} updates" if window > 1 else ""
    return picture(figure, name, alt, f"{words[0].upper()}{words[1:]}{mean}.")


def _both(label: str, part: str) -> str:
    return ": ".join(filter(None, (label, part)))


def _probability_map(scaled: NDArray[np.float64], num_qubits: int) -> Picture:
    table = np.log10(np.maximum(scaled, 1e-4)).reshape(-1, 1 << ((num_qubits + 1) // 2))
    with page_style():
        figure, axes = _panel()
        axes.grid(visible=False)
        shown = axes.imshow(table, cmap="viridis", aspect="auto", interpolation="none")
        figure.colorbar(shown, ax=axes, label="log₁₀(2ⁿ p)")
        axes.set(xlabel="low bits of the basis state", ylabel="high bits")
    alt = f"Map of the probabilities of all {scaled.size} basis states; the largest is {scaled.max() / scaled.size:.3g}"
    return picture(figure, "probabilities", alt, "Probability p of each basis state, as a multiple of 1/2ⁿ.")


def _spread(scaled: NDArray[np.float64], circuit: Circuit) -> Picture:
    start = circuit.at_start
    assert start is not None
    before = start * circuit.ansatz.num_amplitudes
    edges = np.linspace(0.0, max(scaled.max(), before.max()), BINS + 1)
    with page_style():
        figure, axes = _panel()
        for values, colour, label in ((before, COLOURS[1], "at the start"), (scaled, COLOURS[5], "trained")):
            axes.stairs(np.histogram(values, edges)[0], edges, color=colour, label=label, linewidth=1.4)
        expected = scaled.size * (np.exp(-edges[:-1]) - np.exp(-edges[1:]))
        there = expected >= 0.5
        axes.plot(edges[:-1][there], expected[there], ":", color=COLOURS[0], label="of a random state")
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.6)
        axes.set(xlabel="2ⁿ p", ylabel="basis states")
        axes.legend()
    ratio = f"participation ratio {circuit.concentration.participation_ratio:.0f}"
    alt = f"Histogram of the probabilities, at the start and trained; {ratio}"
    caption = (
        "How many basis states have which probability; a random state's fall off exponentially (Porter and Thomas)."
    )
    return picture(figure, "spread", alt, caption)


def _weights(figure: Any, axes: Any, weight: NDArray[np.float64], bias: NDArray[np.float64], name: str) -> None:
    shown = weight[:MOST_SIDE, :MOST_SIDE]
    width = max(1, shown.shape[1] // 60) if bias.size else 0
    gap, column = np.full((len(shown), width), np.nan), np.repeat(bias[: len(shown), None], width, axis=1)
    table = np.hstack([shown, gap, column]) if width else shown
    limit = float(np.nanmax(np.abs(table))) or 1.0
    drawn = axes.imshow(table, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", interpolation="none")
    figure.colorbar(drawn, ax=axes, pad=0.01)
    axes.set_title(f"{name}: {weight.shape[0]} × {weight.shape[1]}, and {bias.size} biases", loc="left")
