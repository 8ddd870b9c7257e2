"""The files of a model's weights: which they are, and what their headers say.

Model: as in transformers, the weights are `model.safetensors`, or the files that
`model.safetensors.index.json` names; an adapter's are called `adapter_model`. Other safetensors
files of the folder (a copy in another layout, a trainer's own) are no part of the model.
Invariant: no weight is read, and no name in an index leaves its directory. A tensor without
entries is refused: DeepSpeed ZeRO-3 leaves such where it had not gathered the weights.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from raylab.errors import ModelError

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_SAVE_AGAIN = {
    "model": "AutoModelForCausalLM.from_pretrained(DIR, dtype='auto').save_pretrained(NEW_DIR)",
    "adapter_model": "PeftModel.from_pretrained(BASE_MODEL, DIR).save_pretrained(NEW_DIR)",
    "adapters": "mlx_lm.fuse --model BASE_MODEL --adapter-path DIR --save-path NEW_DIR",
}
_OF_TORCHTUNE = ("adapter_[0-9]*.pt", "adapter_model.pt")
_SAVE_AGAIN_BY_TORCHTUNE = (
    "torchtune's FullModelHFCheckpointer with safe_serialization: True, which writes "
    "adapter_model.safetensors; or torch.load(FILE, weights_only=True), "
    "torchtune.models.convert_weights.tune_to_peft_adapter_weights, safetensors.torch.save_file"
)


def read_json(file: Path, expected: str) -> dict[str, Any]:
    """The JSON object in `file`, which a model came with. Raises ModelError."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file} cannot be read", found=str(error), expected=expected) from error
    if not isinstance(found, dict):
        raise ModelError(f"{file} cannot be read", found=type(found).__name__, expected=expected)
    return found


def weight_files(directory: Path, stem: str) -> tuple[list[Path], dict[str, str] | None]:
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
        is_torchtune = any(path for kind in _OF_TORCHTUNE for path in directory.glob(kind))
        again = _SAVE_AGAIN_BY_TORCHTUNE if is_torchtune else _SAVE_AGAIN[stem]
        raise ModelError(
            f"{directory} holds its weights as pickles, which are not opened",
            found=", ".join(pickles[:5]),
            expected=single.name,
            todo=f"save it again as safetensors, if you trust it: {again}",
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
        is_name = isinstance(name, str) and "\0" not in name and Path(name).name == name != ".."
        if not is_name:
            raise ModelError(
                f"{index} points outside its directory",
                found=repr(name),
                expected="names of files beside the index",
            )
    return weight_map


def tensor_shapes(directory: Path) -> Iterator[tuple[str, tuple[int, ...], int]]:
    """(name, shape, bytes) of every tensor of the model in `directory`, from the headers.

    Raises ModelError.
    """
    stems = [stem for stem in _SAVE_AGAIN if _has_weights(directory, stem)]
    files = weight_files(directory, stems[0])[0] if stems else directory.glob("*.safetensors")
    for file in sorted(files):
        for key, entry in _header(file).items():
            if key != "__metadata__":
                begin, end = entry["data_offsets"]
                yield key, tuple(entry["shape"]), end - begin


def shapes_of(directory: Path) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of the model in `directory`. Raises ModelError."""
    return {name: shape for name, shape, _ in tensor_shapes(directory)}


def _has_weights(directory: Path, stem: str) -> bool:
    ends = ("safetensors", "safetensors.index.json")
    return any((directory / f"{stem}.{end}").is_file() for end in ends)


def refuse_empty(directory: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ModelError where tensors of the model in `directory` have no entries."""
    empty = [name for name in sorted(shapes) if not math.prod(shapes[name])]
    if empty:
        named = ", ".join(f"{name} {shapes[name]}" for name in empty[:5])
        raise ModelError(
            f"{directory} holds tensors without entries",
            found=f"{named} ({len(empty)} of {len(shapes)} tensors)",
            expected="whole weights; DeepSpeed ZeRO-3 leaves such tensors where the weights were "
            "saved before they were gathered",
            todo="set stage3_gather_16bit_weights_on_model_save in the DeepSpeed config and save "
            "again, or put the weights together with zero_to_fp32.py, which DeepSpeed writes "
            "beside its checkpoints",
        )


def _header(file: Path) -> dict[str, Any]:
    header: Any = None
    if not file.is_file():
        raise ModelError(
            "a file of a model's weights is not there",
            found=str(file),
            expected="every file that the index names",
            todo="fetch it again",
        )
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        if 0 < size <= file.stat().st_size - 8:
            with contextlib.suppress(ValueError):  # reported below, with the file's name
                header = json.loads(stream.read(size))
    if not isinstance(header, dict):
        raise ModelError(
            "a file is truncated or no safetensors file",
            found=f"{file}: {file.stat().st_size} bytes, header of {size}",
            expected="a whole safetensors file",
        )
    return header
