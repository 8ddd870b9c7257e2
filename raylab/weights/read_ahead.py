"""Parts of files that threads read into memory of their own before they are asked for.

Model: files that together take more than half of the machine's memory do not stay in the page
cache. So the parts that are asked for ahead of their use are read past it
(`raylab.weights.uncached`), by few threads. Smaller files are mapped, and the system reads ahead.
Invariant: the bytes are those of the file. Whoever asks for no part ahead reads the mapping. No
more than `_MOST_HELD` bytes are read ahead; what goes beyond is left to the mapping.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

import numpy as np

from raylab.errors import ModelError
from raylab.weights.uncached import MEMORY, UncachedFile

_OF_MEMORY = 0.5
"""Files that are open together do not fit from this share of the memory on."""
_READERS = 4
_MOST_HELD = 1 << 28


class _OpenFiles:
    """How many bytes all files have that are open."""

    def __init__(self) -> None:
        self._bytes, self._lock = 0, threading.Lock()

    def add(self, size: int) -> None:
        with self._lock:
            self._bytes += size

    def exceed_memory(self) -> bool:
        return self._bytes > _OF_MEMORY * _memory()


@cache
def _memory() -> int:
    """Bytes of the machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


OPEN_FILES = _OpenFiles()


@cache
def _readers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_READERS, "read ahead")


class ReadAhead:
    """The parts of one open file that were asked for. Safe in any number of threads."""

    def __init__(self, handle: int, name: str) -> None:
        """handle: of the file, open for reading as long as this object is in use."""
        self._handle, self._file, self._name = handle, UncachedFile(handle), name
        self._parts: dict[tuple[int, int], Future[np.ndarray]] = {}

    def begin(self, first: int, size: int) -> None:
        """Begin to read `size` bytes from byte `first` on."""
        if not OPEN_FILES.exceed_memory():
            os.posix_fadvise(self._handle, first, size, os.POSIX_FADV_WILLNEED)
        elif size and (first, size) not in self._parts and MEMORY.lent + size <= _MOST_HELD:
            part = MEMORY.lend(size)
            self._parts[first, size] = _readers().submit(self._read, part, first)

    def take(self, first: int, size: int) -> np.ndarray | None:
        """What was read, uint8 (size,); None where this part was not asked for since it was last
        taken. Raises ModelError."""
        part = self._parts.pop((first, size), None)
        return part.result() if part else None

    def _read(self, part: np.ndarray, first: int) -> np.ndarray:
        at, rest = first, part.data
        try:
            while rest:
                read = self._file.read(rest, at)
                if not read:
                    raise OSError("the file is shorter than before")
                rest, at = rest[read:], at + read
        except OSError as error:
            raise ModelError(
                f"{self._name} cannot be read",
                found=str(error),
                expected="a whole safetensors file",
                todo="fetch or save it again",
            ) from error
        part.flags.writeable = False
        return part
