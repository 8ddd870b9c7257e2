"""Safetensors files: headers are checked, weights are mapped, and rows are read from the mapping.

Model: a file is eight bytes with the header's length, the header (a JSON object from tensor names
to dtype, shape and byte range), and the bytes of the tensors one after another
(https://huggingface.co/docs/safetensors, "Format"). `MappedFile` maps one file for reading and
returns views of that mapping. `SafetensorsFolder` is all files of a directory: `model.safetensors`,
or shards and `model.safetensors.index.json`, which names the shard of each tensor; an adapter's
files are called `adapter_model`. As in transformers, the single file comes first where both exist.
Invariant: a header is accepted only when its ranges cover the data without gap or overlap and
each range has the size of its dtype and shape. Every tensor is in exactly one file, and an index
and its files agree on every name. Anything else is a ModelError. No byte of a weight is read
before it is used, and none is ever written.

The header is parsed here because `safe_open` maps a file writable, which Linux counts against its
limit of memory: it refuses a shard that is larger than the machine's RAM. A mapping for reading
alone is never counted, and any number of threads may slice it.
An index names files in its own directory only. Such a file may be a symbolic link to anywhere:
the owner of the directory makes links, not the author of the index, and the hub's cache keeps its
files that way. Pickles run code when they are loaded, and are never opened.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import threading
import weakref
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from raylab.errors import ModelError
from raylab.spec.weight_files import refuse_empty, weight_files
from raylab.weights.read_ahead import OPEN_FILES, ReadAhead

Shape = tuple[int, ...]

Rows = np.ndarray
"""Some rows of a tensor, 2-D, in a dtype of DTYPES."""

DTYPES: Mapping[str, np.dtype[Any]] = {
    "BF16": np.dtype(np.uint16),
    "F16": np.dtype(np.float16),
    "F32": np.dtype(np.float32),
}
"""By their names in safetensors. numpy has no bfloat16: uint16 holds its bits."""
_OTHER_SIZES = {
    "BOOL": 1, "U8": 1, "I8": 1,
    "U16": 2, "I16": 2, "U32": 4, "I32": 4, "U64": 8, "I64": 8, "F64": 8, "C64": 8,
}  # fmt: skip
QUANTIZED_BITS = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E8M0": 8, "F8_E4M3": 8, "F8_E5M2": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
}  # fmt: skip
"""Codes of quantised weights, which mean nothing without their scales. A shape counts entries."""
_BITS = (
    {name: 8 * size for name, size in _OTHER_SIZES.items()}
    | QUANTIZED_BITS
    | {name: 8 * dtype.itemsize for name, dtype in DTYPES.items()}
)
_LENGTH_BYTES = 8
_MOST_HEADER = 100_000_000
"""Bytes; the limit of the safetensors library itself."""
_MOST_ENTRIES = 1 << 60
_MOST_MAPPED = 1 << 26
"""Bytes of all files that are read before their pages leave the memory of the process."""
_MAPPED_AROUND = 1 << 21
"""Bytes that the system may map beside a part that is read: a huge page."""


@dataclass(frozen=True)
class Entry:
    """One tensor of a file; `start` and `stop` are bytes from the file's beginning."""

    dtype: str
    shape: Shape
    start: int
    stop: int


class _Resident:
    """The pages of mapped files that reading brought into the memory of this process."""

    def __init__(self) -> None:
        self._files: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()
        self._bytes, self._lock = 0, threading.Lock()

    def add(self, file: mmap.mmap, size: int) -> None:
        """Count `size` bytes of `file`; where these are many, all pages leave the process. They
        stay in the page cache, and rows in use are mapped again."""
        with self._lock:
            self._files.add(file)
            self._bytes += size
            if self._bytes < _MOST_MAPPED:
                return
            for mapped in self._files:
                mapped.madvise(mmap.MADV_DONTNEED)
            self._files.clear()
            self._bytes = 0


_RESIDENT = _Resident()


class MappedFile:
    """The tensors of one file, as views of the mapping. Safe in any number of threads."""

    def __init__(self, path: Path) -> None:
        """Map `path` and check its header. Raises ModelError."""
        self.name = path.name
        try:
            with path.open("rb") as file:
                size = file.seek(0, 2)
                self.entries: Mapping[str, Entry] = _read_header(file, size)
                mapped = mmap.mmap(file.fileno(), size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
                self._handle = os.dup(file.fileno())
        except (OSError, _HeaderError) as error:
            raise ModelError(
                f"{path} cannot be read",
                found=str(error),
                expected="a whole safetensors file",
                todo="fetch or save it again",
            ) from error
        weakref.finalize(self, os.close, self._handle)
        self._mapped = mapped
        self._bytes = np.frombuffer(mapped, np.uint8)
        self._ahead = ReadAhead(self._handle, str(path))
        OPEN_FILES.add(size)
        weakref.finalize(self, OPEN_FILES.add, -size)

    def will_need(self, name: str, start: int, stop: int) -> None:
        """Begin to read rows [start, stop), which will be asked for with these bounds; see
        `raylab.weights.read_ahead`."""
        self._ahead.begin(*self._bounds(name, start, stop))

    def rows(self, name: str, start: int, stop: int) -> Rows:
        """Rows [start, stop), 2-D, in the file's dtype; a vector or a scalar is one row.

        A view of the mapping or of what was read ahead, but a copy where the file does not align
        the tensor to its dtype. It cannot be written to. Raises ModelError.
        """
        entry = self.entries[name]
        dtype = DTYPES[entry.dtype]
        height, width = matrix_shape(entry.shape)
        assert 0 <= start <= stop <= height, f"rows {start} to {stop} of {height}"
        first, size = self._bounds(name, start, stop)
        part = self._ahead.take(first, size)
        if part is None:
            part = self._bytes[first : first + size]
            _RESIDENT.add(self._mapped, size + _MAPPED_AROUND)
            if first % dtype.itemsize:
                part = part.copy()
        return part.view(dtype).reshape(stop - start, width)

    def _bounds(self, name: str, start: int, stop: int) -> tuple[int, int]:
        """The first byte of rows [start, stop), and how many bytes they have."""
        entry = self.entries[name]
        line = matrix_shape(entry.shape)[1] * DTYPES[entry.dtype].itemsize
        return entry.start + start * line, (stop - start) * line


def matrix_shape(shape: Shape) -> tuple[int, int]:
    """(rows, columns) that a tensor of `shape` is read as; a vector or a scalar is one row."""
    return (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))


