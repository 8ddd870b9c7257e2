"""Loops that numba compiles once for the CPU at hand, and that later processes run without numba.

Model: `njit` marks a loop. With a signature Python can call it: the first call ever has numba
compile it, with all loops that it calls, and its machine code is kept on disk. From then on a
process loads that code in a millisecond; numba, whose import takes longer than most commands,
stays out of it. A loop without a signature is only called by others, and is part of their code.
Invariant: code compiled from other sources, by other versions or for another CPU is never run; a
loop is never called with arrays of other dtypes, axes or layouts than it was compiled for. Loops
take no memory: they work in arrays that they are given, or in `raylab.reduce.intrinsics.on_stack`.

numba itself keeps compiled functions too, but has to be imported to read them, and makes objects
of all types again: 0.4 s for the loops of a difference.
"""

from __future__ import annotations

from raylab.compiled import types
from raylab.compiled.loop import Loop, from_numba, njit

__all__ = ["Loop", "from_numba", "njit", "types"]
