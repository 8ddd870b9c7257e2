"""The columns of every table of a study; docs/method.md describes them.

Invariant: the name and type of a column never depend on the rows. Columns may be added, but are
never renamed.
"""

from __future__ import annotations

from raylab.store.column_types import Columns
from raylab.store.comparison_schemas import COMPARISON_SCHEMAS
from raylab.store.trial_schemas import TRIAL_SCHEMAS

COLUMNS: dict[str, Columns] = TRIAL_SCHEMAS | COMPARISON_SCHEMAS
"""By the name of the table."""

VOLATILE = (
    "started", "seconds", "tokens_per_second", "peak_memory_bytes", "attempts", "log", "node",
    "gpus",
)  # fmt: skip
"""Columns that may differ when the same study is made twice."""
