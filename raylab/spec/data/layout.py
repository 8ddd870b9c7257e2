"""A format: which columns a kind of rows has, and how a record becomes a row.

Model: a format names the column of each part that it needs, and the columns in which it looks for
parts that a data set may lack. Columns that a study names stand in for those. A system prompt and
tools may stand beside a row of any format.
Invariant: a column has one meaning in a data set. A row that is returned can be written as UTF-8.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raylab.spec.data.calls import tools_of
from raylab.spec.data.cells import Cells, LeftOut, RowError
from raylab.spec.data.rows import Row, Turn
from raylab.spec.sources import DataSet

Outcome = Row | RowError | LeftOut
Placed = tuple[str, Cells]
"""The place of a record, and the record."""


@dataclass(frozen=True)
class Format:
    """How rows are written: the part of each column, and the name it has unless a study says."""

    columns: Mapping[str, str]
    """The column of each part that is needed."""
    read: Callable[[Cells], Row]
    """The row of one record. Raises RowError, LeftOut."""
    optional: Mapping[str, Sequence[str]]
    """The columns in which it looks for each part that may be absent, the first found first."""
    example: str
    together: Callable[[Sequence[Placed]], Iterator[tuple[str, Outcome]]] | None = None
    """Reads all records at once, where several of them make a row; in place of `read`."""

    @property
    def parts(self) -> set[str]:
        """Everything that it can read."""
        return {*self.columns, *self.optional}

    @property
    def known(self) -> set[str]:
        """Every column that it can read, by the names that they have unless a study says."""
        return {*self.columns.values(), *(name for some in self.optional.values() for name in some)}

    def names(self, data: DataSet) -> dict[str, str]:
        """The column for each part that is needed, in this data set."""
        return {part: getattr(data, part, None) or name for part, name in self.columns.items()}

    def taken(self, data: DataSet, columns: Collection[str]) -> dict[str, str]:
        """The column for each part that is there, in this data set."""
        found = self.names(data)
        for part, some in self.optional.items():
            named = getattr(data, part, None)
            free = [
                name
                for name in ([named] if named else some)
                if name in columns and name not in found.values() and name not in data.ignore
            ]
            found |= {part: free[0]} if free else {}
        return found

    def rows(
        self, records: Iterable[Placed], key: str | None = None
    ) -> Iterator[tuple[str, Outcome]]:
        """(place, row, or why it is none) of the records; `key` is the column that pairs rows."""
        if self.together:
            nodes = list(records)
            at = dict(nodes)
            for place, outcome in self.together(nodes):
                yield place, _finished(outcome, at[place], key)
            return
        for place, cells in records:
            try:
                yield place, _whole(self.read(cells), cells, key)
            except (RowError, LeftOut) as why:
                yield place, why


def _finished(outcome: Outcome, cells: Cells, key: str | None) -> Outcome:
    try:
        return _whole(outcome, cells, key) if isinstance(outcome, Row) else outcome
    except (RowError, LeftOut) as why:
        return why


def _whole(row: Row, cells: Cells, key: str | None) -> Row:
    """The row with the system prompt, tools and key that stand beside it. Raises LeftOut."""
    if "label" in cells.columns and not _is_good(cells):
        raise LeftOut(f"{cells.columns['label']} is false, so the answer is not one to learn")
    if "system" in cells.columns and (system := cells.optional_text("system")):
        if row.turns[0].role == "system":
            raise RowError(
                f"a system prompt stands in column {cells.columns['system']!r} and in the messages"
            )
        row = row._replace(turns=(Turn("system", system), *row.turns))
    if "tools" in cells.columns and (tools := tools_of(cells.get("tools"), cells.columns["tools"])):
        row = row._replace(tools=tools)
    _check_unicode(row)
    if key is None:
        return row
    value = cells.values.get(key)
    if value is None or isinstance(value, (dict, list)):
        raise RowError(f"{key} is no key")
    return row._replace(key=str(value))


_LABELS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


def _is_good(cells: Cells) -> bool:
    """Whether the label of a row says that its answer is one to learn."""
    label = _LABELS.get(str(cells.get("label")).strip().lower())
    if label is None:
        raise cells.wrong(
            "label", "true or false (with `format: text` and `ignore: [label]` it is left out)"
        )
    return label


def _check_unicode(row: Row) -> None:
    """Raises RowError for text that cannot be written as UTF-8; JSON escapes can hold such."""
    turns = row.turns if row.rejected is None else (*row.turns, row.rejected)
    try:
        for turn in turns:
            f"{turn.text}{turn.more}".encode()
        row.tools.encode()
    except UnicodeEncodeError:
        raise RowError("half a character (a lone surrogate) is in a text") from None


def make(
    columns: str,
    read: Callable[[Cells], Row],
    example: str,
    optional: str = "",
    together: Any = None,
) -> Format:
    """A format. `columns` and `optional` are parts, or part=column where the name differs.

    An optional part may be looked for in several columns: part=one|other.
    """
    split = [[pair.partition("=") for pair in text.split()] for text in (columns, optional)]
    needed = {part: name or part for part, _, name in split[0]}
    maybe = {part: tuple((name or part).split("|")) for part, _, name in split[1]}
    if together is None:
        maybe |= {"system": ("system", "system_prompt"), "tools": ("tools", "functions")}
    return Format(needed, read, maybe, example, together)
