"""A directory that appears whole or not at all.

Model: it is made and filled beside its final path, flushed to the disk, and renamed.
Invariant: a directory at its final path is complete. A writer that fails leaves nothing behind. A
writer that is killed leaves an unlocked directory named .NAME.part-*, which the next writer to
NAME removes.
"""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raylab.errors import OutError, StoreError


@contextmanager
def atomic_directory(out: Path) -> Iterator[Path]:
    """A new directory to fill, which is renamed to `out` on success and removed on failure.

    Raises OutError where `out` exists or cannot be made, and StoreError where the system fails
    while the directory is filled.
    """
    part = out.parent / f".{out.name}.part-{uuid.uuid4().hex[:8]}"
    check_absent(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part.mkdir()
    except OSError as error:
        raise OutError("the directory cannot be made", found=f"{out}: {error}") from error
    lock = os.open(part, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        _remove_abandoned(out)
        yield part
        flush(part)
        check_absent(out)
        part.rename(out)
    except OSError as error:
        shutil.rmtree(part)
        raise StoreError("a directory could not be filled", found=f"{out}: {error}") from error
    except BaseException:
        shutil.rmtree(part)
        raise
    finally:
        os.close(lock)
    _flush_directory(out.parent)


def check_absent(out: Path) -> None:
    """Raise OutError where something is at `out`."""
    if out.exists() or out.is_symlink():
        raise OutError(
            "the output directory is there already",
            found=str(out),
            expected="a path where nothing is",
            todo="choose another --out, or remove it",
        )


def _remove_abandoned(out: Path) -> None:
    """Remove the directories of killed writers to `out`: a lock ends with its process."""
    for left in out.parent.glob(f".{glob.escape(out.name)}.part-{'[0-9a-f]' * 8}"):
        try:
            lock = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue  # Another writer removed it, or no writer made it.
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left)
        except BlockingIOError:
            pass  # Another writer is filling it.
        finally:
            os.close(lock)


def flush(directory: Path) -> None:
    """Wait until every file below `directory` is on the disk."""
    for file in sorted(directory.rglob("*")):
        handle = os.open(file, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    _flush_directory(directory)


def _flush_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
