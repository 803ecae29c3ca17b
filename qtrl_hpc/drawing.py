"""What figures have in common: colours, frames, files (matplotlib, of the extras ``report`` and ``reproduce``)."""

import io
from typing import Any

# Okabe and Ito's colours, which the colour-blind can tell apart.
COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#D55E00", "#0072B2", "#CC79A7", "#F0E442")


def tidy(*several: Any) -> None:
    """Take away the lines above and to the right of axes."""
    for axes in several:
        axes.spines[["top", "right"]].set_visible(False)


def image(figure: Any, kind: str, **options: Any) -> bytes:
    """Return a figure as the bytes of a file; the same figure is the same file.

    Args:
        figure: matplotlib's.
        kind: png, pdf or svg.
        **options: of ``savefig``.
    """
    from matplotlib import rc_context, rcParams

    content = io.BytesIO()
    dated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind, {})
    with rc_context({"svg.hashsalt": rcParams["svg.hashsalt"] or "qtrl_hpc"}):  # or identifiers are drawn anew
        figure.savefig(content, format=kind, metadata=dated, **options)
    return content.getvalue()
