"""The SHA-256 of files, also while they are written.

Model: threads write pieces of several files in any order. One thread of its own adds what a file
has without a gap from its beginning to the file's digest. It takes a copy of the bytes where the
writer hands them over; else it reads behind the writer, from the page cache, and asks the system to
bring these pages to the disk now, so that a last flush finds little to do.
Invariant: a digest is that of the bytes that a reader finds in the file. Of what was handed over no
more than `_MOST_WAITING` pieces wait, and one more from each thread that writes; beyond gaps no
more than `_MOST_BEYOND` bytes and a piece of each thread wait, and the rest is read behind the
writer.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from raylab.weights.uncached import MEMORY

_MOST_WAITING = 16
_MOST_BEYOND = 64 << 20
_BLOCK = 4 << 20
"""Bytes. Python's lock is asked for twice a block: in small ones the digest waits for it."""


def sha256_of(path: Path) -> str:
    """That of a file that is there, in hexadecimal. Raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass
class _File:
    """An open file: how many of its bytes are there without a gap, and how many of these were
    handed to the thread; `beyond`: by its beginning the end of what was written beyond a gap, and
    its bytes where these were handed over."""

    handle: int
    size: int
    whole: int = 0
    handed: int = 0
    beyond: dict[int, tuple[int, np.ndarray | None]] = field(default_factory=dict)
    digest: Any = field(default_factory=hashlib.sha256)


class FileDigests:
    """Of open files of known sizes. `wrote` may be called by many threads at once."""

    def __init__(self, files: Mapping[str, tuple[int, int]]) -> None:
        """files: by name an open file and its size. Nothing is read yet."""
        self._files = {name: _File(handle, size) for name, (handle, size) in files.items()}
        self._lock, self._block = threading.Lock(), memoryview(bytearray(_BLOCK))
        self._thread = ThreadPoolExecutor(1)
        self._work: deque[Future[None]] = deque()
        self._beyond = 0

    def wrote(self, name: str, begin: int, end: int, data: memoryview | None = None) -> None:
        """Hear that the bytes [begin, end) of a file are there. No byte is said twice. data: these
        bytes, where they need not be in the page cache. Raises OSError."""
        file = self._files[name]
        if begin == end:
            return
        copy = None
        # A tensor of a wide dtype may be the last one that is merged, and stands first in its file.
        if data is not None and (begin == file.whole or self._beyond < _MOST_BEYOND):
            copy = MEMORY.lend(end - begin)
            copy[:] = np.frombuffer(data, np.uint8)
        with self._lock:
            file.beyond[begin] = end, copy
            self._beyond += 0 if copy is None else end - begin
            self._hand_over(file)
            is_behind = len(self._work) > _MOST_WAITING
            oldest = self._work.popleft() if is_behind else None
        if oldest:
            oldest.result()

    def _hand_over(self, file: _File) -> None:
        while file.whole in file.beyond:
            end, copy = file.beyond.pop(file.whole)
            if copy is not None:
                self._beyond -= end - file.whole
                self._read_back(file)
                self._work.append(self._thread.submit(file.digest.update, copy))
                file.handed = end
            file.whole = end
        if file.whole - file.handed >= _BLOCK or file.whole == file.size:
            self._read_back(file)

    def _read_back(self, file: _File) -> None:
        """What came without its bytes."""
        if file.handed < file.whole:
            self._work.append(self._thread.submit(self._add, file, file.handed, file.whole))
            file.handed = file.whole

    def _add(self, file: _File, first: int, last: int) -> None:
        at = first
        while at < last:
            size = os.preadv(file.handle, [self._block[: min(_BLOCK, last - at)]], at)
            if not size:
                raise OSError("a file is shorter than what was written")
            file.digest.update(self._block[:size])
            at += size
        # It begins to write these pages, and leaves those that are on their way in the cache.
        os.posix_fadvise(file.handle, first, last - first, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(cancel_futures=True)

    def found(self) -> dict[str, str]:
        """The digests of all files, in hexadecimal, once every byte is written. Raises OSError."""
        for work in self._work:
            work.result()
        return {name: file.digest.hexdigest() for name, file in self._files.items()}
