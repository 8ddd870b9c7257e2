"""What a store asks of the place that holds its files: a disk, or an object store.

Model: a path is an absolute one, without a scheme. `Disk` is the file system of this machine, by
the standard library, so that a command that reads a local store loads nothing large;
`raylab.store.object_store` is every other place.
Invariant: a path holds either the whole new content or the whole old one. A file is written under
another name, flushed to disk and renamed. Errors are OSErrors.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol


class Entry(NamedTuple):
    """A file or a folder that is there; size in bytes, None for a folder."""

    path: str
    size: int | None


class Files(Protocol):
    """The operations of a place. Each can be repeated."""

    def read(self, path: str) -> bytes:
        """The content of a file. Raises FileNotFoundError."""

    def write(self, path: str, data: bytes) -> None:
        """Write a file and the folders above it, completely or not at all."""

    def delete(self, path: str) -> None:
        """Delete a file or a folder if it is there."""

    def entry(self, path: str) -> Entry | None:
        """What is at `path`; None if nothing is."""

    def entries(self, folder: str, *, recursive: bool) -> list[Entry]:
        """What is below a folder, in any order; nothing if the folder is not there."""


class Disk:
    """The file system of this machine."""

    def read(self, path: str) -> bytes:
        """The content of a file. Raises FileNotFoundError."""
        return Path(path).read_bytes()

    def write(self, path: str, data: bytes) -> None:
        """Write a file and the folders above it, completely or not at all."""
        write_atomically(Path(path), data)

    def delete(self, path: str) -> None:
        """Delete a file or a folder if it is there."""
        if Path(path).is_dir() and not Path(path).is_symlink():
            # Another process may delete it, or a part of it, at the same time.
            with suppress(FileNotFoundError):
                shutil.rmtree(path)
        else:
            Path(path).unlink(missing_ok=True)

    def entry(self, path: str) -> Entry | None:
        """What is at `path`; None if nothing is."""
        try:
            found = Path(path).stat()
        except FileNotFoundError:
            return None
        return Entry(path, None if stat.S_ISDIR(found.st_mode) else found.st_size)

    def entries(self, folder: str, *, recursive: bool) -> list[Entry]:
        """What is below a folder, in any order; nothing if the folder is not there."""
        try:
            paths = [str(path) for path in Path(folder).iterdir()]
        except FileNotFoundError:
            return []
        # Another process may delete what was just listed.
        found = [entry for path in paths if (entry := self.entry(path))]
        if recursive:
            for below in [entry.path for entry in found if entry.size is None]:
                found += self.entries(below, recursive=True)
        return found


def write_atomically(path: Path, data: bytes) -> None:
    """Write a local file and the folders above it, completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".part-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
