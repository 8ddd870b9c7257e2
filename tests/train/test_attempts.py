"""What an attempt says of itself is its own, not of the worker's earlier ones."""

from __future__ import annotations

import numpy as np

from raylab.store.filesystem import Store
from raylab.train.attempts import peak_memory, recorded_attempt

LARGE = 2**28


def test_peak_memory_of_an_attempt_is_not_that_of_an_earlier_one(tmp_path):
    store = Store(str(tmp_path / "out"))
    with recorded_attempt(store, "a"):
        before = peak_memory()
        np.ones(LARGE, np.uint8)
        first = peak_memory()
    with recorded_attempt(store, "b"):
        second = peak_memory()
        np.ones(LARGE // 2, np.uint8)
        third = peak_memory()
    assert first - before > 0.9 * LARGE
    assert second < first - 0.9 * LARGE
    assert 0.4 * LARGE < third - second < 0.6 * LARGE
