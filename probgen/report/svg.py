"""Figures as SVG inside a page: no files beside it, and the page's own colours, so that they follow light and dark."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

from probgen.plots import style

__all__ = ["draw"]

DOTS = 180  # an inch, of the few parts that are pictures: clouds of many points

VARIABLES = {
    style.INK: "--ink",
    style.MUTED: "--muted",
    style.GRID: "--grid",
    style.FAINT: "--faint",
    style.PAPER: "--paper",
    **{colour: f"--c{i}" for i, colour in enumerate(style.CYCLE)},
}


def draw(name: str, alt: str, size: tuple[float, float], paint: Callable[[Figure], object]) -> Markup:
    """A figure as an ``<svg>`` element.

    Args:
        name: makes the ids inside the figure its own among all figures of the page.
        alt: what the figure shows, for those who do not see it.
        size: width and height, inches.
        paint: draws into the figure.
    """
    buffer = io.StringIO()
    with style.house(), rc_context({"svg.hashsalt": name}):  # the same ids every time
        figure = Figure(figsize=size, layout="constrained")
        paint(figure)
        figure.savefig(buffer, format="svg", dpi=DOTS, transparent=True, metadata={"Date": None, "Creator": None})
    return Markup(themed(own_ids(stripped(buffer.getvalue()), name), alt))


def stripped(text: str) -> str:
    """Without the XML prologue and matplotlib's metadata."""
    text = text[text.index("<svg") :]
    return re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)


def own_ids(text: str, name: str) -> str:
    """Ids with the figure's name in front, where they are made and where they are used."""
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    return re.sub(r'href="#', f'href="#{name}-', text)


def themed(text: str, alt: str) -> str:
    """The house's colours as variables of the page, its fonts, and words for the figure."""
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    text = re.sub(r"(font(?:-family)?): [^;\"]*?(?:'[^']*'(?:, )?)+(?:[^;\"]*)", shortened_font, text)
    label = str(Markup.escape(alt))
    head, rest = text.split(">", 1)
    head = re.sub(r' (?:width|height)="[^"]*"', "", head)
    width = re.search(r'viewBox="0 0 ([\d.]+)', head)
    limit = f' style="max-width: {float(width[1]) * 4 / 3:.0f}px"' if width else ""
    return f'{head} role="img" aria-label="{label}"{limit}>{rest}'


def shortened_font(found: re.Match[str]) -> str:
    """Size and weight as drawn, the family of the page."""
    if found[1] == "font-family":
        return "font-family: inherit"
    return re.sub(r"'.*$", "var(--sans)", found[0])
