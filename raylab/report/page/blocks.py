"""What a report is made of: text, lists, tables and figures, before any markup.

Model: a block is one of four values; templates know how to write each of them.
Invariant: all text is plain, and whoever renders it escapes it; every cell of a grid is finished.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from raylab.report.figures.drawing import Drawing


@dataclass(frozen=True)
class Text:
    """A paragraph; `grade` says how good the news is."""

    text: str
    grade: str = ""
    kind: Literal["text"] = "text"


@dataclass(frozen=True)
class Item:
    """A line of a list: what it is about, what is said, and how good that is."""

    head: str
    text: str
    grade: str = ""


@dataclass(frozen=True)
class Items:
    """A list."""

    items: tuple[Item, ...]
    kind: Literal["items"] = "items"


@dataclass(frozen=True)
class Column:
    """A column of a grid."""

    name: str
    form: Literal["text", "number", "answer"] = "number"


@dataclass(frozen=True)
class Grid:
    """A table of finished texts; `grades` are by row, and `note` says what was cut.

    `name` is that of its file, where it has one.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    grades: tuple[str, ...] = ()
    note: str = ""
    name: str = ""
    kind: Literal["grid"] = "grid"


@dataclass(frozen=True)
class Picture:
    """A figure, the name of its files, and what it shows."""

    name: str
    drawing: Drawing
    caption: str
    kind: Literal["picture"] = "picture"


Block = Text | Items | Grid | Picture
