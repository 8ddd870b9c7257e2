"""Charts as Vega-Lite specifications, drawn as SVG and PNG without a browser.

Model: a chart is themed here; a page replaces its ink (currentColor) by its
own. The interactive figure of a page and the files beside it come from one specification.
Invariant: the same specification gives the same bytes: ids are numbered within a drawing. Text
stays text in SVG, so that a reader's fonts show it; PNG needs fonts where it is drawn.
"""

from __future__ import annotations

import copy
import functools
import json
import re
from dataclasses import dataclass
from typing import Any

from raylab.report.figures.vega_lite import Chart, Part

PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8a8a8a", "#b8a000")
"""Okabe and Ito's colours, which colour-blind readers can tell apart, on light and dark paper."""
FONT = "'Noto Sans', 'DejaVu Sans', 'Noto Sans CJK JP', 'Hiragino Sans', 'Yu Gothic', sans-serif"
WIDTH = 640
_RULE = "#8888884d"
_INK = "currentColor"
CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": FONT,
    "view": {"stroke": None, "continuousWidth": WIDTH},
    "axis": {
        "labelColor": _INK, "titleColor": _INK, "domainColor": _RULE, "tickColor": _RULE,
        "gridColor": _RULE, "labelFontSize": 11, "titleFontSize": 12, "titleFontWeight": "normal",
        "labelLimit": 260,
    },
    "legend": {
        "labelColor": _INK, "titleColor": _INK, "orient": "top", "columns": 3, "labelLimit": 220,
        "titleFontWeight": "normal", "titleFontSize": 12, "labelFontSize": 11, "titleLimit": 500,
    },
    "title": {
        "color": _INK, "anchor": "start", "fontSize": 12, "fontWeight": "normal", "lineHeight": 16,
        "offset": 8,
    },
    "text": {"color": _INK, "fontSize": 11},
    "rule": {"color": _INK},
    "range": {"category": list(PALETTE), "heatmap": {"scheme": "viridis"}},
}  # fmt: skip


@dataclass(frozen=True)
class Drawing:
    """A Vega-Lite specification as JSON text with sorted keys."""

    spec: str

    @classmethod
    def of(cls, chart: Chart) -> Drawing:
        """The chart in raylab's theme. Raises ValueError for a value that JSON does not have."""
        spec = themed(chart)
        # One legend below the other, for narrow windows; Vega takes this, its schema does not.
        spec["config"]["legend"]["layout"] = {"top": {"direction": "vertical", "anchor": "start"}}
        text = json.dumps(
            spec, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        )
        return cls(text)

    @functools.cached_property
    def svg(self) -> bytes:
        """The figure as SVG, its ink currentColor."""
        import vl_convert

        return number_ids(vl_convert.vegalite_to_svg(self._with_own_width())).encode()

    @functools.cached_property
    def png(self) -> bytes:
        """The figure as PNG on white, at twice its size."""
        import vl_convert

        spec = self._with_own_width().replace('"currentColor"', '"#1b1f24"')
        spec = spec.replace('"background":"transparent"', '"background":"white"')
        return bytes(vl_convert.vegalite_to_png(spec, scale=2))

    def _with_own_width(self) -> str:
        # A page gives its own width to a figure that fills its container; a file has none.
        return self.spec.replace('"width":"container"', f'"width":{WIDTH}')


def themed(chart: Chart) -> Part:
    """The specification of a chart in raylab's theme; its config is the caller's own."""
    return chart.spec | {"config": {name: copy.copy(of) for name, of in CONFIG.items()}}


def number_ids(svg: str, prefix: str = "") -> str:
    """The SVG with its ids numbered in their order, behind `prefix`."""
    for number, name in enumerate(dict.fromkeys(re.findall(r'\bid="([^"]+)"', svg))):
        use = rf'(\bid="|href="#|url\(#){re.escape(name)}(?=["\)])'
        svg = re.sub(use, rf"\g<1>{prefix}i{number}", svg)
    return svg
