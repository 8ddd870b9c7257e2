"""One safetensors file: views of the mapping, and headers that lie."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load, save, save_file

from raylab.errors import ModelError
from raylab.weights import safetensors_reader
from raylab.weights.safetensors_reader import MappedFile, matrix_shape
from raylab.weights.torch_rows import TORCH_DTYPES, as_torch

NAMES = {dtype: name for name, dtype in TORCH_DTYPES.items()}


def numbers(shape, dtype, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def written(tmp_path, header, data):
    """A file with this header (an object, or bytes as they are) and these bytes of tensors."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def mapped_bytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssFile"))


def anonymous_bytes():
    """Anonymous resident memory of this process."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))


@pytest.mark.parametrize("dtype", TORCH_DTYPES.values())
def test_rows_every_shape_equal_what_was_saved(tmp_path, dtype):
    shapes = {"matrix": (7, 5), "vector": (9,), "scalar": (), "cube": (3, 2, 4), "none": (0, 6)}
    tensors = {name: numbers(shape, dtype) for name, shape in shapes.items()}
    save_file(tensors, tmp_path / "f")
    file = MappedFile(tmp_path / "f")
    assert {name: entry.shape for name, entry in file.entries.items()} == shapes
    for name, tensor in tensors.items():
        rows, columns = matrix_shape(shapes[name])
        for start in range(rows):
            part = as_torch(file.rows(name, start, rows))
            assert part.dtype == dtype
            assert torch.equal(part, tensor.reshape(rows, columns)[start:])


def test_rows_are_views_and_take_no_anonymous_memory(tmp_path):
    save_file({"w": torch.ones(2048, 8192, dtype=torch.bfloat16)}, tmp_path / "f")
    file = MappedFile(tmp_path / "f")
    whole = file.rows("w", 0, 2048)
    assert file.rows("w", 5, 9).ctypes.data == whole.ctypes.data + 5 * 8192 * 2
    before = anonymous_bytes()
    assert all(bool((file.rows("w", row, row + 1) == 0x3F80).all()) for row in range(2048))
    assert anonymous_bytes() - before < whole.nbytes / 4


def test_rows_of_a_large_file_leave_the_memory_of_the_process(tmp_path):
    size = 400 << 20
    header = {"w": {"dtype": "BF16", "shape": [size >> 12, 1 << 11], "data_offsets": [0, size]}}
    text = json.dumps(header).encode()
    path = written(tmp_path, text + b" " * (-len(text) % 8), b"")
    with path.open("r+b") as opened:
        opened.truncate(path.stat().st_size + size)
    file, before, most = MappedFile(path), mapped_bytes(), 0
    for start in range(0, size >> 12, 1 << 10):
        assert not file.rows("w", start, start + (1 << 10)).any()
        most = max(most, mapped_bytes() - before)
    assert most < 120 << 20


def test_rows_of_misaligned_tensor_are_copied_whole(tmp_path):
    values = numbers((4, 5), torch.float32)
    header = {"w": {"dtype": "F32", "shape": [4, 5], "data_offsets": [0, 80]}}
    text = json.dumps(header).encode()
    text += b" " * ((1 - len(text)) % 4)
    file = MappedFile(written(tmp_path, text, values.numpy().tobytes()))
    assert np.array_equal(file.rows("w", 1, 3), values[1:3].numpy())
    assert file.rows("w", 1, 3).ctypes.data % 4 == 0


def test_rows_from_many_threads_are_the_same(tmp_path):
    values = numbers((512, 64), torch.bfloat16)
    save_file({"w": values}, tmp_path / "f")
    file = MappedFile(tmp_path / "f")
    with ThreadPoolExecutor(8) as pool:
        parts = pool.map(lambda row: file.rows("w", row, row + 1), range(512))
        assert torch.equal(as_torch(np.concatenate(list(parts))), values)


WHOLE = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
LIES = {
    "offsets past the end": {"w": WHOLE | {"shape": [2, 4], "data_offsets": [0, 32]}},
    "offsets past the end, size kept": {"w": WHOLE | {"data_offsets": [8, 24]}},
    "offsets backwards": {"w": WHOLE | {"data_offsets": [16, 0]}},
    "negative offset": {"w": WHOLE | {"data_offsets": [-16, 0]}},
    "negative extent": {"w": WHOLE | {"shape": [-2, -2]}},
    "size of another shape": {"w": WHOLE | {"shape": [2, 3]}},
    "size of another dtype": {"w": WHOLE | {"dtype": "F16"}},
    "unknown dtype": {"w": WHOLE | {"dtype": "F7"}},
    "overlap": {"w": WHOLE, "v": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}},
    "gap": {"w": {"dtype": "F32", "shape": [3], "data_offsets": [4, 16]}},
    "bytes left over": {"w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}},
    "no shape": {"w": {"dtype": "F32", "data_offsets": [0, 16]}},
    "extent as a fraction": {"w": WHOLE | {"shape": [2.0, 2]}},
    "extent as a truth": {"w": WHOLE | {"shape": [4, True]}},
    "three offsets": {"w": WHOLE | {"data_offsets": [0, 8, 16]}},
    "huge empty shape": {
        "w": WHOLE,
        "v": {"dtype": "F32", "shape": [0, 10**30], "data_offsets": [16, 16]},
    },
    "a list": [WHOLE],
    "no object inside": {"w": 3},
    "a name twice": b'{"w": %s, "w": %s}' % ((json.dumps(WHOLE).encode(),) * 2),
    "nested without end": b"[" * 100_000,
    "no text": b"\xff\xfe{}",
    "no JSON": b"{'w'}",
    "nothing": b"",
}


@pytest.mark.parametrize("lie", LIES)
def test_header_that_lies_is_refused(tmp_path, lie):
    with pytest.raises(ModelError, match="cannot be read"):
        MappedFile(written(tmp_path, LIES[lie], bytes(16)))


def test_header_true_beside_the_lies_is_read(tmp_path):
    header = {"w": WHOLE, "__metadata__": {"format": "pt"}}
    assert list(MappedFile(written(tmp_path, header, bytes(16))).entries) == ["w"]


@pytest.mark.parametrize("cut", [0, 4, 8, 9, 100, -1])
def test_truncated_file_is_refused(tmp_path, cut):
    save_file({"w": torch.ones(8, 8)}, tmp_path / "f")
    content = (tmp_path / "f").read_bytes()
    (tmp_path / "f").write_bytes(content[:cut])
    with pytest.raises(ModelError, match="cannot be read"):
        MappedFile(tmp_path / "f")


def test_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ModelError, match="No such file"):
        MappedFile(tmp_path / "f")


TENSORS = {
    "model.a": numbers((3, 4), torch.bfloat16),
    "model.b": numbers((5,), torch.float16),
    "model.c": numbers((2, 2, 2), torch.float32),
}
SAVED = save(TENSORS)
HEADER_END = 8 + int.from_bytes(SAVED[:8], "little")

byte_changes = st.lists(
    st.tuples(st.integers(0, len(SAVED) - 1), st.integers(0, 255)), min_size=1, max_size=4
)
header_values = st.one_of(
    st.sampled_from([*LIES.values(), "F32", "BF16", "F16", "I16", None, True, [], {}]),
    st.integers(-9, 100),
    st.lists(st.integers(-2, 70), max_size=4),
)
header_changes = st.lists(
    st.tuples(
        st.sampled_from([*TENSORS, "model.d", "__metadata__"]),
        st.sampled_from(["dtype", "shape", "data_offsets", "other", None]),
        header_values,
    ),
    min_size=1,
    max_size=3,
)


def changed_bytes(changes, cut):
    content = bytearray(SAVED)
    for at, value in changes:
        content[at] = value
    return bytes(content[: len(content) - cut])


def changed_header(changes):
    header = json.loads(SAVED[8:HEADER_END])
    for name, field, value in changes:
        value = repr(value) if isinstance(value, bytes) else value
        if field is None:
            header[name] = value
        elif isinstance(header.get(name, {}), dict):
            header[name] = header.get(name, {}) | {field: value}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + SAVED[HEADER_END:]


def assert_read_as_the_library_reads_it(path, content):
    """Either a ModelError, or exactly the tensors that the safetensors library gives."""
    path.write_bytes(content)
    try:
        file = MappedFile(path)
    except ModelError:
        return
    try:
        expected = load(content)
    except SafetensorError as error:
        raise AssertionError(f"read what the library refuses: {error}") from error
    assert set(file.entries) == set(expected)
    for name, tensor in expected.items():
        if tensor.dtype in NAMES:
            rows = as_torch(file.rows(name, 0, matrix_shape(file.entries[name].shape)[0]))
            assert rows.dtype == tensor.dtype
            assert file.entries[name].shape == tuple(tensor.shape)
            assert math.prod(tensor.shape) == rows.numel()
            assert torch.equal(
                rows.reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8)
            )


@settings(max_examples=300, deadline=None)
@given(changes=byte_changes, cut=st.integers(0, 3))
def test_reader_any_bytes_changed_gives_right_tensors_or_refuses(tmp_path_factory, changes, cut):
    path = tmp_path_factory.getbasetemp() / "bytes.safetensors"
    assert_read_as_the_library_reads_it(path, changed_bytes(changes, cut))


@settings(max_examples=300, deadline=None)
@given(changes=header_changes)
def test_reader_any_header_changed_gives_right_tensors_or_refuses(tmp_path_factory, changes):
    path = tmp_path_factory.getbasetemp() / "header.safetensors"
    assert_read_as_the_library_reads_it(path, changed_header(changes))


def test_reader_unchanged_file_is_read_by_the_fuzzers_check(tmp_path):
    assert set(MappedFile(written(tmp_path, SAVED[8:HEADER_END], SAVED[HEADER_END:])).entries) == (
        set(TENSORS)
    )
    assert_read_as_the_library_reads_it(tmp_path / "f", SAVED)


def test_rows_of_many_files_leave_the_memory_of_the_process(tmp_path, monkeypatch):
    most = 4 << 20
    monkeypatch.setattr(safetensors_reader, "_MOST_MAPPED", most)
    monkeypatch.setattr(safetensors_reader, "_MAPPED_AROUND", 0)
    for number in range(6):
        save_file({"a": torch.ones(2048, 256)}, tmp_path / f"{number}.safetensors")
    files = [MappedFile(path) for path in sorted(tmp_path.iterdir())]
    for file in files:
        for start in range(0, 2048, 64):
            assert file.rows("a", start, start + 64).sum() == 64 * 256
    lines = Path("/proc/self/smaps").read_text().splitlines()
    mapped = [at for at, line in enumerate(lines) if str(tmp_path) in line]
    resident = [line for at in mapped for line in lines[at : at + 6] if line.startswith("Rss:")]
    assert len(resident) == len(files)
    assert sum(int(line.split()[1]) for line in resident) << 10 <= most + (2 << 20)
