"""Importing large libraries, in a command and in a worker.

Model: Python's garbage collector walks through all objects several times during an import and once
at the end, which costs a command 0.7 s for torch and numba. Imported modules stay for good, so the
collector need not look at them.
Invariant: only imports belong inside `loading`; other objects made there are never collected.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Import large libraries inside this block, for the rest of the process."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
