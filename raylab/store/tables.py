"""The tables of a study: their columns, and Parquet in and out.

Model: every table has one Arrow schema here, and is written whole, from rows, in a fixed order.
Invariant: a column's name and type never depend on the rows; a row that lacks a column holds
null there, one with an unknown column is a mistake of raylab (AssertionError). No column is
ever renamed; columns may be added.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv, parquet

from raylab.store.paths import TABLES, Store

_TEXT, _INT, _REAL, _BOOL = pa.string(), pa.int64(), pa.float64(), pa.bool_()


def _schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema(list(columns.items()))


_NORMS = {"numel": _INT, "l1": _REAL, "l2": _REAL, "linf": _REAL, "nonzero": _INT}

SCHEMAS: dict[str, pa.Schema] = {
    "trials": _schema(
        trial_id=_TEXT,
        name=_TEXT,
        model=_TEXT,
        recipe=_TEXT,
        label=_TEXT,
        method=_TEXT,
        data=_TEXT,
        seed=_INT,
        learning_rate=_REAL,
        parent=_TEXT,
        status=_TEXT,
        cause=_TEXT,
        message=_TEXT,
        attempts=_INT,
        micro_batch=_INT,
        note=_TEXT,
        steps=_INT,
        examples=_INT,
        cut=_INT,
        dropped=_INT,
        train_loss=_REAL,
        eval_loss=_REAL,
        l1=_REAL,
        l2=_REAL,
        l2_parent=_REAL,
        l2_child=_REAL,
        japanese_rate=_REAL,
        stopped_rate=_REAL,
        repetition_rate=_REAL,
        distinct_rate=_REAL,
        style_rate=_REAL,
        answer_length=_REAL,
        marked=_BOOL,
        marks=_TEXT,
        seconds=_REAL,
        tokens_per_second=_REAL,
        peak_memory_bytes=_INT,
        adapter=_TEXT,
        log=_TEXT,
    ),
    "attempts": _schema(
        trial_id=_TEXT,
        name=_TEXT,
        attempt=_INT,
        cause=_TEXT,
        message=_TEXT,
        final=_BOOL,
        node=_TEXT,
        gpus=_TEXT,
        started=_REAL,
        seconds=_REAL,
        note=_TEXT,
    ),
    "norms": _schema(
        comparison=_TEXT,
        a=_TEXT,
        b=_TEXT,
        view=_TEXT,
        universe=_TEXT,
        level=_TEXT,
        key=_TEXT,
        **_NORMS,
        relative_l2=_REAL,
        note=_TEXT,
    ),
    "densities": _schema(
        comparison=_TEXT,
        view=_TEXT,
        universe=_TEXT,
        density=_REAL,
        num_keep=_INT,
        threshold=_REAL,
        at_or_above=_INT,
        l1=_REAL,
        l2=_REAL,
        l1_share=_REAL,
        l2_share=_REAL,
        note=_TEXT,
    ),
    "curve": _schema(
        comparison=_TEXT,
        view=_TEXT,
        universe=_TEXT,
        density=_REAL,
        l1_share=_REAL,
        l2_share=_REAL,
        note=_TEXT,
    ),
    "pairs": _schema(
        a=_TEXT,
        b=_TEXT,
        view=_TEXT,
        universe=_TEXT,
        level=_TEXT,
        key=_TEXT,
        numel=_INT,
        cosine=_REAL,
        sign_agreement=_REAL,
        sign_conflict=_REAL,
        density=_REAL,
        overlap=_REAL,
        overlap_by_chance=_REAL,
        note=_TEXT,
    ),
    "spectra": _schema(
        model=_TEXT,
        tensor=_TEXT,
        rank=_INT,
        singular_values=pa.list_(_REAL),
        shares=pa.list_(_REAL),
        effective_rank=_REAL,
        note=_TEXT,
    ),
    "chains": _schema(
        model=_TEXT,
        level=_TEXT,
        key=_TEXT,
        l2_parent=_REAL,
        l2_child=_REAL,
        l2=_REAL,
        cosine=_REAL,
        cancellation=_REAL,
        note=_TEXT,
    ),
    "audit": _schema(
        model=_TEXT,
        level=_TEXT,
        key=_TEXT,
        numel=_INT,
        l2=_REAL,
        merged_error=_REAL,
        merged_false_zeros=_REAL,
        dequantized_error=_REAL,
        dequantized_false_zeros=_REAL,
        quantization_noise=_REAL,
        note=_TEXT,
    ),
    "samples": _schema(
        trial_id=_TEXT,
        name=_TEXT,
        prompt=_TEXT,
        answer=_TEXT,
        expected=_TEXT,
        tokens=_INT,
        stopped=_BOOL,
        reason=_TEXT,
        draw=_INT,
        token_ids=pa.list_(_INT),
        expected_tokens=_INT,
        japanese=_BOOL,
        repetition=_BOOL,
        style=_BOOL,
        note=_TEXT,
    ),
    "rates": _schema(
        trial_id=_TEXT,
        name=_TEXT,
        answers=_TEXT,
        count=_INT,
        japanese_rate=_REAL,
        stopped_rate=_REAL,
        repetition_rate=_REAL,
        style_rate=_REAL,
        distinct_rate=_REAL,
        answer_length=_REAL,
        answer_tokens=_REAL,
        note=_TEXT,
    ),
    "likelihoods": _schema(
        trial_id=_TEXT,
        name=_TEXT,
        data=_TEXT,
        answers=_INT,
        tokens=_INT,
        log_probability=_REAL,
        cut=_INT,
        note=_TEXT,
    ),
    "paths": _schema(
        trial_id=_TEXT,
        name=_TEXT,
        step=_INT,
        layer=_TEXT,
        norm=_REAL,
        step_norm=_REAL,
        turn=_REAL,
        sketch=pa.list_(_REAL),
        note=_TEXT,
    ),
    "comparisons": _schema(
        comparison=_TEXT,
        a=_TEXT,
        b=_TEXT,
        form=_TEXT,
        status=_TEXT,
        message=_TEXT,
        note=_TEXT,
    ),
}

# What may differ between two runs that made the same tables.
VOLATILE = (
    "started", "seconds", "tokens_per_second", "peak_memory_bytes", "attempts", "log", "node",
    "gpus",
)  # fmt: skip


def to_table(name: str, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Rows as the Arrow table `name`, in their order."""
    schema = SCHEMAS[name]
    listed = list(rows)
    known = set(schema.names)
    for row in listed:
        assert known >= set(row), f"table {name} has no column {sorted(set(row) - known)}"
    columns = [pa.array([row.get(c) for row in listed], schema.field(c).type) for c in schema.names]
    return pa.Table.from_arrays(columns, schema=schema)


