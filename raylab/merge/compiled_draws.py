"""The step that drops entries by chance, compiled: DARE.

Model: `raylab.merge.steps` defines it. DELLA's is in `raylab.merge.compiled_ranks`.
Invariant: what is drawn for an entry depends on its key and its index alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from raylab.compiled import njit, types
from raylab.merge.steps import GAMMA, MIX_1, MIX_2

Array = np.ndarray

_OPTIONS: dict[str, Any] = {"error_model": "numpy"}
_ROW, _INT, _U64 = types.float32[::1], types.int64, types.uint64
_GAMMA, _MIX_1, _MIX_2 = (np.uint64(number) for number in (GAMMA, MIX_1, MIX_2))
_ONE, _11, _27, _30, _31 = (np.uint64(number) for number in (1, 11, 27, 30, 31))


@njit(inline="always")
def mixed(state: Any) -> Any:
    """The upper bits of the output of this state of SplitMix64."""
    hashed = (state ^ (state >> _30)) * _MIX_1
    hashed = (hashed ^ (hashed >> _27)) * _MIX_2
    return (hashed ^ (hashed >> _31)) >> _11


@njit(_INT(_ROW, _U64, _U64, _U64), **_OPTIONS)
def drop_entries(row: Array, key: np.uint64, first: np.uint64, below: np.uint64) -> int:
    """`drop` of one key."""
    kept = 0
    state = key + (first + _ONE) * _GAMMA
    for i in range(row.size):
        value = row[i]
        stays = (mixed(state) < below) & (value != 0)
        state += _GAMMA
        kept += stays
        row[i] = value if stays else np.float32(0)
    return kept


def drop(delta: Array, key: int, first: int, limit: int) -> int:
    """Set entries whose hash is not below `limit` to zero; return how many are not zero."""
    words = (np.uint64(number) for number in (key, first, limit))
    return int(drop_entries(delta, *words))
