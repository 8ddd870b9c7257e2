"""The tables of a study as Parquet files.

Model: every table has one Arrow schema (`raylab.store.schemas`), and is written as a whole, from
rows in a fixed order.
Invariant: a column that a row lacks is null; a row with an unknown column is a bug of raylab
(AssertionError).
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from raylab.errors import InputError
from raylab.parquet import read_parquet
from raylab.store.filesystem import TABLES, Store
from raylab.store.schemas import SCHEMAS


def to_table(name: str, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Rows as the Arrow table `name`, in their order."""
    schema = SCHEMAS[name]
    listed = list(rows)
    if not listed:
        # To make an array of a list, or an empty table, pyarrow loads pandas where that is there.
        nothing = [pa.nulls(0, field.type) for field in schema]
        return pa.Table.from_arrays(nothing, schema=schema)
    known = set(schema.names)
    for row in listed:
        assert known >= set(row), f"table {name} has no column {sorted(set(row) - known)}"
    columns = [pa.array([row.get(c) for row in listed], schema.field(c).type) for c in schema.names]
    return pa.Table.from_arrays(columns, schema=schema)


def write_table(store: Store, name: str, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Write OUT/tables/<name>.parquet, and return the table."""
    table = to_table(name, rows)
    store.write(f"{TABLES}/{name}.parquet", to_parquet(table))
    return table


def to_parquet(table: pa.Table) -> bytes:
    """The table as Parquet."""
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def read_table(store: Store, name: str) -> pa.Table:
    """OUT/tables/<name>.parquet. Raises StoreError if it does not exist."""
    return read_parquet(pa.BufferReader(store.read(f"{TABLES}/{name}.parquet")))


def named_table(store: Store, name: str) -> pa.Table:
    """The table that a user names, with every column of its schema. Raises InputError."""
    if name not in SCHEMAS:
        raise InputError("there is no such table", found=name, expected=", ".join(SCHEMAS))
    if not store.exists(f"{TABLES}/trials.parquet"):
        raise InputError(
            "no results are there",
            found=store.address(TABLES),
            expected="OUT of `raylab run`",
            todo="check the path; a study without --out is in runs/<its name>",
        )
    return _read_with_schema(store, name)


def read_tables(store: Store) -> dict[str, pa.Table]:
    """Every table of the store, with every column of its schema: null if its file lacks it.

    A table without a file has no rows; only trials must have one. Raises StoreError.
    """
    return {name: _read_with_schema(store, name) for name in SCHEMAS}


def _read_with_schema(store: Store, name: str) -> pa.Table:
    if name != "trials" and not store.exists(f"{TABLES}/{name}.parquet"):
        return to_table(name, [])
    found = read_table(store, name)
    columns = [_column(found, field) for field in SCHEMAS[name]]
    return pa.Table.from_arrays(columns, schema=SCHEMAS[name])


def _column(found: pa.Table, field: pa.Field) -> pa.Array | pa.ChunkedArray:
    """The column `field` of what a file holds; null if the file lacks it."""
    if field.name not in found.schema.names:
        return pa.nulls(found.num_rows, field.type)
    column = found.column(field.name)
    # A cast loads all of Arrow's functions, also one to the same type.
    return column if column.type == field.type else column.cast(field.type)


def read_rows(store: Store, key: str) -> Sequence[dict[str, Any]]:
    """The rows of the Parquet file `key`, whatever its columns. Raises StoreError."""
    return rows_of(read_parquet(pa.BufferReader(store.read(key))))


def to_csv(table: pa.Table) -> bytes:
    """The table as CSV in UTF-8, with a header; a list is written as JSON."""
    for index, field in enumerate(table.schema):
        if pa.types.is_list(field.type):
            values = table.column(index).to_pylist()
            texts = [None if v is None else json.dumps(v, ensure_ascii=False) for v in values]
            table = table.set_column(index, field.name, pa.array(texts, pa.string()))
    from pyarrow import csv

    buffer = io.BytesIO()
    csv.write_csv(table, buffer)
    return buffer.getvalue()


def rows_of(table: pa.Table) -> Sequence[dict[str, Any]]:
    """The rows of a table as dictionaries."""
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows
