"""A figure as Vega draws it: its marks with their places and colours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import vl_convert

from raylab.report.figures.drawing import WIDTH, Drawing
from raylab.report.figures.figure import Figure


def scene_of(figure: Figure) -> dict[str, Any]:
    """The scene graph of a figure that is WIDTH pixels wide."""
    spec = json.loads(Drawing.of(figure.chart).spec) | {"width": WIDTH}
    found: dict[str, Any] = vl_convert.vegalite_to_scenegraph(spec)
    return found


def groups(scene: Any, kind: str, role: str = "mark") -> Iterator[list[dict[str, Any]]]:
    """The items of every group of marks of a kind, in the order of drawing."""
    if isinstance(scene, dict):
        if (scene.get("marktype"), scene.get("role")) == (kind, role):
            yield scene["items"]
        scene = list(scene.values())
    if isinstance(scene, list):
        for part in scene:
            yield from groups(part, kind, role)


def texts(scene: Any, role: str) -> list[Any]:
    """The texts of a role: axis-label, legend-title, title-text."""
    return [item["text"] for items in groups(scene, "text", role) for item in items]
