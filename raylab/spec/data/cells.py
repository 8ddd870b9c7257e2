"""One record as a format reads it: its cells, by what they mean in that format.

Model: a format gives each part of a row (the prompt, the answer, the tools) the column that holds
it. A reader asks for parts and says what is wrong in the words of the file: the column, what it
holds, and what was expected.
Invariant: a record becomes a row, is refused (RowError), or is left out by what it says itself
(LeftOut); nothing of it disappears without a word.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

Read = TypeVar("Read")


class RowError(ValueError):
    """A record is no row: everything wrong with it, without its place."""

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = problems


class LeftOut(Exception):
    """A record says itself that it is not learned; the argument says by what."""


@dataclass(slots=True)
class Unread:
    """What readers did not use of a data set, for its warnings."""

    fields: dict[str, None] = field(default_factory=dict)
    """Fields of turns that no chat template reads."""
    remarks: list[str] = field(default_factory=list)
    """About the record at hand: what it says twice, and not alike."""


@dataclass(slots=True)
class Cells:
    """The values of a record, by the parts of its format."""

    values: Mapping[str, Any]
    """The record, by column."""
    columns: Mapping[str, str]
    """The column of each part that the data set has."""
    unread: Unread

    def get(self, part: str) -> Any:
        """The value of a part; None where the record has none."""
        column = self.columns.get(part)
        return None if column is None else self.values.get(column)

    def text(self, part: str, expected: str = "text") -> str:
        """The text of a part. Raises RowError where it is no text, or empty."""
        value = self.get(part)
        if not isinstance(value, str):
            raise self.wrong(part, expected)
        if not value.strip():
            raise RowError(f"{self.columns.get(part, part)} is empty")
        return value

    def optional_text(self, part: str) -> str:
        """The text of a part that a row may lack; empty where it does."""
        return self.text(part) if is_said(self.get(part)) else ""

    def wrong(self, part: str, expected: str) -> RowError:
        """The error of a part that holds something else than `expected`."""
        column = self.columns.get(part, part)
        return RowError(f"column {column!r} holds {held(self.get(part))}, expected {expected}")


def held(value: Any) -> str:
    """What a cell holds, in words."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text {value!r:.40}" if value.strip() else "an empty text"
    if isinstance(value, (list, tuple)):
        return "a list" if value else "an empty list"
    return "an object" if isinstance(value, Mapping) else f"a {type(value).__name__}"


def is_said(value: Any) -> bool:
    """Whether a cell says anything: no blank text, no empty list, no object of such fields."""
    if isinstance(value, str):
        return bool(value.strip())
    if isinstance(value, Mapping):
        return any(map(is_said, value.values()))
    return value not in (None, [], ())


def parsed(value: Any, opening: str = "[") -> Any:
    """A list that is written as JSON text, as CSV files have it; any other value as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in tuple(opening):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def without_nothing(value: Any) -> Any:
    """`value` without the fields that hold nothing: Parquet gives every object all fields."""
    if isinstance(value, Mapping):
        return {k: without_nothing(v) for k, v in value.items() if v is not None}
    return [without_nothing(v) for v in value] if isinstance(value, (list, tuple)) else value


def every(*readers: Callable[[], Read]) -> list[Read]:
    """What each reader reads. Raises one RowError with the problems of all of them."""
    found: list[Read] = []
    problems: list[str] = []
    for reader in readers:
        try:
            found.append(reader())
        except RowError as error:
            problems += error.problems
    if problems:
        raise RowError(*problems)
    return found
