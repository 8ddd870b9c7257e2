"""Parquet files as Arrow tables.

Invariant: a file is read in the calling thread, so no thread of pyarrow outlives the call.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from pyarrow import parquet


def read_parquet(source: Path | pa.NativeFile) -> pa.Table:
    """The Parquet file `source`, read in the calling thread.

    `parquet.read_table` of pyarrow 26.0.1 leaves threads that drop the Python object they read
    from; one that does so while the interpreter ends aborts the process (exit status -6).
    """
    with parquet.ParquetFile(source) as file:
        return file.read(use_threads=False)
