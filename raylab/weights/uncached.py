"""A file that is read and written past the page cache, and memory for what is read.

Model: a large file leaves nothing in the page cache that is used again, and new pages cost more
than the disk: of a virtual machine 0.35 to 0.5 s of a processor for a GB read, and 1.7 s for a GB
written. With RWF_DONTCACHE (Linux 6.14, uapi/linux/fs.h) pages are on their way to the disk, and
free again, at once: 0.11 and 0.2 s. Pages that are in the cache already are used. Where the system
or the file system does not have it, pages are given back after they were used.
Invariant: the bytes are the same. Lent memory is lent again when the last view of it is gone.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
import weakref

import numpy as np

_DONTCACHE = 0x80
_UNKNOWN = (errno.EINVAL, errno.EOPNOTSUPP)
_STEP = 1 << 20
"""Memory is taken in multiples of so many bytes."""


class UncachedFile:
    """An open file, by its handle. Safe in any number of threads."""

    def __init__(self, handle: int) -> None:
        """handle: open as long as this object is in use."""
        self._handle, self._flags = handle, _DONTCACHE

    def read(self, into: memoryview, at: int) -> int:
        """Read bytes from byte `at` on; how many. Raises OSError."""
        if self._flags:
            try:
                return os.preadv(self._handle, [into], at, self._flags)
            except (OSError, NotImplementedError) as error:
                self._do_without(error)
        return self._forget(at, os.preadv(self._handle, [into], at))

    def write(self, data: memoryview, at: int) -> int:
        """Write bytes at byte `at`; how many. Raises OSError."""
        # A page that two writes share stays in the cache: the second would have to read it.
        first, whole = -at % mmap.PAGESIZE, len(data) // mmap.PAGESIZE * mmap.PAGESIZE
        if first or not whole:
            return os.pwrite(self._handle, data[: first or len(data)], at)
        if self._flags:
            try:
                return os.pwritev(self._handle, [data[:whole]], at, self._flags)
            except (OSError, NotImplementedError) as error:
                self._do_without(error)
        return self._forget(at, os.pwrite(self._handle, data[:whole], at))

    def _forget(self, at: int, size: int) -> int:
        """The system begins to write these pages, and forgets those that are on the disk."""
        os.posix_fadvise(self._handle, at, size, os.POSIX_FADV_DONTNEED)
        return size

    def _do_without(self, error: Exception) -> None:
        if isinstance(error, OSError) and error.errno not in _UNKNOWN:
            raise error
        self._flags = 0


class _Memory:
    """Memory that is lent as arrays, and comes back when the last view of one is gone."""

    def __init__(self) -> None:
        self._free: dict[int, list[mmap.mmap]] = {}
        # Whatever is done with the lock may free arrays, which come back at once.
        self._lent, self._lock = 0, threading.RLock()

    @property
    def lent(self) -> int:
        """Bytes that are in use."""
        return self._lent

    def lend(self, size: int) -> np.ndarray:
        """uint8 (size,) of arbitrary content."""
        taken = -(-size // _STEP) * _STEP
        with self._lock:
            self._lent += taken
            free = self._free.setdefault(taken, [])
            memory = free.pop() if free else None
        if memory is None:
            memory = mmap.mmap(-1, taken, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        found = np.frombuffer(memory, np.uint8)
        # Views of views keep this array alive, as it does not own its memory.
        weakref.finalize(found, self._take_back, memory, taken)
        return found[:size]

    def _take_back(self, memory: mmap.mmap, taken: int) -> None:
        with self._lock:
            self._lent -= taken
            self._free[taken].append(memory)


MEMORY = _Memory()
