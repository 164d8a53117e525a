"""Figures: one style, colour-blind safe, and SVG that is legible on light and on dark ground.

Text and axes are drawn in `INK`, which the SVG turns into `currentColor`: inside a page they take the page's colour,
in a file opened alone they follow the system's theme. The ground is transparent. Minus, or Adam, is blue; plus, or
Muon, is orange.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

from unrolled.core import require
from unrolled.instruments.reading import COLORS, axes
from unrolled.runs import atomic

__all__ = ["COLORS", "INK", "MINUS", "PLUS", "Drawing", "axes", "draw", "inline", "save", "style"]

MINUS, PLUS = COLORS[0], COLORS[1]
INK = "#1c1e21"

POINTS = 2000
"""A line with more points is drawn by the least and the greatest of each stretch."""

LIMIT = 400_000
"""Bytes. A larger drawing has its data drawn as an image, its text and axes as text and axes."""

STYLE: dict[str, Any] = {
    "figure.figsize": (4.8, 3.0),
    "figure.facecolor": "none",
    "figure.constrained_layout.use": True,
    "savefig.facecolor": "none",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "axes.facecolor": "none",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "hatch.color": INK,
    "patch.edgecolor": INK,
    "boxplot.flierprops.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4,
    "svg.fonttype": "path",
}


@dataclass(frozen=True)
class Drawing:
    """An SVG file's text, and what a careful reader should know of how it was drawn."""

    svg: str
    notes: tuple[str, ...] = ()


@contextmanager
def style() -> Iterator[None]:
    """The house style for every figure made within the block.

    Raises:
        ImportError: matplotlib is not installed (extra `report`).

    Example:
        >>> import matplotlib
        >>> with style():
        ...     matplotlib.rcParams["axes.spines.top"]
        False
    """
    matplotlib = require("matplotlib", extra="report")
    cycler = require("cycler", extra="report")
    with matplotlib.rc_context({**STYLE, "axes.prop_cycle": cycler.cycler(color=COLORS)}):
        yield


def draw(
    figure: Any, *, caption: str = "", salt: str = "figure", points: int = POINTS, limit: int = LIMIT
) -> Drawing:
    """A matplotlib figure as SVG; the same figure gives the same text. The figure is left as it was.

    Args:
        figure: a `matplotlib.figure.Figure`.
        caption: goes into the file as its description.
        salt: what the ids in the file derive from.
        points: lines with more points are thinned to about as many.
        limit: bytes; a larger drawing has its data drawn as an image.

    Raises:
        ImportError: matplotlib is not installed (extra `report`).
    """
    with _thinned(figure, points) as notes:
        text = _svg(figure, salt)
        if len(text) > limit:
            with _as_image(figure):
                for dpi in (150, 100, 60):
                    text = _svg(figure, salt, dpi)
                    if len(text) <= limit:
                        break
            notes = [*notes, "the data are drawn as an image, to keep the file small"]
    return Drawing(_adapted(text, caption), tuple(notes))


def save(figure: Any, path: str | os.PathLike[str], *, caption: str = "", **options: Any) -> Drawing:
    """Draw a figure and write the SVG file atomically.

    Args:
        figure: a `matplotlib.figure.Figure`.
        path: a file name that ends in `.svg`.
        caption: what the figure shows, in a sentence or two.
        options: see `draw`.

    Raises:
        ImportError: matplotlib is not installed (extra `report`).
        DiskFull: no space left; the old file is whole.
    """
    target = Path(path)
    drawing = draw(figure, caption=caption, salt=target.stem, **options)
    target.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(target, drawing.svg)
    return drawing


def inline(svg: str, *, prefix: str, label: str = "") -> str:
    """An SVG file's text as an element of an HTML page: no prolog, ids of its own, a size that fits the page.

    Args:
        svg: the text of the file.
        prefix: goes before every id, so that two drawings on a page do not mix.
        label: what a screen reader says.

    Raises:
        ValueError: this is no SVG.

    Example:
        >>> inline('<svg viewBox="0 0 100 50"><path id="a"/><use href="#a"/></svg>', prefix="f1")
        '<svg style="width: 133px; min-width: 85px" role="img" viewBox="0 0 100 50"><path id="f1-a"/><use href="#f1-a"/></svg>'
    """
    try:
        root = ElementTree.fromstring(svg)
    except ElementTree.ParseError as error:
        raise ValueError(f"this is no SVG: {error}") from error
    start = re.search(r"<svg\b[^>]*>", svg)
    if start is None or not root.tag.endswith("svg"):
        raise ValueError(f"this is no SVG: its root is <{root.tag}>")
    size = re.findall(r"[\d.]+", root.get("viewBox", "0 0 360 240"))
    wide = float(size[2])
    kept = re.sub(r"\s(width|height|style|role|aria-label)=(\"[^\"]*\"|'[^']*')", "", start[0])
    # 4/3 px to the point is the size it was drawn for; below 0.85 its text becomes too small, so the page scrolls it.
    ours = f' style="width: {wide * 4 / 3:.0f}px; min-width: {wide * 0.85:.0f}px" role="img"'
    ours += f" aria-label={quoteattr(label)}" if label else ""
    body = svg[start.end() :]
    body = re.sub(r"<(title|desc|metadata|style)\b[^>]*>.*?</\1>", "", body, flags=re.DOTALL)
    text = kept[:4] + ours + kept[4:] + body
    text = re.sub(r'(\sid=")', rf"\1{prefix}-", text)
    text = re.sub(r'(href="#)', rf"\1{prefix}-", text)
    return re.sub(r"(url\(#)", rf"\1{prefix}-", text).strip()


