"""The SHA-256 of files, also while they are written.

Model: threads write pieces of several files in any order. One thread of its own reads behind them
what a file has without a gap from its beginning, adds it to the file's digest, and asks the system
to bring it to the disk now, so that a last flush finds little to do. What was just written is read
from the page cache.
Invariant: a digest is that of the bytes that a reader finds in the file. Of all files together no
more than one block is held.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_BLOCK = 4 << 20
"""Bytes. Python's lock is asked for twice a block: in small ones the digest waits for it."""


def sha256_of(path: Path) -> str:
    """That of a file that is there, in hexadecimal. Raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass
class _File:
    """An open file: how many of its bytes are there without a gap, and how many of these were
    handed to the thread; `beyond`: the ends of what was written beyond a gap, by beginning."""

    handle: int
    size: int
    whole: int = 0
    handed: int = 0
    beyond: dict[int, int] = field(default_factory=dict)
    digest: Any = field(default_factory=hashlib.sha256)


class FileDigests:
    """Of open files of known sizes. `wrote` may be called by many threads at once."""

    def __init__(self, files: Mapping[str, tuple[int, int]]) -> None:
        """files: by name an open file and its size. Nothing is read yet."""
        self._files = {name: _File(handle, size) for name, (handle, size) in files.items()}
        self._lock, self._block = threading.Lock(), memoryview(bytearray(_BLOCK))
        self._thread = ThreadPoolExecutor(1)
        self._read: list[Future[None]] = []

    def wrote(self, name: str, begin: int, end: int) -> None:
        """Hear that the bytes [begin, end) of a file are there. No byte is said twice."""
        file = self._files[name]
        if begin == end:
            return
        with self._lock:
            file.beyond[begin] = end
            while file.whole in file.beyond:
                file.whole = file.beyond.pop(file.whole)
            first, last = file.handed, file.whole
            if last - first >= _BLOCK or first < last == file.size:
                file.handed = last
                self._read.append(self._thread.submit(self._add, file, first, last))

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
        for read in self._read:
            read.result()
        return {name: file.digest.hexdigest() for name, file in self._files.items()}
