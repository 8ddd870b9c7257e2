"""Rows of a table that somebody asks for: filtered, sorted, with the columns that they name.

Model: a filter is COLUMN OP VALUE, `l2>3`, `method=dpo`, `name~sft`; OPERATORS are its rows. All
filters must hold. A sort key is a column, or a column behind a minus for the largest first.
Invariant: a value is compared as its column's type; one that is missing passes no filter but
`=null`, and comes last in any order. What is not understood is an InputError that names it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raylab.errors import InputError

Compare = Callable[[pa.ChunkedArray, Any], pa.ChunkedArray]
OPERATORS: dict[str, Compare] = {
    "!=": pc.not_equal,
    "<=": pc.less_equal,
    ">=": pc.greater_equal,
    "=": pc.equal,
    "<": pc.less,
    ">": pc.greater,
    "~": pc.match_substring_regex,
}
_NULL = "null"
_FORM = re.compile(rf"\s*(\w+)\s*({'|'.join(map(re.escape, OPERATORS))})(.*)", re.DOTALL)


@dataclass(frozen=True)
class Filter:
    """One condition on one column."""

    column: str
    operator: str
    value: str


def parse_filter(text: str) -> Filter:
    """A filter out of what a user wrote. Raises InputError."""
    found = _FORM.fullmatch(text)
    if not found:
        raise InputError(
            "a filter is not understood",
            found=text,
            expected=f"COLUMN, one of {' '.join(OPERATORS)}, and a value, such as method=dpo",
        )
    column, operator, value = found.groups()
    return Filter(column, operator, value.strip())


def select(
    table: pa.Table,
    filters: Sequence[Filter] = (),
    sort: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> pa.Table:
    """The rows for which all `filters` hold, sorted, with `columns` (all of them without any).

    Raises InputError for a column that is not there or a value of another type.
    """
    for condition in filters:
        table = table.filter(_mask(table, condition))
    keys = [(_known(table, key.removeprefix("-")), key.startswith("-")) for key in sort]
    # One key after another, from the last on: the order of equals is kept.
    for name, down in reversed(keys):
        order = "descending" if down else "ascending"
        table = table.take(_order(table, name, order))
    return table.select([_known(table, name) for name in columns]) if columns else table


def _order(table: pa.Table, name: str, order: str) -> pa.Array:
    try:
        return pc.sort_indices(_with_place(table, name), [(name, order), (_PLACE, "ascending")])
    except (pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        found = str(table.schema.field(name).type)
        raise InputError(
            f"a table cannot be sorted by {name}", found=found, expected="texts or numbers"
        ) from error


_PLACE = "place of the row"


def _with_place(table: pa.Table, name: str) -> pa.Table:
    return table.select([name]).append_column(_PLACE, pa.array(range(table.num_rows)))


def _known(table: pa.Table, name: str) -> str:
    if name not in table.schema.names:
        raise InputError(
            "a table has no such column", found=name, expected=", ".join(table.schema.names)
        )
    return name


def _mask(table: pa.Table, condition: Filter) -> pa.ChunkedArray:
    column = table.column(_known(table, condition.column))
    if condition.value == _NULL and condition.operator in ("=", "!="):
        missing = pc.is_null(column)
        return missing if condition.operator == "=" else pc.invert(missing)
    try:
        compare = OPERATORS[condition.operator]
        if condition.operator == "~":
            return compare(column.cast(pa.string()), condition.value)
        return compare(column, pa.scalar(condition.value).cast(column.type))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(
            f"a filter on {condition.column} cannot be used",
            found=condition.value,
            expected="a regular expression" if condition.operator == "~" else str(column.type),
        ) from error
