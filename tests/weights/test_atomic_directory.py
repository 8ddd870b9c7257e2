"""A directory appears whole or not at all."""

import fcntl
import os

import pytest

from raylab.errors import OutError, StoreError
from raylab.weights.atomic_directory import atomic_directory


def test_atomic_directory_appears_at_the_end(tmp_path):
    out = tmp_path / "new" / "out"
    with atomic_directory(out) as part:
        (part / "file").write_text("x")
        assert not out.exists()
    assert (out / "file").read_text() == "x"
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_atomic_directory_that_fails_leaves_nothing(tmp_path, error):
    with pytest.raises(error), atomic_directory(tmp_path / "out") as part:
        (part / "file").write_text("x")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_atomic_directory_system_that_fails_is_a_store_error(tmp_path):
    with pytest.raises(StoreError, match="disk full"), atomic_directory(tmp_path / "out"):
        raise OSError("disk full")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_atomic_directory_never_replaces_what_is_there(tmp_path, kind):
    out = tmp_path / "out"
    make = {"file": out.touch, "directory": out.mkdir, "link": lambda: out.symlink_to("nowhere")}
    make[kind]()
    with pytest.raises(OutError, match="there already"), atomic_directory(out):
        pass
    assert list(tmp_path.iterdir()) == [out]


def test_atomic_directory_what_comes_in_the_meantime_is_not_replaced(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(OutError, match="there already"), atomic_directory(out):
        out.mkdir()
    assert list(tmp_path.iterdir()) == [out]


def test_atomic_directory_clears_up_after_the_killed_but_not_the_living(tmp_path):
    killed, living = tmp_path / ".out[1].part-0123abcd", tmp_path / ".out[1].part-0123abce"
    other = tmp_path / ".out2.part-0123abcd"
    for path in (killed, living, other):
        path.mkdir()
        (path / "file").touch()
    lock = os.open(living, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with atomic_directory(tmp_path / "out[1]"):
        pass
    os.close(lock)
    assert sorted(tmp_path.iterdir()) == sorted([living, other, tmp_path / "out[1]"])


def test_atomic_directory_leaves_what_no_writer_made(tmp_path):
    folder, file, link = (
        tmp_path / f".out.part-{name}" for name in ("mine", "0123abcd", "0123abce")
    )
    folder.mkdir()
    file.touch()
    link.symlink_to(folder)
    with atomic_directory(tmp_path / "out"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"out", folder.name, file.name, link.name}


def test_atomic_directory_where_nothing_can_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutError, match="cannot be made"), atomic_directory(tmp_path / "file" / "x"):
        pass
