"""One safetensors file: its header checked, its weights mapped.

Model: a file is eight bytes with the header's length, the header (a JSON object from tensor names
to dtype, shape and byte range), and the bytes of the tensors one after another
(https://huggingface.co/docs/safetensors, "Format"). `MappedFile` maps the file for reading and
hands out views of that mapping.
Invariant: a header is believed only when its ranges cover the data without gap or overlap and
each range has the size that its dtype and shape ask for; anything else is a ModelError. No byte
of a weight is read before it is used, and none is ever written.

The header is parsed here because `safe_open` maps a file writable, which Linux counts against
its limit of memory: it refuses a shard that is larger than the machine's RAM. A mapping for
reading alone is never counted, and any number of threads may slice it.
"""

from __future__ import annotations

import json
import math
import mmap
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from raylab.errors import ModelError

Shape = tuple[int, ...]

DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
"""As safetensors names them."""
_OTHER_SIZES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
    "U16": 2, "I16": 2, "U32": 4, "I32": 4, "U64": 8, "I64": 8, "F64": 8, "C64": 8,
}  # fmt: skip
_SIZES = _OTHER_SIZES | {name: dtype.itemsize for name, dtype in DTYPES.items()}
_LENGTH_BYTES = 8
_MOST_HEADER = 100_000_000
"""Bytes; the limit of the safetensors library itself."""
_MOST_ENTRIES = 1 << 60


@dataclass(frozen=True)
class Entry:
    """One tensor of a file; `start` and `stop` are bytes from the file's beginning."""

    dtype: str
    shape: Shape
    start: int
    stop: int


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
        except (OSError, _Damaged) as error:
            raise ModelError(
                f"{path} cannot be read",
                found=str(error),
                expected="a whole safetensors file",
                todo="fetch or save it again",
            ) from error
        self._bytes = _as_tensor(mapped)

    def rows(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Rows [start, stop), 2-D, in the file's dtype; a vector or a scalar is one row.

        A view of the mapping, but a copy where the file does not align the tensor to its dtype.
        It must not be written to: the pages are read-only.
        """
        entry = self.entries[name]
        dtype = DTYPES[entry.dtype]
        height, width = matrix_shape(entry.shape)
        assert 0 <= start <= stop <= height, f"rows {start} to {stop} of {height}"
        line = width * dtype.itemsize
        part = self._bytes[entry.start + start * line : entry.start + stop * line]
        if part.storage_offset() % dtype.itemsize:
            part = part.clone()
        return part.view(dtype).view(stop - start, width)


def matrix_shape(shape: Shape) -> tuple[int, int]:
    """(rows, columns) that a tensor of `shape` is read as; a vector or a scalar is one row."""
    return (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))


def _as_tensor(mapped: mmap.mmap) -> torch.Tensor:
    """uint8 view of the mapping, which lives as long as any view of it."""
    with warnings.catch_warnings():
        # torch says once that nobody may write to it, which is what is wanted.
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        return torch.frombuffer(mapped, dtype=torch.uint8)


class _Damaged(Exception):
    """What is wrong with a file, in words."""


def _read_header(file: Any, size: int) -> dict[str, Entry]:
    """The entries of an open file of `size` bytes. Raises _Damaged."""
    file.seek(0)
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    if size < _LENGTH_BYTES or not 2 <= length <= min(size - _LENGTH_BYTES, _MOST_HEADER):
        raise _Damaged(f"a header of {length} bytes in a file of {size} bytes")
    begin = _LENGTH_BYTES + length
    raw = _json_object(file.read(length))
    _check_remarks(raw.pop("__metadata__", None))
    entries = {name: _entry(name, fields, begin) for name, fields in raw.items()}
    _check_cover(entries, begin, size)
    return entries


def _check_remarks(remarks: Any) -> None:
    if remarks is None:
        return
    if not isinstance(remarks, dict) or not all(isinstance(v, str) for v in remarks.values()):
        raise _Damaged("its __metadata__ is no mapping to text")


def _json_object(text: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(text.decode(), object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as error:
        raise _Damaged(f"the header is no JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise _Damaged("the header is no JSON object")
    return parsed


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        (double, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise _Damaged(f"the header names {double!r} twice")
    return found


def _entry(name: str, fields: Any, begin: int) -> Entry:
    match fields:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [start, stop]} if all(
            type(number) is int and number >= 0 for number in (*shape, start, stop)
        ):
            pass
        case _:
            raise _Damaged(f"{name!r} has no dtype, shape and data_offsets that can be read")
    if dtype not in _SIZES:
        raise _Damaged(f"{name!r} has the unknown dtype {dtype}")
    if math.prod(extent or 1 for extent in shape) > _MOST_ENTRIES:
        raise _Damaged(f"{name!r} has the shape {shape}")
    if stop - start != math.prod(shape) * _SIZES[dtype]:
        raise _Damaged(f"{name!r} takes {stop - start} bytes, which is no {dtype} of {shape}")
    return Entry(dtype, tuple(shape), begin + start, begin + stop)


def _check_cover(entries: Mapping[str, Entry], begin: int, size: int) -> None:
    """The ranges follow one another from the header's end to the file's end."""
    at = begin
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)):
        if entry.start != at:
            raise _Damaged(f"{name!r} begins at byte {entry.start}, where {at} was expected")
        at = entry.stop
    if at != size:
        raise _Damaged(f"the tensors end at byte {at} of {size}")
