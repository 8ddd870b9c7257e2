"""The types that columns of tables have."""

from __future__ import annotations

import pyarrow as pa

TEXT, INT, REAL, BOOL = pa.string(), pa.int64(), pa.float64(), pa.bool_()
REALS, INTS, TEXTS = pa.list_(REAL), pa.list_(INT), pa.list_(TEXT)


def schema(**columns: pa.DataType) -> pa.Schema:
    """Columns in the order in which they are given."""
    return pa.schema(list(columns.items()))
