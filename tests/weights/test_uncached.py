"""What goes past the page cache is what plain reading and writing would give."""

import os
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylab.weights import uncached
from raylab.weights.uncached import MEMORY, UncachedFile


@pytest.mark.parametrize("flag", [uncached._DONTCACHE, 1 << 30])
@given(st.lists(st.tuples(st.integers(0, 20_000), st.integers(1, 20_000)), max_size=6))
@settings(max_examples=40, deadline=None)
def test_bytes_past_the_cache_are_those_of_plain_writing(tmp_path_factory, flag, parts):
    path, expected = tmp_path_factory.mktemp("files") / "file", bytearray(40_000)
    handle = os.open(path, os.O_CREAT | os.O_RDWR)
    os.ftruncate(handle, len(expected))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uncached, "_DONTCACHE", flag)
        file = UncachedFile(handle)
    for number, (at, size) in enumerate(parts):
        data = bytes([number + 1]) * size
        expected[at : at + size] = data
        rest = memoryview(data)
        while rest:
            done = file.write(rest, at)
            rest, at = rest[done:], at + done
    read = bytearray(len(expected))
    assert file.read(memoryview(read), 0) == len(expected)
    os.close(handle)
    assert read == expected == path.read_bytes()


def test_an_error_of_the_disk_is_raised(tmp_path):
    handle = os.open(tmp_path / "file", os.O_CREAT | os.O_RDONLY)
    file = UncachedFile(handle)
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.write(memoryview(bytes(8192)), 0)
    os.close(handle)


def test_lent_memory_is_lent_again_when_its_last_view_is_gone():
    before = MEMORY.lent
    first = MEMORY.lend(100)
    view = first[10:20].view(np.uint16)
    address = first.ctypes.data
    assert MEMORY.lent > before
    del first
    assert MEMORY.lend(100).ctypes.data != address
    del view
    assert MEMORY.lent == before
    assert MEMORY.lend(100).ctypes.data == address


def test_memory_comes_back_while_other_memory_is_lent(monkeypatch):
    """Python frees arrays of a cycle at any moment, in the thread that is at work."""
    held = [MEMORY.lend(3 << 20)]
    free = MEMORY._free

    class Freeing(dict):
        def setdefault(self, *given):
            held.clear()
            return free.setdefault(*given)

        def __getitem__(self, size):
            return free[size]

    monkeypatch.setattr(MEMORY, "_free", Freeing())
    before, lent = MEMORY.lent, []
    thread = threading.Thread(target=lambda: lent.append(MEMORY.lend(1 << 20)), daemon=True)
    thread.start()
    thread.join(20)
    assert [each.size for each in lent] == [1 << 20]
    assert MEMORY.lent == before - (2 << 20)
