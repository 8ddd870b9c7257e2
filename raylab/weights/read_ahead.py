"""Parts of files that threads read into memory of their own before they are asked for.

Model: files that together take more than half of the machine's memory do not stay in the page
cache, and every page there costs more time than the disk. So the parts that are asked for ahead of
their use are read past it, by few threads, into memory that is used again when the last view of it
is gone. A part that is in the page cache all the same is copied from there. Smaller files are
mapped, and the system reads ahead.
Invariant: the bytes are those of the file. Whoever asks for no part ahead reads the mapping. No
more than `_MOST_HELD` bytes are read ahead; what goes beyond is left to the mapping.

RWF_DONTCACHE (Linux 6.14, uapi/linux/fs.h) reads through pages that are free again at once: 0.11 s
of a processor for a GB, plain reading of files that are larger than memory takes 0.35 to 0.5 s.
Where the system does not have it, the pages are given back after they are read.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

import numpy as np

from raylab.errors import ModelError

_OF_MEMORY = 0.5
"""Files that are open together do not fit from this share of the memory on."""
_READERS = 2
_MOST_HELD = 1 << 28
_PIECE = 1 << 20
"""Memory is taken in multiples of so many bytes."""
_DONTCACHE = 0x80
_UNKNOWN = (errno.EINVAL, errno.EOPNOTSUPP)


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


class _Memory:
    """Memory that is lent as arrays, and comes back when the last view of one is gone."""

    def __init__(self) -> None:
        self._free: dict[int, list[mmap.mmap]] = {}
        self._lent, self._lock = 0, threading.Lock()

    def has_room(self, size: int) -> bool:
        return self._lent + _rounded(size) <= _MOST_HELD

    def lend(self, size: int) -> np.ndarray:
        """uint8 (size,) of arbitrary content."""
        taken = _rounded(size)
        with self._lock:
            self._lent += taken
            free = self._free.setdefault(taken, [])
            memory = (
                free.pop() if free else mmap.mmap(-1, taken, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            )
        found = np.frombuffer(memory, np.uint8)
        # Views of views keep this array alive, as it does not own its memory.
        weakref.finalize(found, self._take_back, memory, taken)
        return found[:size]

    def _take_back(self, memory: mmap.mmap, taken: int) -> None:
        with self._lock:
            self._lent -= taken
            self._free[taken].append(memory)


def _rounded(size: int) -> int:
    return -(-size // _PIECE) * _PIECE


OPEN_FILES, _MEMORY = _OpenFiles(), _Memory()


@cache
def _readers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_READERS, "read ahead")


class ReadAhead:
    """The parts of one open file that were asked for. Safe in any number of threads."""

    def __init__(self, handle: int, name: str) -> None:
        """handle: of the file, open for reading as long as this object is in use."""
        self._handle, self._name, self._has_dontcache = handle, name, True
        self._parts: dict[tuple[int, int], Future[np.ndarray]] = {}

    def begin(self, first: int, size: int) -> None:
        """Begin to read `size` bytes from byte `first` on."""
        if not OPEN_FILES.exceed_memory():
            os.posix_fadvise(self._handle, first, size, os.POSIX_FADV_WILLNEED)
        elif size and (first, size) not in self._parts and _MEMORY.has_room(size):
            part = _MEMORY.lend(size)
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
                read = self._read_past_cache(rest, at)
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

    def _read_past_cache(self, into: memoryview, at: int) -> int:
        """How many bytes were read."""
        if self._has_dontcache:
            try:
                return os.preadv(self._handle, [into], at, _DONTCACHE)
            except (OSError, NotImplementedError) as error:
                if getattr(error, "errno", errno.EINVAL) not in _UNKNOWN:
                    raise
                self._has_dontcache = False
        read = os.preadv(self._handle, [into], at)
        os.posix_fadvise(self._handle, at, read, os.POSIX_FADV_DONTNEED)
        return read
