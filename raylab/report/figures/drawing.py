"""Figures as values: a Vega-Lite specification, drawn as SVG and PNG without a browser.

Model: a chart is made with Altair and themed here; a page replaces its ink (currentColor) by its
own. The interactive figure of a page and the files beside it come from one specification.
Invariant: the same specification gives the same bytes: ids are numbered within a drawing. Text
stays text in SVG, so that a reader's fonts show it; PNG needs fonts where it is drawn.
"""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from typing import Any

import altair as alt
import vl_convert

PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8a8a8a", "#b8a000")
"""Okabe and Ito's colours, which colour-blind readers can tell apart, on light and dark paper."""
FONT = "'Noto Sans', 'DejaVu Sans', 'Noto Sans CJK JP', 'Hiragino Sans', 'Yu Gothic', sans-serif"
WIDTH = 640
_RULE = "#8888884d"
_INK = "currentColor"
_AXIS = {
    "labelColor": _INK, "titleColor": _INK, "domainColor": _RULE, "tickColor": _RULE,
    "gridColor": _RULE, "labelFontSize": 11, "titleFontSize": 12, "titleFontWeight": "normal",
    "labelLimit": 260,
}  # fmt: skip
CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": FONT,
    "view": {"stroke": None, "continuousWidth": WIDTH},
    "axis": _AXIS,
    "legend": {
        "labelColor": _INK, "titleColor": _INK, "orient": "top", "columns": 3, "labelLimit": 220,
        "titleFontWeight": "normal", "titleFontSize": 12, "labelFontSize": 11, "titleLimit": 500,
    },
    "text": {"color": _INK, "fontSize": 11},
    "rule": {"color": _INK},
    "range": {"category": list(PALETTE), "heatmap": {"scheme": "viridis"}},
}  # fmt: skip


@dataclass(frozen=True)
class Drawing:
    """A Vega-Lite specification as JSON text with sorted keys."""

    spec: str

    @functools.cached_property
    def svg(self) -> bytes:
        """The figure as SVG, its ink currentColor."""
        return numbered(vl_convert.vegalite_to_svg(self._fixed())).encode()

    @functools.cached_property
    def png(self) -> bytes:
        """The figure as PNG on white, at twice its size."""
        spec = self._fixed().replace('"currentColor"', '"#1b1f24"')
        spec = spec.replace('"background": "transparent"', '"background": "white"')
        return bytes(vl_convert.vegalite_to_png(spec, scale=2))

    def _fixed(self) -> str:
        # A page gives its own width to a figure that fills its container; a file has none.
        return self.spec.replace('"width": "container"', f'"width": {WIDTH}')


def themed(chart: alt.TopLevelMixin) -> alt.TopLevelMixin:
    """The chart in raylab's theme."""
    return chart.configure(**CONFIG)


def drawing(chart: alt.TopLevelMixin) -> Drawing:
    """The chart in raylab's theme. Raises what Altair raises for a chart that is not valid."""
    spec = themed(chart).to_dict()
    spec.pop("$schema", None)
    return Drawing(json.dumps(spec, sort_keys=True, ensure_ascii=False, allow_nan=False))


def numbered(svg: str, prefix: str = "") -> str:
    """The SVG with its ids numbered in their order, behind `prefix`."""
    found = dict.fromkeys(re.findall(r'\bid="([^"]+)"', svg))
    for place, name in enumerate(found):
        svg = re.sub(
            rf'(\bid="|href="#|url\(#){re.escape(name)}(?=["\)])', rf"\g<1>{prefix}i{place}", svg
        )
    return svg


@functools.cache
def bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script without an address that it would load."""
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))
