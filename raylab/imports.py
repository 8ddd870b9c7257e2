"""Importing large libraries, in a command and in a worker.

Model: Python's collector of cycles walks through all that is loaded, again and again while it is
loaded and once more at the end; of torch and numba that is 0.7 s of a command. What was imported
stays for good, so the collector need never look at it.
Invariant: imports alone belong inside `loading`; what else is made there is never collected.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Import large libraries within, for the rest of this process's life."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
