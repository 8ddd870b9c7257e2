"""Loading what stays for good: large libraries, and the rows of data sets.

Model: Python's garbage collector walks through all objects several times during an import and once
at the end, which costs a command 0.7 s for torch and numba, and a fifth of the time to read 50,000
rows. Modules and rows stay for good, so the collector need not look at them.
Invariant: only such objects are made inside `loading`. Circles of references there are never
collected.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Import libraries or read rows inside this block, for the rest of the process."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
