"""Where two documents of one job part: that of a CPU, and that of a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_OF_THE_RUN = ("seconds", "device")
_FEW_BITS = 1e-12
"""Of relative_l2, whose reference is a sum in float64."""


def differences(one: Any, other: Any, place: str = "") -> list[str]:
    """Where two documents differ, in words; seconds and the device may."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        keys = [key for key in {**one, **other} if key not in _OF_THE_RUN]
        found = [differences(one.get(key), other.get(key), f"{place}.{key}") for key in keys]
        return [each for part in found for each in part]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        parts = [
            differences(x, y, f"{place}[{i}]")
            for i, (x, y) in enumerate(zip(one, other, strict=True))
        ]
        return [each for part in parts for each in part]
    if place.endswith(".relative_l2") and one is not None and other is not None:
        is_same = abs(one - other) <= _FEW_BITS * abs(one)
    else:
        is_same = one == other
    return [] if is_same else [f"{place.lstrip('.')}: {one!r}, {other!r}"]
