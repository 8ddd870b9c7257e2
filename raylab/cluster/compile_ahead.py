"""Loops compiled ahead: in a process of its own, while Ray starts and trials load their libraries.

Model: the first run after an installation finds no machine code of the loops that reduce, and to
compile them takes half a minute of a processor. The driver does not need them, and trials need
some when they end; so a process that gives way to all others compiles them from the start.
Invariant: nothing waits for it or depends on it: who needs a loop that is not there compiles it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# As `raylab.compiled` names it, which loads numba.
_CACHES = "__pycache__/loops-*"
# First what a trial measures with.
_COMMAND = "import os; os.nice(10); import raylab.reduce.passes, raylab.reduce.shard_cache"


def compile_ahead(package: Path = Path(__file__).parents[1]) -> subprocess.Popen[bytes] | None:
    """Start to compile the loops of `package`; None if it has machine code already, or if the
    user keeps it elsewhere (NUMBA_CACHE_DIR)."""
    if "NUMBA_CACHE_DIR" in os.environ or any(package.glob(_CACHES)):
        return None
    quiet = subprocess.DEVNULL
    return subprocess.Popen(
        [sys.executable, "-c", _COMMAND],
        stdin=quiet,
        stdout=quiet,
        stderr=quiet,
        start_new_session=True,  # Ctrl-C is for the driver.
    )
