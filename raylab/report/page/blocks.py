"""The blocks of a report: text, lists, tables and figures, before any markup.

Model: a block is one of six values; a template writes each of them.
Invariant: all text is plain, and the renderer escapes it. A cell of a grid is text, never a number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from raylab.report.figures.drawing import Drawing


@dataclass(frozen=True)
class Text:
    """A paragraph; `grade` is good, fair, bad or unknown, which gives it a colour."""

    text: str
    grade: str = ""
    kind: Literal["text"] = "text"


@dataclass(frozen=True)
class Item:
    """A line of a list: its subject, its text, its grade, and the id that links lead to."""

    head: str
    text: str
    grade: str = ""
    place: str = ""


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
    """A table of texts; `grades` are by row, and `note` gives the number of rows left out.

    `name` is its name, `file` the address of the same rows as CSV, beside the page; both are empty
    where there is none.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    grades: tuple[str, ...] = ()
    note: str = ""
    name: str = ""
    file: str = ""
    is_open: bool = False
    """Whether it stands on the page without a fold."""
    kind: Literal["grid"] = "grid"


@dataclass(frozen=True)
class Picture:
    """A figure, the name of its files, its caption, and the numbers that it shows in words, for
    who does not see it."""

    name: str
    drawing: Drawing
    caption: str
    alt: str = ""
    kind: Literal["picture"] = "picture"


@dataclass(frozen=True)
class Answer:
    """What one model said to a prompt; `grade` is fair where it did not stop or said nothing."""

    model: str
    text: str
    grade: str = ""


@dataclass(frozen=True)
class Answers:
    """Prompts, each with the answers of all models side by side."""

    title: str
    prompts: tuple[tuple[str, tuple[Answer, ...]], ...]
    note: str = ""
    kind: Literal["answers"] = "answers"


@dataclass(frozen=True)
class Fold:
    """Blocks behind a title, which a reader opens. `blocks` hold no other fold."""

    title: str
    blocks: tuple[Block, ...]
    kind: Literal["fold"] = "fold"


Block = Text | Items | Grid | Picture | Answers | Fold
