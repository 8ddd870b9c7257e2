"""Loading what stays for good: large libraries, and the rows of data sets.

Model: Python's garbage collector walks through all objects several times during an import and once
at the end, which costs a command 0.7 s for torch and numba, and a fifth of the time to read 50,000
rows. Modules and rows stay for good, so the collector need not look at them.
A library can be loaded by a thread while the process waits for something else.
Invariant: only such objects are made inside `loading`. Circles of references there are never
collected. Whether a thread has loaded a module, or has failed to, changes nothing: who needs the
module imports it.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Thread


@contextmanager
def loading() -> Iterator[None]:
    """Import libraries or read rows inside this block, for the rest of the process."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def load_aside(modules: Sequence[str]) -> Thread:
    """Load `modules` in a thread. Join it before they are imported: two threads that import modules
    which import each other may see halves of them."""

    def load() -> None:
        for name in modules:
            with suppress(Exception), loading():
                importlib.import_module(name)

    thread = Thread(target=load, name="load aside")
    thread.start()
    return thread
