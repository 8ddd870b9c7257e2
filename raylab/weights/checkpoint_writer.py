"""Writes a checkpoint as transformers reads it: sharded safetensors, config and tokenizer.

Model: the names, dtypes and shapes of all tensors are known beforehand, so the header of every
file and the offset of every tensor are planned before a byte is written. Threads then write pieces
of tensors in any order. Where the files' SHA-256 are asked for, `raylab.weights.file_digests` takes
them behind the threads.
Invariant: every byte of every file is written once, or an error says so.

Layout of a safetensors file: 8 bytes with the header's length, the header (JSON, padded with
spaces to 8 bytes), and the tensors without gaps; wider dtypes first, so that all are aligned.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from raylab.errors import OutError, StoreError
from raylab.weights.file_digests import FileDigests
from raylab.weights.row_tiles import columns_of
from raylab.weights.safetensors_reader import Shape
from raylab.weights.uncached import UncachedFile

INDEX = "model.safetensors.index.json"
MOST_BYTES = 4_000_000_000
_BYTES = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4,
    "BF16": 2, "F16": 2, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip
TOKENIZER_FILES = (
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt",
    "*.jinja", "chat_template.json", "spiece.model", "*.tiktoken",
    "additional_chat_templates/*.jinja",
)  # fmt: skip
OTHER_FILES = ("config.json", "generation_config.json", "*.py", "LICENSE*", "NOTICE*")
CONFIG_FILES = (*OTHER_FILES, *TOKENIZER_FILES)


@dataclass(frozen=True)
class TensorSpec:
    """One tensor to be written; dtype as safetensors names it: BF16, F16, F32 ..."""

    name: str
    dtype: str
    shape: Shape

    @property
    def size(self) -> int:
        """Its bytes."""
        return math.prod(self.shape) * _BYTES[self.dtype]


@dataclass(frozen=True)
class FileLayout:
    """One file: its header, and where each tensor begins in it."""

    name: str
    header: bytes
    begins: dict[str, int]
    size: int


def layout_files(tensors: Sequence[TensorSpec], most_bytes: int = MOST_BYTES) -> list[FileLayout]:
    """Files of at most `most_bytes` of tensors each, in the order given; a larger tensor has a
    file of its own. One file is model.safetensors, several are model-0000i-of-0000n.safetensors.
    """
    groups: list[list[TensorSpec]] = [[]]
    room = most_bytes
    for tensor in tensors:
        if groups[-1] and tensor.size > room:
            groups.append([])
            room = most_bytes
        groups[-1].append(tensor)
        room -= tensor.size
    names = ["model.safetensors"]
    if len(groups) > 1:
        total = len(groups)
        names = [f"model-{i:05d}-of-{total:05d}.safetensors" for i in range(1, total + 1)]
    return [_layout_file(name, group) for name, group in zip(names, groups, strict=True)]


def _layout_file(name: str, tensors: Sequence[TensorSpec]) -> FileLayout:
    ordered = sorted(tensors, key=lambda tensor: -_BYTES[tensor.dtype])
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    ends: dict[str, int] = {}
    for tensor in ordered:
        begin, end = end, end + tensor.size
        ends[tensor.name] = begin
        entry = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [begin, end]}
        header[tensor.name] = entry
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    head = len(text).to_bytes(8, "little") + text
    begins = {tensor: len(head) + begin for tensor, begin in ends.items()}
    return FileLayout(name, head, begins, len(head) + end)


class CheckpointWriter:
    """The files of a checkpoint, open; `write` may be called by many threads at once."""

    def __init__(
        self,
        directory: Path,
        tensors: Sequence[TensorSpec],
        most_bytes: int = MOST_BYTES,
        *,
        digests: bool = False,
    ) -> None:
        """Lay out the files in `directory`; digests: take their SHA-256 on the way. Raises OutError
        where the disk has no room."""
        self._directory = directory
        self._files = layout_files(tensors, most_bytes)
        self._specs = {tensor.name: tensor for tensor in tensors}
        self._left = sum(tensor.size for tensor in tensors)
        self._total = self._left
        self._lock = threading.Lock()
        self._open: dict[str, int] = {}
        self._uncached: dict[str, UncachedFile] = {}
        self._with_digests, self._digests = digests, FileDigests({})
        self.sha256: dict[str, str] = {}
        """Of every file of tensors, in hexadecimal, at the end."""
        _check_room(directory, sum(file.size for file in self._files))

    def __enter__(self) -> Self:
        for file in self._files:
            path = self._directory / file.name
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
            self._open[file.name] = handle
            os.ftruncate(handle, file.size)
            self._uncached[file.name] = UncachedFile(handle)
            _write_all(partial(os.pwrite, handle), memoryview(file.header), 0)
        self._places = {
            tensor: (file.name, begin)
            for file in self._files
            for tensor, begin in file.begins.items()
        }
        self._begin()
        return self

    def tensors_of_files(self) -> list[list[str]]:
        """The tensors of each file, in their order there."""
        return [list(file.begins) for file in self._files]

    def write_rows(self, tensor: str, start: int, rows: np.ndarray) -> None:
        """Put `rows`, full-width rows in the tensor's dtype, uint16 being bf16, at row `start`.

        Raises StoreError.
        """
        self.write(tensor, *self._bytes_of(tensor, start, rows))

    def write(self, tensor: str, offset: int, data: memoryview) -> None:
        """Put `data` at byte `offset` of the tensor. Raises StoreError."""
        file, begin = self._places[tensor]
        _write_all(self._uncached[file].write, data, begin + offset)
        self._settle(tensor, begin + offset, len(data), data)

    def draft_rows(self, tensor: str, start: int, rows: np.ndarray) -> None:
        """`write_rows` of rows that may be written again, until the whole tensor is settled."""
        offset, data = self._bytes_of(tensor, start, rows)
        file, begin = self._places[tensor]
        _write_all(partial(os.pwrite, self._open[file]), data, begin + offset)

    def _bytes_of(self, tensor: str, start: int, rows: np.ndarray) -> tuple[int, memoryview]:
        """Where rows begin within the tensor, and their bytes."""
        offset = start * columns_of(self._specs[tensor].shape) * rows.itemsize
        return offset, np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data

    def settle(self, tensor: str) -> None:
        """The drafts of the tensor, which cover it, are final."""
        self._settle(tensor, self._places[tensor][1], self._specs[tensor].size)

    def _settle(self, tensor: str, begin: int, size: int, data: memoryview | None = None) -> None:
        with self._lock:
            self._left -= size
        if self._with_digests:
            self._digests.wrote(self._places[tensor][0], begin, begin + size, data)

    def restart(self) -> None:
        """All tensors are written once more."""
        self._digests.close()
        self._left = self._total
        self._begin()

    def _begin(self) -> None:
        """Take the digests from the beginning of every file on."""
        if self._with_digests:
            self._digests = FileDigests({f.name: (self._open[f.name], f.size) for f in self._files})
            for file in self._files:
                self._digests.wrote(file.name, 0, len(file.header))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                assert self._left == 0, f"{self._left} bytes were not written"
                self.sha256 = self._digests.found()
                self._write_index()
        finally:
            self._digests.close()
            for handle in self._open.values():
                os.close(handle)

    def _write_index(self) -> None:
        """transformers wants an index where there are several files, and none for one."""
        if len(self._files) == 1:
            return
        index = {
            "metadata": {"total_size": self._total},
            "weight_map": {name: file.name for file in self._files for name in file.begins},
        }
        text = json.dumps(index, indent=1, sort_keys=True) + "\n"
        (self._directory / INDEX).write_text(text, encoding="utf-8")


def _check_room(directory: Path, needed: int) -> None:
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise OutError(
            "the merged model does not fit on the disk",
            found=f"{free:,} bytes free at {directory.parent}",
            expected=f"{needed:,} bytes",
        )


def _write_all(write: Callable[[memoryview, int], int], data: memoryview, offset: int) -> None:
    """`write` puts some bytes at an offset, and says how many."""
    rest = data
    try:
        while rest:
            done = write(rest, offset)
            rest, offset = rest[done:], offset + done
    except OSError as error:
        raise StoreError("a merged model cannot be written", found=str(error)) from error


def copy_config_files(source: Path, target: Path, patterns: Sequence[str] = CONFIG_FILES) -> None:
    """Copy config, tokenizer, chat template, custom code and licence of a checkpoint."""
    for pattern in patterns:
        for file in sorted(source.glob(pattern)):
            if file.is_file():
                copy = target / file.relative_to(source)
                copy.parent.mkdir(exist_ok=True)
                shutil.copyfile(file, copy)


def write_untied(directory: Path) -> None:
    """Let config.json of a written checkpoint say that its embeddings are not tied."""
    write_config(directory, {"tie_word_embeddings": False})


def write_config(directory: Path, fields: Mapping[str, Any]) -> None:
    """Set `fields` in a written config.json, and in each part of it those that the part has."""
    file = directory / "config.json"
    config = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    for part in (part for part in config.values() if isinstance(part, dict)):
        part.update({name: value for name, value in fields.items() if name in part})
    text = json.dumps({**config, **fields}, ensure_ascii=False, indent=2)
    file.write_text(text + "\n", encoding="utf-8")
