"""The figures of a report, as SVG for the page and PNG beside it.

Model: a figure is a function from findings to a matplotlib Figure of 8 inches' width, drawn in
three colours that a page may replace (ink, rules, paper) and data colours that hold on light
and on dark paper (Okabe and Ito's palette, viridis).
Invariant: the same findings give the same bytes: no date, a fixed hash salt, no global state of
pyplot. Labels are English.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from raylab.report.numbers import number, setting
from raylab.report.summary import Heat, Row, SeedRow

INK, RULE, PAPER = "#1b1f24", "#d3d8de", "#ffffff"
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
MOST = 6
_WIDTH = 8.0
_WIDE_SPAN = 30
_STYLE = {
    "svg.hashsalt": "raylab",
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.facecolor": PAPER,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": PAPER,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Drawing:
    """A finished figure: its bytes as SVG and as PNG at 150 dpi."""

    svg: bytes
    png: bytes


@contextmanager
def _style() -> Iterator[None]:
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **_STYLE}):
        yield


def _drawing(figure: Figure) -> Drawing:
    FigureCanvasAgg(figure)
    svg, png = io.BytesIO(), io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    figure.savefig(png, format="png", dpi=150, metadata={"Software": None})
    return Drawing(svg.getvalue(), png.getvalue())


def inline_svg(svg: bytes, name: str, description: str) -> str:
    """The SVG as an element of an HTML page, which sets its ink, rules and paper by CSS.

    `name` keeps its ids apart from those of other figures; `description` must be plain text.
    """
    text = svg.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    text = text.replace(INK, "currentColor").replace(RULE, "var(--rule)").replace(PAPER, "none")
    label = description.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


def seed_figure(rows: Sequence[SeedRow]) -> Drawing:
    """L2 of each data pair, one bar for each seed; a log axis where values span over 30x."""
    seeds = rows[0].seeds
    with _style():
        height = 0.9 + len(rows) * (0.24 + 0.2 * len(seeds))
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.add_subplot()
        for index, seed in enumerate(seeds):
            _draw_seed(axes, rows, index, seed)
        labels = [f"{row.label}\nlearning rate {setting(row.learning_rate)}" for row in rows]
        axes.set_yticks(range(len(rows)), labels)
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        _scale_lengths(axes, [value for row in rows for value in row.l2.values()])
        axes.set_xlabel("L2 norm of the difference")
        figure.legend(loc="outside upper left", ncols=len(seeds))
        return _drawing(figure)


def _draw_seed(axes: Axes, rows: Sequence[SeedRow], index: int, seed: int) -> None:
    height = 0.8 / len(rows[0].seeds)
    places = [place - 0.4 + height * (index + 0.5) for place in range(len(rows))]
    values = [row.l2[seed] for row in rows]
    colour = COLOURS[index % len(COLOURS)]
    axes.barh(
        places,
        [value or 0 for value in values],
        height * 0.86,
        color=colour,
        label=f"seed {seed}",
    )
    for place, value in zip(places, values, strict=True):
        text = "not measured" if value is None else number(value)
        start = (value or 0, place) if value else (0, place)
        frame = "data" if value else axes.get_yaxis_transform()
        axes.annotate(
            text, start, (4, 0), xycoords=frame, textcoords="offset points", va="center", size=8.5
        )


def _scale_lengths(axes: Axes, values: Iterable[float | None]) -> None:
    positive = [value for value in values if value]
    axes.grid(axis="x")
    if positive and max(positive) / min(positive) > _WIDE_SPAN:
        axes.set_xscale("log")
        axes.set_xlim(min(positive) / 3, max(positive) * 2.5)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: setting(value)))
    else:
        axes.set_xlim(0, max(positive, default=1) * 1.13)


def heat_figure(heats: Sequence[Heat], names: Sequence[str]) -> Drawing:
    """Norms by layer and module: one panel for each comparison, one colour scale for all."""
    assert 0 < len(heats) <= MOST, "a heat figure has one to six panels"
    columns = min(3, len(heats))
    lines = math.ceil(len(heats) / columns)
    deepest = max(len(item.layers) for item in heats)
    with _style():
        height = lines * (1.5 + min(3.6, 0.16 * deepest)) + 0.2
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        grid = figure.subplots(lines, columns, squeeze=False)
        scale = _colour_scale(heats)
        for axes, item, name in zip(grid.flat, heats, names, strict=False):
            mesh = _draw_heat(axes, item, name, scale)
        for axes in grid.flat[len(heats) :]:
            axes.set_visible(False)
        for axes in grid[:, 0]:
            axes.set_ylabel("layer")
        bar = figure.colorbar(mesh, ax=grid, shrink=0.8, aspect=28, pad=0.02)
        bar.set_label(_MEASURES[heats[0].measure])
        bar.outline.set_visible(False)
        _plain_ticks(bar.ax, scale)
        return _drawing(figure)


_MEASURES = {"relative_l2": "L2 relative to the base's weights", "l2": "L2 norm"}


def _plain_ticks(axes: Axes, scale: Normalize) -> None:
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: setting(value)))
    if isinstance(scale, LogNorm):
        axes.yaxis.set_minor_formatter(NullFormatter())


def _colour_scale(heats: Sequence[Heat]) -> Normalize:
    values = [value for item in heats for line in item.values for value in line if value]
    if not values:
        return Normalize(0, 1)
    low, high = min(values), max(values)
    return LogNorm(low, high) if high / low > _WIDE_SPAN else Normalize(0, high)


def _draw_heat(axes: Axes, item: Heat, name: str, scale: Normalize) -> QuadMesh:
    values = [[math.nan if v is None else v for v in line] for line in item.values]
    shape = len(item.modules), len(item.layers)
    mesh = axes.pcolormesh(
        [place - 0.5 for place in range(shape[0] + 1)],
        [place - 0.5 for place in range(shape[1] + 1)],
        values or [[math.nan]],
        norm=scale,
        cmap="viridis",
        # Without edges of their own colour, cells show seams when the SVG is scaled.
        edgecolors="face",
        linewidth=0.4,
    )
    axes.set_xticks(range(shape[0]), item.modules, rotation=50, ha="right", rotation_mode="anchor")
    axes.yaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda place, _: _layer(item.layers, place)))
    axes.set_title(name.replace(" vs ", "\nvs "))
    axes.tick_params(length=2)
    axes.spines[:].set_visible(False)
    return mesh


def _layer(layers: Sequence[int], place: float) -> str:
    return str(layers[int(place)]) if 0 <= place < len(layers) and place == int(place) else ""


def curve_figure(curves: Mapping[str, Sequence[Row]]) -> Drawing:
    """The share of L1 and of L2 in the largest n % of values; one line for each comparison."""
    with _style():
        height = 3.4 + 0.19 * math.ceil(len(curves) / 2)
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        panels = figure.subplots(1, 2, sharex=True, sharey=True)
        for axes, column in zip(panels, ("l1_share", "l2_share"), strict=True):
            _draw_curves(axes, curves, column)
            axes.set_title(f"share of {column[:2].upper()} (%)")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, handlelength=3.2)
        return _drawing(figure)


def _draw_curves(axes: Axes, curves: Mapping[str, Sequence[Row]], column: str) -> None:
    for index, (name, rows) in enumerate(curves.items()):
        kept = [(100 * r["density"], 100 * r[column]) for r in rows if r[column] is not None]
        axes.plot(
            *zip(*sorted(kept), strict=True) if kept else ((), ()),
            color=COLOURS[index % len(COLOURS)],
            linestyle=DASHES[index % len(DASHES)],
            linewidth=1.8,
            label=name,
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: setting(value)))
    axes.set_xlabel("largest values kept (%)")
    axes.set_ylim(0, 102)
    axes.grid()
