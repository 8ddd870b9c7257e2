"""The files of a study, on a local disk or in an object store.

Model: a store is a root (a directory, or a URI as `raylab.store.uri` has it) and slash-separated
keys below it, reached through a place of files (`raylab.store.files`). Workers open it again by its
URI. Operations are retried after transient errors (`raylab.store.retry`).
Invariant: a key holds either the whole new content or the whole old one. Every operation can be
repeated.
"""

from __future__ import annotations

import copy
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from raylab.errors import OutError, StoreError
from raylab.spec.identity import fingerprint
from raylab.store.files import Disk, Entry, write_atomically
from raylab.store.retry import RetryPolicy, with_retries
from raylab.store.uri import EXPECTED, open_address

STUDY = "study.yaml"
TRIALS = "trials"
TABLES = "tables"
REPORT = "report"
REDUCE = "reduce"
DECOMPOSED = "decomposed"
TUNE = "tune"
PREPARED = "prepared"
CHECKPOINTS = "checkpoints"

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

Result = TypeVar("Result")


class Store:
    """Everything below one OUT."""

    def __init__(self, out: str, retry_policy: RetryPolicy | None = None) -> None:
        """Address the store at `out`; nothing is read or written yet. Raises OutError."""
        self.retry_policy = retry_policy or RetryPolicy()
        self._address = open_address(out, self.retry_policy)
        self._files, self.root, self.uri = (
            self._address.files,
            self._address.root,
            self._address.uri,
        )

    @property
    def is_local(self) -> bool:
        """Whether it is on a file system of this machine."""
        return isinstance(self._files, Disk)

    @property
    def file_system(self) -> FileSystem | None:
        """The file system of pyarrow that holds the keys; None: a disk of this machine."""
        return getattr(self._files, "file_system", None)

    def with_timeout(self, seconds: float) -> Store:
        """The same store, whose operations are retried for `seconds` only."""
        store = copy.copy(self)
        store.retry_policy = replace(self.retry_policy, stop_after=seconds)
        return store

    def within(self, folder: str) -> Store:
        """The store whose root is the folder `folder` of this one."""
        store, root = copy.copy(self), f"{self.root}/{folder}"
        head, mark, options = self.uri.partition("?")
        # A path may hold a question mark; only a URI has options.
        uri = root if self.uri == self.root else f"{head.rstrip('/')}/{folder}{mark}{options}"
        store._address = replace(self._address, root=root, uri=uri)
        store.root, store.uri = root, uri
        return store

    def path(self, key: str) -> str:
        """The address of `key` within the file system."""
        return f"{self.root}/{key}"

    def address(self, key: str) -> str:
        """The address of `key` for people: a path, or a URI without its options."""
        return f"{self._address.scheme}{self.path(key)}"

    def prepare(self) -> None:
        """Create the root, and check that it can be written. Raises OutError."""
        probe = f".probe-{uuid.uuid4().hex[:8]}"
        try:
            if self.is_local:
                Path(self.root).mkdir(parents=True, exist_ok=True)
            self.write(probe, b"raylab")
            self.delete(probe)
        except (OSError, StoreError) as error:
            raise OutError(
                "OUT cannot be written",
                found=f"{self.uri}: {error}",
                expected=EXPECTED,
                todo="check the path, its permissions and the free space",
            ) from error

    def exists(self, key: str) -> bool:
        """Whether `key` exists. Raises StoreError."""
        return self._entry(key) is not None

    def size(self, key: str) -> int | None:
        """The size of `key` in bytes; None if it does not exist. Raises StoreError."""
        entry = self._entry(key)
        return entry.size if entry else None

    def read(self, key: str) -> bytes:
        """The content of `key`. Raises StoreError."""
        return self._try(lambda: self._files.read(self.path(key)), key, "read")

    def read_if_there(self, key: str) -> bytes | None:
        """The content of `key`; None if it does not exist. Raises StoreError."""

        def read() -> bytes | None:
            try:
                return self._files.read(self.path(key))
            except FileNotFoundError:
                return None

        return self._try(read, key, "read")

    def write(self, key: str, data: bytes) -> None:
        """Write `data` to `key`, completely or not at all. Raises StoreError."""
        self._try(lambda: self._files.write(self.path(key), data), key, "written")

    def delete(self, key: str) -> None:
        """Delete the file or folder `key` if it exists. Raises StoreError."""
        self._try(lambda: self._files.delete(self.path(key)), key, "deleted")

    def names(self, key: str) -> list[str]:
        """The names directly below `key`, sorted. Raises StoreError."""
        return sorted(Path(entry.path).name for entry in self._entries(key, recursive=False))

    def files(self, key: str) -> Iterator[str]:
        """The keys of all files below `key`, relative to it, sorted. Raises StoreError."""
        yield from self.sizes(key)

    def sizes(self, key: str) -> dict[str, int]:
        """The size of every file below `key`, by its key relative to `key`. Raises StoreError."""
        prefix = len(self.path(key)) + 1
        entries = self._entries(key, recursive=True)
        found = {e.path[prefix:]: e.size for e in entries if e.size is not None}
        return dict(sorted(found.items()))

    def upload(self, directory: Path, key: str) -> None:
        """Copy every file below `directory` to below `key`. Raises StoreError."""
        for file in sorted(path for path in directory.rglob("*") if path.is_file()):
            self.write(f"{key}/{file.relative_to(directory).as_posix()}", file.read_bytes())

    def local(self, key: str, scratch: Path) -> Path:
        """A local directory with the files below `key`: their own, or a copy.

        Raises StoreError.
        """
        if self.is_local:
            return Path(self.path(key))
        target = scratch / key
        for name in self.files(key):
            copied = partial(write_atomically, target / name, self.read(f"{key}/{name}"))
            with_retries(copied, self.retry_policy, f"{target / name} cannot be written")
        return target

    def _entry(self, key: str) -> Entry | None:
        return self._try(lambda: self._files.entry(self.path(key)), key, "read")

    def _entries(self, key: str, *, recursive: bool) -> list[Entry]:
        folder = self.path(key)
        return self._try(lambda: self._files.entries(folder, recursive=recursive), key, "listed")

    def _try(self, operation: Callable[[], Result], key: str, verb: str) -> Result:
        return with_retries(operation, self.retry_policy, f"{self.address(key)} cannot be {verb}")


def scratch_space() -> Path:
    """This node's directory for temporary files: $RAYLAB_SCRATCH, or one in the system's."""
    chosen = os.environ.get("RAYLAB_SCRATCH")
    return Path(chosen) if chosen else Path(tempfile.gettempdir()) / f"raylab-{os.getuid()}"


def study_scratch(store: Store) -> Path:
    """This node's directory for temporary files of the study in `store`."""
    return scratch_space() / fingerprint(store.uri)
