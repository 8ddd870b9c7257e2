"""What a store already knows of models that a new one is related to: thresholds, and pairs.

Model: the part of a model's comparison with its base model holds the thresholds of its task vector,
at the densities of its key. With them the model is only related: its norms are not taken again.
Invariant: thresholds are those that a reduction from nothing would find, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from raylab.reduce.histogram import bits_of
from raylab.reduce.job import Thresholds
from raylab.store.parts import Parts


def thresholds_of(parts: Parts, key: str, densities: Sequence[float]) -> Thresholds | None:
    """The thresholds in the part `key`, of a comparison with the base model; None where it is not
    there."""
    if key not in parts:
        return None
    found = {row["density"]: row for row in parts.rows(key, "densities")}
    whole = (row["nonzero"] for row in parts.rows(key, "norms") if row["level"] == "all")
    nonzero = sum(whole)
    # A model that changes nothing has no densities.
    return tuple(_at(found[d], nonzero) if found else (0, 0) for d in densities)


def _at(row: dict[str, Any], nonzero: int) -> tuple[int, int]:
    """(bits of the threshold, how many entries the mask keeps)."""
    limit = row["threshold"]
    return bits_of(limit), row["at_or_above"] if limit > 0 else nonzero


def covering(models: Sequence[str], pairs: Iterable[tuple[str, str]]) -> list[str]:
    """A few of `models`, one of which is in every one of `pairs`."""
    missing: dict[str, set[str]] = {name: set() for name in models}
    for a, b in pairs:
        missing[a].add(b)
        missing[b].add(a)
    chosen: list[str] = []
    while any(missing.values()):
        most = max(models, key=lambda name: len(missing[name]))
        chosen.append(most)
        for other in missing.pop(most):
            missing[other].discard(most)
        missing[most] = set()
    return chosen
