"""Ray Tune's own view of a study's trials, for those who know it.

Invariant: what it gives is what Tune wrote below OUT/tune: the trials of the last run that trained
any. The tables of the store have those of all runs.
"""

from __future__ import annotations

from ray.tune import ExperimentAnalysis, ResultGrid

from raylab.errors import StoreError
from raylab.store.filesystem import TUNE, Store


def result_grid(store: Store) -> ResultGrid:
    """The ResultGrid of the last training. Raises StoreError where none is there."""
    try:
        found = ExperimentAnalysis(
            store.path(TUNE), storage_filesystem=None if store.is_local else store.file_system
        )
    except ValueError as error:
        raise StoreError(
            "Ray Tune has written nothing there",
            found=store.address(TUNE),
            expected="a study that `raylab run` trained",
        ) from error
    return ResultGrid(found)
