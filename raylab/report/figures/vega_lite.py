"""Vega-Lite specifications as plain values: what a figure is made of.

Model: options are keywords by Vega-Lite's own names (https://vega.github.io/vega-lite/docs/), and a
part is a dict of them. A Chart is a specification of one mark or of layers; each of its methods
gives a new one. Altair has the same names, and takes 30 MB and seconds to do what a dict does; in
a notebook it shows these charts, and in tests it validates them.
Invariant: a chart never changes, and a part that was given to it is not copied.
"""

from __future__ import annotations

from typing import Any

Part = dict[str, Any]
_TYPES = {"Q": "quantitative", "N": "nominal", "O": "ordinal", "T": "temporal"}


class Chart:
    """A specification; `spec` is Vega-Lite's JSON as a dict."""

    def __init__(self, data: Part | None = None, **options: Any) -> None:
        self.spec: Part = ({"data": data} if data is not None else {}) | options

    def _with(self, **options: Any) -> Chart:
        return Chart(**(self.spec | options))

    def mark(self, kind: str, **options: Any) -> Chart:
        """The chart with a mark: "point", "line", "rect" and so on."""
        return self._with(mark={"type": kind, **options})

    def encode(self, **channels: Any) -> Chart:
        """The chart with these channels beside those that it has; a text is a field with its type.

        Those of layers are shared by all of them.
        """
        parts = {name: field(of) if isinstance(of, str) else of for name, of in channels.items()}
        return self._with(encoding=self.spec.get("encoding", {}) | parts)

    def filter(self, condition: str) -> Chart:
        """The chart of the rows for which an expression holds."""
        return self._transformed({"filter": condition})

    def calculate(self, **columns: str) -> Chart:
        """The chart of rows with these columns too, each an expression."""
        return self._transformed(*({"as": name, "calculate": x} for name, x in columns.items()))

    def _transformed(self, *transforms: Part) -> Chart:
        return self._with(transform=[*self.spec.get("transform", ()), *transforms])

    def params(self, *params: Part) -> Chart:
        """The chart with these parameters."""
        return self._with(params=[*self.spec.get("params", ()), *params])

    def resolve_scale(self, **scales: str) -> Chart:
        """The chart whose layers have scales of their own ("independent"), by channel."""
        return self._with(resolve={"scale": scales})

    def properties(self, **options: Any) -> Chart:
        """The chart with a width, a height, a title."""
        return self._with(**options)


def layered(*charts: Chart) -> Chart:
    """Charts one above the other; data that all of them share stands once."""
    specs = [dict(chart.spec) for chart in charts]
    data = specs[0].get("data")
    is_shared = all(spec.get("data") is data for spec in specs)
    if is_shared:
        specs = [{name: of for name, of in spec.items() if name != "data"} for spec in specs]
    return Chart(data if is_shared else None, layer=specs)


def field(shorthand: str, **options: Any) -> Part:
    """A channel: "name:Q" is the column `name` of numbers; N is for names, O for ordered ones.

    A column without a type is the end of another channel, as x2 is of x.
    """
    name, _, kind = shorthand.rpartition(":") if ":" in shorthand else (shorthand, "", "")
    return {"field": name, **({"type": _TYPES[kind]} if kind else {}), **options}


def part(**options: Any) -> Part:
    """A scale, an axis, a legend, a title or a parameter."""
    return options


def expression(text: str) -> Part:
    """A value that Vega computes."""
    return {"expr": text}
