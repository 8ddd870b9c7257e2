"""The safetensors files of a directory, as one mapping from tensor names to rows.

Model: a directory holds `model.safetensors`, or shards and `model.safetensors.index.json`, which
says which shard holds which tensor; an adapter's files are called `adapter_model`. As in
transformers, the single file comes first where both are there.
Invariant: every tensor is in exactly one file, and an index and its files agree on every name.
An index names files beside itself only; a file beside it may be a symbolic link to anywhere,
because links are made by whoever owns the directory, not by who wrote the index, and because the
hub's cache keeps its files that way. Pickles run code as they are loaded and are never opened.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from raylab.errors import ModelError
from raylab.weights.safetensors_file import MappedFile, Shape

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_SAVE_AGAIN = {
    "model": "AutoModelForCausalLM.from_pretrained(DIR, dtype='auto').save_pretrained(NEW_DIR)",
    "adapter_model": "PeftModel.from_pretrained(BASE_MODEL, DIR).save_pretrained(NEW_DIR)",
}


class SafetensorsFolder:
    """All tensors of the files of `stem` in a directory, mapped."""

    def __init__(self, directory: Path, stem: str = "model") -> None:
        """Map every file. Raises ModelError for what is damaged, missing, doubled or a pickle."""
        paths, index = _weight_files(directory, stem)
        self._files: dict[str, MappedFile] = {}
        for path in paths:
            mapped = MappedFile(path)
            for name in mapped.entries:
                if name in self._files:
                    raise ModelError(f"two files of {directory} hold the tensor {name}")
                self._files[name] = mapped
        if index is not None:
            _check_index(directory, index, self._files)
        entries = {name: file.entries[name] for name, file in self._files.items()}
        self.shapes: Mapping[str, Shape] = {name: e.shape for name, e in entries.items()}
        self.dtypes: Mapping[str, str] = {name: e.dtype for name, e in entries.items()}

    def rows(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Rows [start, stop) as `MappedFile.rows` gives them."""
        return self._files[name].rows(name, start, stop)

    def tensor(self, name: str) -> torch.Tensor:
        """The whole tensor in its shape and the file's dtype, a view where possible."""
        shape = self.shapes[name]
        rows = shape[0] if len(shape) > 1 else 1
        return self.rows(name, 0, rows).reshape(shape)


def read_json(file: Path, expected: str) -> dict[str, Any]:
    """The JSON object in `file`, which a model came with. Raises ModelError."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file} cannot be read", found=str(error), expected=expected) from error
    if not isinstance(found, dict):
        raise ModelError(f"{file} cannot be read", found=type(found).__name__, expected=expected)
    return found


def _weight_files(directory: Path, stem: str) -> tuple[list[Path], dict[str, str] | None]:
    """The files to open, and where there is an index, the file's name by tensor."""
    single = directory / f"{stem}.safetensors"
    if single.is_file():
        return [single], None
    index = directory / f"{stem}.safetensors.index.json"
    if index.is_file():
        weight_map = _weight_map(index)
        return [directory / name for name in sorted(set(weight_map.values()))], weight_map
    pickles = sorted(path.name for kind in _PICKLES for path in directory.glob(kind))
    if pickles:
        raise ModelError(
            f"{directory} holds its weights as pickles, which are not opened",
            found=", ".join(pickles[:5]),
            expected=single.name,
            todo=f"save it again as safetensors, if you trust it: {_SAVE_AGAIN[stem]}",
        )
    others = sorted(path.name for path in directory.glob("*.safetensors"))
    raise ModelError(
        "no weights found",
        found=f"{directory}: {', '.join(others[:5]) or 'no safetensors files'}",
        expected=f"{single.name}, or {index.name} and the files that it names",
    )


def _weight_map(index: Path) -> dict[str, str]:
    expected = "an index with a weight_map from tensors to files"
    weight_map = read_json(index, expected).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelError(f"{index} cannot be read", found="no weight_map", expected=expected)
    for name in weight_map.values():
        if not _is_beside(name):
            raise ModelError(
                f"{index} points outside its directory",
                found=repr(name),
                expected="names of files beside the index",
            )
    return weight_map


def _is_beside(name: Any) -> bool:
    return isinstance(name, str) and "\0" not in name and Path(name).name == name != ".."


def _check_index(
    directory: Path, index: Mapping[str, str], files: Mapping[str, MappedFile]
) -> None:
    """Every tensor of the index is in the file that it says, and no other tensor is there."""
    held = {name: file.name for name, file in files.items()}
    odd = sorted(name for name in held.keys() | index.keys() if held.get(name) != index.get(name))
    if odd:
        raise ModelError(
            f"the index of {directory} and its files do not agree",
            found=f"{', '.join(odd[:5])} ({len(odd)} tensors)",
            expected="every tensor in the file that the index names",
        )
