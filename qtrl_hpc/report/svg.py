"""Matplotlib's figures as SVG that stands in a page: nothing from outside, the page's colours, names of its own."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any

from qtrl_hpc.drawing import image

INK = "#1a2b3c"
"""Stands for the page's own colour of text, light or dark."""


@dataclass(frozen=True)
class Picture:
    """A figure for the page."""

    name: str
    """Unlike those of the others on the page."""
    svg: str
    alt: str
    """In words, for those who do not see it."""
    caption: str


@contextmanager
def page_style(*, maths: bool = False) -> Iterator[None]:
    """Draw in the page's colours; text is a name of somebody's, not maths, unless ``maths``."""
    from matplotlib import rc_context

    inks = ("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
    style: dict[Any, Any] = {"font.size": 10.0, "axes.titlesize": 10.0, "legend.frameon": False, "legend.fontsize": 9.0}
    style |= {**dict.fromkeys(inks, INK), "text.parse_math": maths}
    with rc_context(style):
        yield


def picture(figure: Any, name: str, alt: str, caption: str, **options: Any) -> Picture:
    """Return a figure as a picture for the page.

    Args:
        figure: matplotlib's, drawn in ``page_style``.
        name: unlike those of the others on the page; of letters and hyphens.
        alt: what it shows, in words.
        caption: stands below it.
        **options: of ``savefig``.
    """
    from matplotlib import rc_context

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        text = image(figure, "svg", transparent=True, **options).decode()
    return Picture(name, inline(text, name, alt), alt, caption)


def inline(text: str, name: str, alt: str) -> str:
    """Return an SVG file as an element of a page: as wide as it may be, its identifiers beginning with ``name``."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<image\b[^>]*?) id="[^"]*"', r"\g<1>", text)  # which equal images share
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    text = re.sub(rf"{INK}|#000000", "currentColor", text, flags=re.IGNORECASE)
    head, body = text.split(">", 1)
    box = re.search(r'viewBox="([^"]*)"', head)
    size = f'viewBox="{box[1]}"' if box else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {size} role="img" '
        f'aria-label="{escape(alt)}">{body}'
    )
