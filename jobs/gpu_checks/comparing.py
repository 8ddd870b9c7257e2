"""One job on two devices: how it is asked of each, and where the two documents part."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from gpu_checks.report import NotPossible

_OF_THE_RUN = ("seconds", "device")
_FEW_BITS = 1e-12
"""Of relative_l2, whose reference is a sum in float64."""


def on_device(request: Any, device: str) -> Any:
    """`request`, a DiffRequest or a Job, on `device`. Raises NotPossible."""
    if "device" in {field.name for field in dataclasses.fields(request)}:
        return dataclasses.replace(request, device=device)
    if device == "cpu":
        return request
    raise NotPossible("this raylab lets no device be chosen for a difference")


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
