"""The types that columns of tables have, by name; `raylab.store.schemas` makes Arrow's of them."""

from __future__ import annotations

TEXT, INT, REAL, BOOL = "text", "int", "real", "bool"
REALS, INTS, TEXTS = "reals", "ints", "texts"

Columns = dict[str, str]
"""The type of each column of a table, in order."""


def schema(**columns: str) -> Columns:
    """Columns in the order in which they are given."""
    return columns
