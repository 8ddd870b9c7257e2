"""Compiled loops: the directory where numba keeps their machine code.

Model: numba caches a compiled function beside its module, and compiles it again only if the file of
that module changes (numba 0.68.1, `numba/core/caching.py`). A loop that calls a loop of another
file holds its code inlined: after a change of that file numba would run the old code. So the cache
lies in a directory named by the digest of every file that may hold a loop.
Invariant: code compiled from other sources is never run. Every module with loops takes `njit` from
here. NUMBA_CACHE_DIR, if it is set, stays as the user set it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from numba import config, njit

__all__ = ["cache_directory", "njit"]

_PACKAGE = Path(__file__).parent
_PACKAGES_WITH_LOOPS = ("reduce", "merge")


def cache_directory(files: Iterable[Path]) -> Path:
    """The directory for the machine code of loops in `files`, named by their names and bytes."""
    whole = hashlib.sha256()
    for file in sorted(files):
        whole.update(f"{file.name}:{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return _PACKAGE / "__pycache__" / f"loops-{whole.hexdigest()[:16]}"


if "NUMBA_CACHE_DIR" not in os.environ:
    config.CACHE_DIR = str(
        cache_directory(f for name in _PACKAGES_WITH_LOOPS for f in (_PACKAGE / name).glob("*.py"))
    )
