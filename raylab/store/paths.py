"""The address of every artefact of a study, on a local disk or behind a URI.

Model: a store is a root (a directory, file://, s3://, gs://) and slash-separated keys below it,
reached through pyarrow.fs. Workers open it again from its URI.
Invariant: a key holds either the whole of what was written or what was there before: local files
are written beside their place, flushed to disk and renamed; object stores do so by themselves.
"""

from __future__ import annotations

import os
import re
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from pyarrow import fs

from raylab.errors import OutError, StoreError

STUDY = "study.yaml"
TRIALS = "trials"
TABLES = "tables"
REPORT = "report"
REDUCE = "reduce"
TUNE = "tune"
PREPARED = "prepared"


class Store:
    """Everything below one OUT."""

    def __init__(self, out: str) -> None:
        """Address the store at `out`; nothing is read or written yet. Raises OutError."""
        try:
            if re.match(r"^[a-z0-9]+://", out):
                self._fs, self.root = fs.FileSystem.from_uri(out)
                self.uri = out
            else:
                self._fs, self.root = fs.LocalFileSystem(), str(Path(out).expanduser().resolve())
                self.uri = self.root
        except (OSError, ValueError) as error:
            raise OutError(
                "OUT is no address of a store", found=f"{out}: {error}", expected=_EXPECTED
            ) from error

    @property
    def is_local(self) -> bool:
        """Whether it lies on this machine's file system."""
        return isinstance(self._fs, fs.LocalFileSystem)

    def path(self, key: str) -> str:
        """The address of `key` within the file system."""
        return f"{self.root}/{key}"

    def prepare(self) -> None:
        """Create the root and prove that it can be written. Raises OutError."""
        probe = f".probe-{uuid.uuid4().hex[:8]}"
        try:
            self._fs.create_dir(self.root, recursive=True)
            self.write(probe, b"raylab")
            self.delete(probe)
        except (OSError, StoreError) as error:
            raise OutError(
                "OUT cannot be written",
                found=f"{self.uri}: {error}",
                expected=_EXPECTED,
                todo="check the path, its permissions and the free space",
            ) from error

    def exists(self, key: str) -> bool:
        """Whether something is at `key`."""
        return bool(self._fs.get_file_info(self.path(key)).type != fs.FileType.NotFound)

    def size(self, key: str) -> int | None:
        """Bytes at `key`; None where nothing is."""
        size: int | None = self._fs.get_file_info(self.path(key)).size
        return size

    def read(self, key: str) -> bytes:
        """The bytes at `key`. Raises StoreError."""
        try:
            with self._fs.open_input_file(self.path(key)) as stream:
                return bytes(stream.read())
        except OSError as error:
            raise StoreError(f"{self.path(key)} cannot be read", found=str(error)) from error

    def write(self, key: str, data: bytes) -> None:
        """Put `data` at `key`, whole or not at all. Raises StoreError."""
        try:
            if self.is_local:
                _write_atomically(Path(self.path(key)), data)
            else:
                with self._fs.open_output_stream(self.path(key)) as stream:
                    stream.write(data)
        except OSError as error:
            raise StoreError(f"{self.path(key)} cannot be written", found=str(error)) from error

    def delete(self, key: str) -> None:
        """Remove the file or folder at `key`, if it is there."""
        kind = self._fs.get_file_info(self.path(key)).type
        if kind == fs.FileType.Directory:
            self._fs.delete_dir(self.path(key))
        elif kind == fs.FileType.File:
            self._fs.delete_file(self.path(key))

    def names(self, key: str) -> list[str]:
        """The names directly below `key`, sorted."""
        selector = fs.FileSelector(self.path(key), allow_not_found=True)
        return sorted(info.base_name for info in self._fs.get_file_info(selector))

    def files(self, key: str) -> Iterator[str]:
        """The keys of all files below `key`, relative to it, sorted."""
        selector = fs.FileSelector(self.path(key), allow_not_found=True, recursive=True)
        prefix = len(self.path(key)) + 1
        infos = self._fs.get_file_info(selector)
        yield from sorted(info.path[prefix:] for info in infos if info.type == fs.FileType.File)

    def upload(self, directory: Path, key: str) -> None:
        """Copy every file below `directory` to below `key`."""
        for file in sorted(path for path in directory.rglob("*") if path.is_file()):
            self.write(f"{key}/{file.relative_to(directory).as_posix()}", file.read_bytes())

    def local(self, key: str, scratch: Path) -> Path:
        """A local directory with the files below `key`: the place itself, or a copy."""
        if self.is_local:
            return Path(self.path(key))
        target = scratch / key
        for name in self.files(key):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            _write_atomically(target / name, self.read(f"{key}/{name}"))
        return target


_EXPECTED = "a directory or a URI (file://, s3://, gs://) that can be written"


def _write_atomically(path: Path, data: bytes) -> None:
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


def scratch_space() -> Path:
    """This node's directory for what can be made again: $RAYLAB_SCRATCH, or a temporary one."""
    chosen = os.environ.get("RAYLAB_SCRATCH")
    return Path(chosen) if chosen else Path(tempfile.gettempdir()) / f"raylab-{os.getuid()}"
