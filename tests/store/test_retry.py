"""What is tried again, for how long, and what is said at once; disks that are really full."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raylab.errors import StoreError
from raylab.store import filesystem as paths
from raylab.store.filesystem import Store
from raylab.store.retry import PERMANENT, TRANSIENT, RetryPolicy, is_transient, with_retries

SHORT = RetryPolicy(stop_after=1.0, first_wait=0.01, longest_wait=0.05)
ROOT = Path(__file__).parents[2]


class Flaky:
    """Fails `times` times with `error`, then gives 7."""

    def __init__(self, error: Exception, times: int) -> None:
        self.error, self.times, self.calls = error, times, 0

    def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return 7


def fault(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@pytest.mark.parametrize("number", sorted(TRANSIENT))
def test_fault_of_a_shared_disk_is_tried_again(number):
    flaky = Flaky(fault(number), 4)
    assert with_retries(flaky, SHORT, "x cannot be read") == 7
    assert flaky.calls == 5


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EACCES, "access is denied"),
        (errno.EROFS, "read-only"),
        (errno.ENOENT, "No such file"),
        (errno.ENOTDIR, "Not a directory"),
        (errno.EISDIR, "Is a directory"),
    ],
)
def test_fault_that_lasts_is_said_at_once(number, words):
    flaky = Flaky(fault(number), 4)
    with pytest.raises(StoreError) as caught:
        with_retries(flaky, SHORT, "x cannot be written")
    assert flaky.calls == 1
    assert caught.value.what == "x cannot be written"
    assert words in caught.value.found


@pytest.mark.parametrize(
    ("text", "again"),
    [
        ("AWS Error SLOW_DOWN during ListObjectsV2 operation: x", True),
        ("AWS Error UNKNOWN (HTTP status 503) during HeadObject operation", True),
        ("AWS Error UNKNOWN (HTTP status 429) during HeadObject operation", True),
        ("AWS Error NETWORK_CONNECTION during HeadObject: curlCode: 6, no host", True),
        ("AWS Error NO_SUCH_UPLOAD during CompleteMultipartUpload operation", True),
        ("AWS Error ACCESS_DENIED during PutObject operation: x", False),
        ("AWS Error NO_SUCH_BUCKET during PutObject operation: x", False),
        ("AWS Error INVALID_ACCESS_KEY_ID during PutObject operation: x", False),
        ("AWS Error UNKNOWN (HTTP status 400) during HeadObject operation", False),
        ("AWS Error UNKNOWN (HTTP status 301) during HeadObject operation", False),
        ("Bucket 'name' not found", False),
    ],
)
def test_object_store_errors_are_told_apart(text, again):
    assert is_transient(OSError(text)) is again


def test_every_lasting_fault_has_words():
    assert all(words for _, words in PERMANENT)


def test_endless_fault_is_one_error_that_counts_tries():
    flaky = Flaky(fault(errno.EIO), 10**9)
    started = time.monotonic()
    with pytest.raises(StoreError) as caught:
        with_retries(flaky, SHORT, "x cannot be read")
    assert time.monotonic() - started <= SHORT.stop_after + 0.2
    assert f"tried {flaky.calls} times" in caught.value.found
    assert flaky.calls > 10


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("a mistake")])
def test_what_is_no_fault_of_the_store_goes_through(error):
    flaky = Flaky(error, 1)
    with pytest.raises(type(error)):
        with_retries(flaky, SHORT, "x")
    assert flaky.calls == 1


def test_local_store_survives_a_shared_disk_that_stutters(tmp_path, monkeypatch):
    store = Store(str(tmp_path), SHORT)
    store.write("a", b"old")
    fsync, left = os.fsync, [errno.EIO, errno.ESTALE, errno.ETIMEDOUT]

    def stutter(handle):
        if left:
            raise fault(left.pop())
        fsync(handle)

    monkeypatch.setattr(paths.os, "fsync", stutter)
    store.write("a", b"new")
    assert store.read("a") == b"new"
    assert store.names("") == ["a"]


LIMITED = """
import resource, signal, sys
from raylab.errors import StoreError
from raylab.store.filesystem import Store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
store = Store(sys.argv[1])
store.write("a/b", b"old")
try:
    store.write("a/b", b"x" * (1 << 20))
except StoreError as error:
    print(error)
assert store.read("a/b") == b"old"
assert store.names("a") == ["b"], store.names("a")
"""
FULL = """
import subprocess, sys
from raylab.errors import StoreError
from raylab.store.filesystem import Store
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", sys.argv[1]], check=True)
store = Store(sys.argv[1])
store.write("a/b", b"old")
try:
    store.write("a/b", b"x" * (4 << 20))
except StoreError as error:
    print(error)
assert store.read("a/b") == b"old"
assert store.names("a") == ["b"], store.names("a")
store.write("a/c", b"small ones go on")
"""
OWN_MOUNTS = ["unshare", "--user", "--map-root-user", "--mount"]


def in_a_child(code: str, directory: Path, *before: str) -> str:
    done = subprocess.run(
        [*before, sys.executable, "-c", code, str(directory)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_write_that_the_system_cuts_short_is_said_and_leaves_the_old_file(tmp_path):
    started = time.monotonic()
    said = in_a_child(LIMITED, tmp_path)
    assert "a/b cannot be written" in said
    assert "File too large" in said
    assert time.monotonic() - started < 30


def test_disk_that_fills_in_mid_write_is_said_and_leaves_the_old_file(tmp_path):
    try:
        subprocess.run([*OWN_MOUNTS, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no mounts of one's own here")
    said = in_a_child(FULL, tmp_path, *OWN_MOUNTS)
    assert "a/b cannot be written" in said
    assert "the disk is full" in said
    assert "free some space" in said
