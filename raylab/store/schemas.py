"""The Arrow schema of every table of a study, out of its columns."""

from __future__ import annotations

import pyarrow as pa

from raylab.store.column_types import BOOL, INT, INTS, REAL, REALS, TEXT, TEXTS
from raylab.store.columns import COLUMNS

_TYPES = {
    **{TEXT: pa.string(), INT: pa.int64(), REAL: pa.float64(), BOOL: pa.bool_()},
    **{REALS: pa.list_(pa.float64()), INTS: pa.list_(pa.int64()), TEXTS: pa.list_(pa.string())},
}

SCHEMAS: dict[str, pa.Schema] = {
    name: pa.schema([(column, _TYPES[kind]) for column, kind in columns.items()])
    for name, columns in COLUMNS.items()
}
"""By the name of the table."""
