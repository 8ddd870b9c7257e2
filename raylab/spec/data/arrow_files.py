"""Parquet and Arrow files -> rows, and compressed files -> their bytes, by pyarrow.

Invariant: whatever pyarrow says of a file is an OSError.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from raylab.parquet import read_parquet

Values = dict[str, Any]
"""A row by column."""


def rows_of_parquet(path: Path) -> Iterator[Values]:
    """The rows of a Parquet file. Raises OSError."""
    try:
        yield from read_parquet(path).to_pylist()
    except pa.ArrowException as error:
        raise OSError(str(error)) from error


def rows_of_arrow(path: Path) -> Iterator[Values]:
    """The rows of Arrow's stream of batches, as `datasets` writes it, or of Arrow's file. Raises
    OSError."""
    try:
        with pa.OSFile(str(path)) as source:
            for batch in _batches(source):
                yield from batch.to_pylist()
    except pa.ArrowException as error:
        raise OSError(str(error)) from error


def _batches(source: pa.NativeFile) -> Iterable[pa.RecordBatch]:
    try:
        return pa.ipc.open_stream(source)
    except pa.ArrowInvalid:
        source.seek(0)
        file = pa.ipc.open_file(source)
        return (file.get_batch(number) for number in range(file.num_record_batches))


def unpacked(path: Path, compression: str) -> pa.NativeFile:
    """The bytes of a compressed file as a stream, whose errors are OSErrors."""
    return pa.input_stream(str(path), compression=compression)
