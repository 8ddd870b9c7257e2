"""Digests of files that threads write piece by piece are those of hashlib over the whole files."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylab.weights import file_digests
from raylab.weights.checkpoint_writer import CheckpointWriter, TensorSpec
from raylab.weights.file_digests import FileDigests
from raylab.weights.uncached import MEMORY


@st.composite
def files_in_pieces(draw):
    """The contents of some files, and all of their pieces in any order."""
    contents = draw(st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=3))
    pieces = []
    for number, content in enumerate(contents):
        cuts = draw(st.sets(st.integers(0, len(content)), max_size=8)) | {0, len(content)}
        ends = sorted(cuts)
        pieces += [(number, *bounds) for bounds in pairwise(ends)]
    return contents, draw(st.permutations(pieces))


@given(files_in_pieces(), st.integers(1, 50), st.integers(0, 3), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_digests_of_pieces_in_any_order_are_those_of_the_files(
    tmp_path_factory, drawn, block, waiting, handed_over
):
    """handed_over: every so-manieth piece is handed over with its bytes."""
    contents, pieces = drawn
    folder = tmp_path_factory.mktemp("files")
    names = [f"file-{number}" for number in range(len(contents))]
    handles = [os.open(folder / name, os.O_CREAT | os.O_RDWR) for name in names]
    sizes = map(len, contents)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_digests, "_BLOCK", block)
        patch.setattr(file_digests, "_MOST_WAITING", waiting)
        digests = FileDigests(dict(zip(names, zip(handles, sizes, strict=True), strict=True)))

        def write(piece):
            number, begin, end = piece
            data = contents[number][begin:end]
            if handed_over and begin % handed_over == 0:
                digests.wrote(names[number], begin, end, memoryview(data))
                return
            os.pwrite(handles[number], data, begin)
            digests.wrote(names[number], begin, end)

        with ThreadPoolExecutor(3) as pool:
            list(pool.map(write, pieces))
        found = digests.found()
        digests.close()
    for handle in handles:
        os.close(handle)
    expected = [hashlib.sha256(content).hexdigest() for content in contents]
    assert list(found.values()) == expected


def test_of_pieces_beyond_a_gap_few_bytes_are_held(tmp_path, monkeypatch):
    monkeypatch.setattr(file_digests, "_MOST_BEYOND", 100)
    content, before = bytes(range(250)) * 4, MEMORY.lent
    handle = os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR)
    os.pwrite(handle, content, 0)
    digests = FileDigests({"file": (handle, len(content))})
    lent = []
    for begin in [*range(10, 1000, 10), 0]:
        digests.wrote("file", begin, begin + 10, memoryview(content[begin : begin + 10]))
        lent.append(MEMORY.lent - before)
    assert digests.found() == {"file": hashlib.sha256(content).hexdigest()}
    digests.close()
    os.close(handle)
    one = lent[0]
    assert max(lent[:-1]) == lent[20] == 10 * one


def test_digests_of_a_file_that_was_cut_meanwhile_are_an_error(tmp_path):
    handle = os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR)
    digests = FileDigests({"file": (handle, 10)})
    digests.wrote("file", 0, 10)
    with pytest.raises(OSError, match="shorter"):
        digests.found()
    digests.close()
    os.close(handle)


@pytest.mark.parametrize("most_bytes", [1, 10**6])
def test_checkpoint_writer_has_the_digest_of_every_file(tmp_path, most_bytes):
    specs = [TensorSpec("a", "F32", (7, 3)), TensorSpec("none", "F16", (0, 4))]
    with CheckpointWriter(tmp_path, specs, most_bytes, digests=True) as writer:
        for row in reversed(range(7)):
            writer.write_rows("a", row, np.full((1, 3), row, np.float32))
    files = {file.name: file.read_bytes() for file in tmp_path.glob("*.safetensors")}
    assert writer.sha256 == {n: hashlib.sha256(data).hexdigest() for n, data in files.items()}