def description(svg: str) -> str:
    """The caption that `save` put into a file; empty if it has none."""
    found = re.search(r"<desc>(.*?)</desc>", svg, flags=re.DOTALL)
    if found is None:
        return ""
    return found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def thin(x: Any, y: Any, points: int) -> Any:
    """Indices that keep the look of a curve: the least and the greatest y of each stretch, ends and gaps included.

    Args:
        x: `[n]`. Where it does not increase, every k-th point is kept instead.
        y: `[n]`; NaN is a gap.
        points: about how many to keep.

    Example:
        >>> import numpy
        >>> y = numpy.zeros(10_000)
        >>> y[1234] = 5.0
        >>> kept = thin(numpy.arange(10_000), y, 100)
        >>> bool(len(kept) <= 102 and y[kept].max() == 5.0)
        True
    """
    import numpy

    x, y = numpy.asarray(x, float), numpy.asarray(y, float)
    n = len(y)
    if n <= points:
        return numpy.arange(n)
    if not bool((numpy.diff(x) >= 0).all()):
        return numpy.unique(numpy.append(numpy.arange(0, n, -(-n // points)), n - 1))
    edges = numpy.linspace(0, n, max(points // 2, 1) + 1).astype(int)
    kept = [0, n - 1]
    for a, b in pairwise(edges):
        part = y[a:b]
        gap = numpy.isnan(part)
        if gap.all():
            kept.append(int(a))
            continue
        kept += [int(a + numpy.nanargmin(part)), int(a + numpy.nanargmax(part))]
        if gap.any():
            kept.append(int(a + gap.argmax()))
    return numpy.unique(kept)


@contextmanager
def _thinned(figure: Any, points: int) -> Iterator[list[str]]:
    """Long lines thinned and crowded collections drawn as images, within the block."""
    lines, crowded, notes = [], [], []
    for ax in figure.get_axes():
        for line in ax.get_lines():
            x, y = line.get_xdata(orig=False), line.get_ydata(orig=False)
            if len(y) > points:
                kept = thin(x, y, points)
                lines.append((line, line.get_xdata(), line.get_ydata()))
                line.set_data(x[kept], y[kept])
                notes.append(
                    f"{len(kept):,} of {len(y):,} points are drawn, with the extremes of each stretch"
                )
        for patches in ax.collections:
            vertices = sum(len(path.vertices) for path in patches.get_paths())
            size = max(vertices, len(patches.get_offsets()), _size(patches.get_array()))
            if size > points and not patches.get_rasterized():
                crowded.append(patches)
                patches.set_rasterized(True)
    try:
        yield list(dict.fromkeys(notes))
    finally:
        for line, x, y in lines:
            line.set_data(x, y)
        for patches in crowded:
            patches.set_rasterized(False)


@contextmanager
def _as_image(figure: Any) -> Iterator[None]:
    """All data drawn as images within the block."""
    drawn = [
        artist
        for ax in figure.get_axes()
        for artist in (*ax.get_lines(), *ax.collections, *ax.patches)
        if not artist.get_rasterized()
    ]
    for artist in drawn:
        artist.set_rasterized(True)
    try:
        yield
    finally:
        for artist in drawn:
            artist.set_rasterized(False)


def _size(values: Any) -> int:
    return 0 if values is None else int(values.size)


def _svg(figure: Any, salt: str, dpi: int = 150) -> str:
    matplotlib = require("matplotlib", extra="report")
    buffer = StringIO()
    with matplotlib.rc_context({"svg.hashsalt": salt, "svg.fonttype": "path"}):
        figure.savefig(
            buffer, format="svg", transparent=True, dpi=dpi, metadata={"Date": None, "Creator": None}
        )
    return buffer.getvalue()


def _adapted(svg: str, caption: str) -> str:
    """The SVG without prolog and metadata, in the ground's ink, with its caption."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, count=1, flags=re.DOTALL)
    # matplotlib's own style would reach beyond the drawing, into the page.
    svg = re.sub(r"\s*<defs>\s*<style[^>]*>[^<]*</style>\s*</defs>", "", svg, count=1)
    svg = re.sub(rf"{INK}|#000000", "currentColor", svg, flags=re.IGNORECASE)
    first = svg.index(">") + 1
    head = svg[: first - 1] + ' fill="currentColor" stroke-linejoin="round" stroke-linecap="butt">'
    theme = (
        f"\n <style>svg:root {{ color: {INK} }} "
        "@media (prefers-color-scheme: dark) { svg:root { color: #e4e6eb } }</style>"
    )
    told = f"\n <desc>{escape(caption)}</desc>" if caption else ""
    return head + told + theme + svg[first:]