class _HeaderError(Exception):
    """A header that does not describe its file; the message says why."""


def _read_header(file: BinaryIO, size: int) -> dict[str, Entry]:
    """The entries of an open file of `size` bytes. Raises _HeaderError."""
    file.seek(0)
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    if size < _LENGTH_BYTES or not 2 <= length <= min(size - _LENGTH_BYTES, _MOST_HEADER):
        raise _HeaderError(f"a header of {length} bytes in a file of {size} bytes")
    try:
        header = json.loads(file.read(length).decode(), object_pairs_hook=_unique_names)
    except (ValueError, RecursionError) as error:
        raise _HeaderError(f"the header is no JSON: {error}") from error
    if not isinstance(header, dict):
        raise _HeaderError("the header is no JSON object")
    metadata = header.pop("__metadata__", None)
    is_text = isinstance(metadata, dict) and all(isinstance(v, str) for v in metadata.values())
    if metadata is not None and not is_text:
        raise _HeaderError("its __metadata__ is no mapping to text")
    begin = _LENGTH_BYTES + length
    entries = {name: _entry(name, fields, begin) for name, fields in header.items()}
    at = begin
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)):
        if entry.start != at:
            raise _HeaderError(f"{name!r} begins at byte {entry.start}, where {at} was expected")
        at = entry.stop
    if at != size:
        raise _HeaderError(f"the tensors end at byte {at} of {size}")
    return entries


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        (name, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise _HeaderError(f"the header names {name!r} twice")
    return found


def _entry(name: str, fields: Any, begin: int) -> Entry:
    match fields:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [start, stop]} if all(
            type(number) is int and number >= 0 for number in (*shape, start, stop)
        ):
            pass
        case _:
            raise _HeaderError(f"{name!r} has no dtype, shape and data_offsets that can be read")
    if dtype not in _BITS:
        raise _HeaderError(f"{name!r} has the unknown dtype {dtype}")
    if math.prod(extent or 1 for extent in shape) > _MOST_ENTRIES:
        raise _HeaderError(f"{name!r} has the shape {shape}")
    if 8 * (stop - start) != math.prod(shape) * _BITS[dtype]:
        raise _HeaderError(f"{name!r} takes {stop - start} bytes, which is no {dtype} of {shape}")
    return Entry(dtype, tuple(shape), begin + start, begin + stop)


class SafetensorsFolder:
    """All tensors of the files of `stem` in a directory, mapped."""

    def __init__(self, directory: Path, stem: str = "model") -> None:
        """Map every file. Raises ModelError for damaged and missing files, for pickles, and for
        tensors without entries."""
        paths, index = weight_files(directory, stem)
        self._files: dict[str, MappedFile] = {}
        for path in paths:
            mapped = MappedFile(path)
            for name in mapped.entries:
                if name in self._files:
                    raise ModelError(f"two files of {directory} hold the tensor {name}")
                self._files[name] = mapped
        held = {name: file.name for name, file in self._files.items()}
        if index is not None and held != index:
            names = held.keys() | index.keys()
            differing = sorted(name for name in names if held.get(name) != index.get(name))
            raise ModelError(
                f"the index of {directory} and its files do not agree",
                found=f"{', '.join(differing[:5])} ({len(differing)} tensors)",
                expected="every tensor in the file that the index names",
            )
        entries = {name: file.entries[name] for name, file in self._files.items()}
        self.shapes: Mapping[str, Shape] = {name: e.shape for name, e in entries.items()}
        refuse_empty(directory, self.shapes)
        self.dtypes: Mapping[str, str] = {name: e.dtype for name, e in entries.items()}
        self.own_names: Mapping[str, str] = {name: name for name in entries}
        """The file's name of every tensor, which differs from its name here once it is renamed."""

    def rename(self, names: Mapping[str, str]) -> None:
        """Call the tensors `names` otherwise from now on; no name may become another's."""

        def renamed(found: Mapping[str, Any]) -> dict[str, Any]:
            return {names.get(name, name): value for name, value in found.items()}

        assert len(renamed(self.shapes)) == len(self.shapes), "two tensors of one name"
        self._files, self.own_names = renamed(self._files), renamed(self.own_names)
        self.shapes, self.dtypes = renamed(self.shapes), renamed(self.dtypes)

    def rows(self, name: str, start: int, stop: int) -> Rows:
        """Rows [start, stop) as `MappedFile.rows` gives them."""
        return self._files[name].rows(self.own_names[name], start, stop)

    def will_need(self, name: str, start: int, stop: int) -> None:
        """See `MappedFile.will_need`."""
        self._files[name].will_need(self.own_names[name], start, stop)

    def tensor(self, name: str) -> Rows:
        """The whole tensor in its shape and the file's dtype, a view where possible."""
        shape = self.shapes[name]
        rows = shape[0] if len(shape) > 1 else 1
        return self.rows(name, 0, rows).reshape(shape)
