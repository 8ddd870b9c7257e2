"""What was freed, given back to the system.

Model: the C library keeps freed memory for later, in a heap for each thread; between two shards of
many models that is hundreds of megabytes in pieces that no later array fits into.
Invariant: nothing in use is touched; where the C library is not glibc, nothing is done.
"""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Give freed memory back; takes some milliseconds."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