def write_table(store: Store, name: str, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Write OUT/tables/<name>.parquet, and return the table."""
    table = to_table(name, rows)
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, compression="zstd")
    store.write(f"{TABLES}/{name}.parquet", buffer.getvalue())
    return table


def read_table(store: Store, name: str) -> pa.Table:
    """OUT/tables/<name>.parquet. Raises StoreError where it is not there."""
    return read_parquet(pa.BufferReader(store.read(f"{TABLES}/{name}.parquet")))


def read_rows(store: Store, key: str) -> Sequence[dict[str, Any]]:
    """The rows of the Parquet file `key`, whatever its columns. Raises StoreError."""
    return rows_of(read_parquet(pa.BufferReader(store.read(key))))


def read_parquet(source: Path | pa.NativeFile) -> pa.Table:
    """The Parquet file `source`, read in the calling thread.

    `parquet.read_table` of pyarrow 26.0.1 leaves threads that drop the Python object they read
    from; one that does so while the interpreter ends aborts the process (exit status -6).
    """
    with parquet.ParquetFile(source) as file:
        return file.read(use_threads=False)


def to_csv(table: pa.Table) -> bytes:
    """The table as CSV in UTF-8, with a header; a list is written as JSON."""
    for index, field in enumerate(table.schema):
        if pa.types.is_list(field.type):
            texts = [None if v is None else json.dumps(v) for v in table.column(index).to_pylist()]
            table = table.set_column(index, field.name, pa.array(texts, _TEXT))
    buffer = io.BytesIO()
    csv.write_csv(table, buffer)
    return buffer.getvalue()


def rows_of(table: pa.Table) -> Sequence[dict[str, Any]]:
    """The rows of a table as dictionaries."""
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows
