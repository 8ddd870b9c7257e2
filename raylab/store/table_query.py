"""Queries of a table: filter its rows, sort them, select columns.

Model: a filter is COLUMN OP VALUE, such as `l2>3`, `method=dpo` or `name~sft`, with an operator of
OPERATORS. All filters must hold. In a column of names a value is a name, its swept values in any
spelling; a recipe that is swept stands for all its variants. A sort key is a column; a minus
before it means descending.
Invariant: a value is compared as the type of its column. A null passes no filter but `=null`, and
comes last in any order. A query that cannot be parsed raises InputError.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from raylab.errors import InputError
from raylab.spec.proposals import listed
from raylab.spec.swept_names import by_value, without_point
from raylab.store.arrow_values import mask_of, row_numbers, text_scalar

OPERATORS = {
    "!=": "not_equal",
    "<=": "less_equal",
    ">=": "greater_equal",
    "=": "equal",
    "<": "less",
    ">": "greater",
    "~": "match_substring_regex",
}
"""The name of each in `pyarrow.compute`, which is loaded where a filter or an order is asked: it
registers all of Arrow's functions, which takes longer than to read most tables."""
NAMES = ("name", "recipe", "parent", "a", "b", "comparison", "model")
"""The columns whose texts name a model, a trial or a comparison."""
_NULL = "null"
_ROW = "number of the row"
_FORM = re.compile(rf"\s*(\w+)\s*({'|'.join(map(re.escape, OPERATORS))})(.*)", re.DOTALL)


@dataclass(frozen=True)
class Filter:
    """One condition on one column."""

    column: str
    operator: str
    value: str


def parse_filter(text: str) -> Filter:
    """The filter that `text` stands for. Raises InputError."""
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
    """The rows for which all `filters` hold, sorted; `columns` only, or all if it is empty.

    Raises InputError for a column that does not exist or a value of another type.
    """
    for condition in filters:
        table = table.filter(_mask(table, condition))
    # A stable sort by one key after another, the last key first.
    for key in reversed(sort):
        order = "descending" if key.startswith("-") else "ascending"
        table = _sorted(table, _known(table, key.removeprefix("-")), order)
    return table.select([_known(table, name) for name in columns]) if columns else table


def unmatched(table: pa.Table, filters: Sequence[Filter]) -> list[str]:
    """A message for each filter by a name that no row of `table` has: the names that there are."""
    asked = [f for f in filters if f.column in NAMES and f.operator == "=" and f.value != _NULL]
    found = []
    for condition in asked:
        if not table.num_rows or table.filter(_mask(table, condition)).num_rows:
            continue
        values = table.column(condition.column).unique().to_pylist()
        names = [name for name in values if name is not None]
        what = f"no row has the {condition.column} {condition.value}"
        found.append(f"{what}; there are: {listed(condition.value, names) or 'none'}")
    return found


def _sorted(table: pa.Table, name: str, order: str) -> pa.Table:
    import pyarrow.compute as pc

    numbered = table.select([name]).append_column(_ROW, row_numbers(table.num_rows))
    try:
        indices = pc.sort_indices(numbered, [(name, order), (_ROW, "ascending")])
    except (pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        found = str(table.schema.field(name).type)
        raise InputError(
            f"a table cannot be sorted by {name}", found=found, expected="texts or numbers"
        ) from error
    return table.take(indices)


def _known(table: pa.Table, name: str) -> str:
    if name not in table.schema.names:
        raise InputError(
            "the table has no such column", found=name, expected=", ".join(table.schema.names)
        )
    return name


def _mask(table: pa.Table, condition: Filter) -> pa.Array | pa.ChunkedArray:
    import pyarrow.compute as pc

    column = table.column(_known(table, condition.column))
    if condition.value == _NULL and condition.operator in ("=", "!="):
        missing = pc.is_null(column)
        return missing if condition.operator == "=" else pc.invert(missing)
    try:
        compare = getattr(pc, OPERATORS[condition.operator])
        is_name = condition.column in NAMES and condition.operator in ("=", "!=", "~")
        if is_name and pa.types.is_string(column.type):
            return _by_name(column, condition)
        if condition.operator == "~":
            return compare(column.cast(pa.string()), condition.value)
        return compare(column, text_scalar(condition.value).cast(column.type))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(
            f"a filter on {condition.column} cannot be used",
            found=condition.value,
            expected="a regular expression" if condition.operator == "~" else str(column.type),
        ) from error


def _by_name(column: pa.ChunkedArray, condition: Filter) -> pa.Array | pa.ChunkedArray:
    """The mask of a filter on a column of names."""
    asked, texts = by_value(condition.value), column.to_pylist()
    if condition.operator == "~":
        import pyarrow.compute as pc

        spelled = pa.chunked_array([[t and by_value(t) for t in texts]], pa.string())
        matches = pc.match_substring_regex
        return pc.or_(matches(column, condition.value), matches(spelled, asked))

    def is_asked(name: str) -> bool:
        stem = without_point(name) or name if condition.column == "recipe" else None
        return by_value(name) == asked or stem == condition.value

    keeps = condition.operator == "="
    return mask_of([text is not None and is_asked(text) == keeps for text in texts])
