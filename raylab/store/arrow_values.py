"""Arrow values out of Python's, made so that pyarrow does not load pandas.

Model: pyarrow 26.0.1 loads pandas, which takes 0.1 s, to ask whether a Python value is one of its
arrays: for `pa.scalar`, for `pa.array`, and so for any comparison with a Python value. It does not
for values that are made of buffers. A command that reads a table needs no more than these.
Invariant: pandas is not loaded.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa


def text_scalar(text: str) -> pa.StringScalar:
    """`text` as an Arrow scalar, to compare a column with."""
    data = text.encode()
    offsets = np.array([0, len(data)], np.int32)
    return pa.StringArray.from_buffers(1, pa.py_buffer(offsets), pa.py_buffer(data))[0]


def row_numbers(count: int) -> pa.Int64Array:
    """0, 1, ... up to `count`, without it."""
    return pa.Array.from_buffers(pa.int64(), count, [None, pa.py_buffer(np.arange(count))])


def mask_of(kept: list[bool]) -> pa.BooleanArray:
    """A mask of rows, True where a row stays."""
    bits = np.packbits(np.array(kept, bool), bitorder="little")
    return pa.Array.from_buffers(pa.bool_(), len(kept), [None, pa.py_buffer(bits)])


def rows_where(table: pa.Table, column: str, text: str) -> pa.Table:
    """The rows of `table` whose `column` is `text`."""
    # It registers all of Arrow's functions, which takes longer than to read most tables.
    import pyarrow.compute as pc

    return table.filter(pc.equal(table.column(column), text_scalar(text)))
