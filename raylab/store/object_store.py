"""The files of a store on a bucket, a hub or a cluster's file system, through pyarrow.fs.

Model: a URI in the form of pyarrow.fs gives the file system, whose timeouts are those of the retry
policy. Credentials come from the environment only.
Invariant: an object shows when its upload is complete. A read that ends early raises an error.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from pyarrow import fs

from raylab.store.files import Disk, Entry, Files
from raylab.store.retry import RetryPolicy, with_retries

MAX_SINGLE_UPLOAD = 4 << 20
"""Bytes that pyarrow sends to an object store in one request."""


@dataclass(frozen=True)
class ObjectStore:
    """`small` is the same file system for small files, which it writes with one request each."""

    file_system: fs.FileSystem
    small: fs.FileSystem

    def read(self, path: str) -> bytes:
        """The content of a file. Raises FileNotFoundError."""
        with self.file_system.open_input_file(path) as stream:
            data, size = bytes(stream.read()), stream.size()
        if len(data) != size:
            raise OSError(f"only {len(data)} of {size} bytes were read")
        return data

    def write(self, path: str, data: bytes) -> None:
        """Write a file, completely or not at all."""
        files = self.small if len(data) <= MAX_SINGLE_UPLOAD else self.file_system
        with files.open_output_stream(path) as stream:
            stream.write(data)

    def delete(self, path: str) -> None:
        """Delete a file or a folder if it is there."""
        kind = self.file_system.get_file_info(path).type
        # Another process, or an earlier attempt whose answer was lost, may have deleted it.
        with suppress(FileNotFoundError):
            if kind == fs.FileType.Directory:
                self.file_system.delete_dir(path)
            elif kind == fs.FileType.File:
                self.file_system.delete_file(path)

    def entry(self, path: str) -> Entry | None:
        """What is at `path`; None if nothing is."""
        info = self.file_system.get_file_info(path)
        return None if info.type == fs.FileType.NotFound else _entry(info)

    def entries(self, folder: str, *, recursive: bool) -> list[Entry]:
        """What is below a folder, in any order; nothing if the folder is not there.

        An object store lists a thousand files at any depth with one request.
        """
        selector = fs.FileSelector(folder, allow_not_found=True, recursive=recursive)
        return [_entry(info) for info in self.file_system.get_file_info(selector)]


def _entry(info: fs.FileInfo) -> Entry:
    return Entry(info.path, info.size if info.type == fs.FileType.File else None)


def open_uri(uri: str, policy: RetryPolicy) -> tuple[Files, str]:
    """The place that a URI names, and the path of its root. Raises OSError, ValueError and
    StoreError."""
    if uri.startswith("s3:"):
        # Without a region in the URI, pyarrow asks the network where the bucket is.
        what = "the bucket's region cannot be found"
        made, root = with_retries(lambda: fs.FileSystem.from_uri(uri), policy, what)
    else:
        made, root = fs.FileSystem.from_uri(uri)
    if isinstance(made, fs.LocalFileSystem):
        return Disk(), root
    return ObjectStore(*_with_timeouts(made, policy)), root


def _with_timeouts(made: fs.FileSystem, policy: RetryPolicy) -> tuple[fs.FileSystem, fs.FileSystem]:
    """The file system with the timeouts of `policy`: for large files, and for small ones."""
    if isinstance(made, fs.S3FileSystem):
        options = _options(made) | {
            "connect_timeout": policy.connect_timeout,
            "request_timeout": policy.request_timeout,
            "retry_strategy": fs.AwsStandardS3RetryStrategy(max_attempts=policy.max_attempts),
        }
        # With a delayed open, an upload that cannot begin leaves an empty object. A file that fits
        # one request does not begin an upload, and so costs a third of the requests.
        large = fs.S3FileSystem(**options | {"allow_delayed_open": False})
        return large, fs.S3FileSystem(**options | {"allow_delayed_open": True})
    if isinstance(made, fs.GcsFileSystem):
        limit = timedelta(seconds=max(1, round(policy.request_timeout)))
        made = fs.GcsFileSystem(**_options(made) | {"retry_time_limit": limit})
    return made, made


def _options(made: fs.FileSystem) -> dict[str, object]:
    """The options of a file system, as pyarrow pickles them."""
    _, (options, *_) = made.__reduce__()
    return dict(options)
