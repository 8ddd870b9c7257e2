"""The parts that all figures share: rows of a base model, data, scales, a reader's choice.

Model: a figure is a chart and its caption, drawn for one base model from the frames of a finding.
It fills its container's width; its height is a number, because Vega-Lite 6 warns in a reader's
console of rows that set it.
Invariant: a figure shows values of frames, and nothing of its own; where it cannot show all of
them its caption says how many of how many.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raylab.errors import InputError
from raylab.report.figures.vega_lite import Chart, Part, expression, field, part
from raylab.report.study_tables import Row, Rows
from raylab.report.words import Translator
from raylab.spec.proposals import listed
from raylab.spec.swept_names import by_value, without_point

Frames = Mapping[str, Rows]
CHOSEN = "datum.of == chosen"
"""The Vega expression that keeps the rows whose column `of` a reader has chosen."""


@dataclass(frozen=True)
class Figure:
    """A chart and its caption."""

    chart: Chart
    caption: str


@dataclass(frozen=True)
class FigureType:
    """The finding whose frames a figure shows, and the function that makes it.

    `draw(translate, frames, base model, **options)` is None where the frames lack that model.
    """

    finding: str
    draw: Callable[..., Figure | None]


@dataclass(frozen=True)
class Choice:
    """The recipes or differences that a reader of a figure chooses between.

    `keys` are those that are offered, `labels` their labels, `first` the label that is shown
    first, `total` the number of all.
    """

    keys: frozenset[str]
    labels: tuple[str, ...]
    first: str
    total: int

    @classmethod
    def of(cls, subjects: Mapping[str, str], model: str, recipe: str | None, limit: int) -> Choice:
        """The first `limit` of `subjects`, key -> label, and `recipe`, which is shown first.

        `recipe` is a recipe, or two joined by "~", with or without the base model's name; None is
        the first. A swept recipe is the first of its variants. Raises InputError where it was not
        measured.
        """
        key = next(iter(subjects))
        if recipe is not None:
            parts = (part.removeprefix(f"{model}.") for part in recipe.split("~"))
            key = "~".join(f"{model}.{part}" for part in parts)
        named = [name for name in subjects if by_value(name) == by_value(key)]
        named = named or [name for name in subjects if _recipes_of(name) == key]
        if not named:
            raise InputError("this was not measured", found=recipe, expected=listed(key, subjects))
        key = named[0]
        keys = frozenset([*list(subjects)[:limit], *named])
        labels = dict.fromkeys(label for name, label in subjects.items() if name in keys)
        return cls(keys, tuple(labels), subjects[key], len(set(subjects.values())))


def _recipes_of(name: str) -> str:
    """A recipe, or two joined by "~", without the values of their sweeps."""
    return "~".join(without_point(part) or part for part in name.split("~"))


def choice_menu(
    translate: Translator,
    options: Sequence[str],
    first: str,
    name: str = "chosen",
    title: str = "choose",
) -> Part:
    """The menu that sets the parameter `name`; `title` is the message that stands before it."""
    menu = part(input="select", options=list(options), name=f"{translate(title)} ")
    return part(name=name, value=first, bind=menu)


def by_choice(values: Mapping[str, Any], name: str = "chosen") -> Part:
    """The Vega expression of the value, among plain `values`, of what a reader has chosen."""
    text = json.dumps(values, ensure_ascii=False, allow_nan=False)
    return expression(f"({text})[{name}]")


def option_asked(wanted: str | None, options: Mapping[str, str]) -> str:
    """The label of the option `wanted`, out of key -> label; of the first where it is None.

    Raises InputError where it was not measured.
    """
    key = next(iter(options)) if wanted is None else wanted
    if key not in options:
        raise InputError("this was not measured", found=wanted, expected=listed(key, options))
    return options[key]


def legend_columns(names: Iterable[str]) -> Part:
    """As many columns of a legend as have place beside its title, in a page or a file."""
    widest = 30 + 7 * max(map(len, names))
    # The place that the labels of the axis leave in a container. It follows the container and not
    # the chart, whose width is found with the legends drawn; `width` says when the window changes.
    inside = "containerSize()[0] * 2 / 3 + 0 * width"
    place = f"(isFinite(containerSize()[0]) ? {inside} : width) - 80"
    return expression(f"max(1, floor(({place}) / {widest}))")


def rows_of_model(frames: Frames, name: str, model: str) -> list[Row]:
    """The rows of a frame that are of one base model."""
    return [row for row in frames.get(name, ()) if row["model"] == model]


def base_in_caption(frames: Frames, model: str) -> str | None:
    """The base model as a caption names it; None where the frames are of no other."""
    bases = {row.get("model") for rows in frames.values() for row in rows} - {None}
    return model if len(bases) > 1 else None


def data_of(rows: Sequence[Mapping[str, Any]]) -> Part:
    """Rows as a chart's data; a value that is not finite becomes null, as JSON has no other."""

    def finite_or_null(value: Any) -> Any:
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return part(values=[{k: finite_or_null(v) for k, v in row.items()} for row in rows])


def tooltips(**fields: tuple[str, str | None]) -> list[Part]:
    """Field -> (title, format) as the tooltip of a mark."""
    return [
        field(f"{name}:Q", title=title, format=form) if form else field(f"{name}:N", title=title)
        for name, (title, form) in fields.items()
    ]


def shown_note(translate: Translator, shown: int, total: int) -> str:
    """The end of a caption where not everything is shown."""
    return "" if shown == total else " " + translate("chart-cut", shown=shown, total=total)
