"""What a reduction gives: rows of its tables, and how much was read for them.

Invariant: results of several reductions add up; rows keep their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass
class Tables:
    """Rows of the tables that a reduction fills, and how much it read for them."""

    norms: list[dict[str, Any]] = field(default_factory=list)
    densities: list[dict[str, Any]] = field(default_factory=list)
    curve: list[dict[str, Any]] = field(default_factory=list)
    pairs: list[dict[str, Any]] = field(default_factory=list)
    kept_by: list[dict[str, Any]] = field(default_factory=list)
    kept_of: list[dict[str, Any]] = field(default_factory=list)
    subspaces: list[dict[str, Any]] = field(default_factory=list)
    phi: list[dict[str, Any]] = field(default_factory=list)
    spectra: list[dict[str, Any]] = field(default_factory=list)
    chains: list[dict[str, Any]] = field(default_factory=list)
    audit: list[dict[str, Any]] = field(default_factory=list)
    bytes_read: int = 0
    """Of weights, by the sample and the pass that measures."""
    bytes_read_again: int = 0
    passes: int = 0
    """How often models were gone through: 1 for each reduction whose thresholds were foreseen."""

    def extend(self, other: Tables) -> None:
        """Append the rows of another reduction."""
        for item in fields(self):
            setattr(self, item.name, getattr(self, item.name) + getattr(other, item.name))


def rows_by(
    rows: Sequence[dict[str, Any]], *columns: str
) -> dict[tuple[str, ...], list[dict[str, Any]]]:
    """The rows of each combination of values in `columns`."""
    found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(tuple(row[column] for column in columns), []).append(row)
    return found
