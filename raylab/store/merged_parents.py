"""The place of merged parents on a node: scratch space, from which their children start.

Invariant: nothing heavy is imported, so that a node deletes one in no time.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from raylab.store.filesystem import Store, study_scratch


def merged_directory(store: Store, parent_id: str) -> Path:
    """The place on this node of the merged model of a parent."""
    return study_scratch(store) / "merged" / parent_id


def release(store: Store, parent_id: str) -> None:
    """Delete this node's merged model of a parent whose last child has ended."""
    shutil.rmtree(merged_directory(store, parent_id), ignore_errors=True)
