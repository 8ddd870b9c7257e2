"""A quantised checkpoint as one in full precision, by the libraries that wrote it.

Model: transformers loads the model on the CPU and takes the quantisation back, and the copy is
written with `save_pretrained` into this node's scratch space, under a name that follows from the
content of the files and the versions of the libraries. It is made once, and then found.
Invariant: a copy is complete, and every weight of it comes from the files: a model for which
transformers would draw a weight at random is refused. Values are the codes times their scales,
rounded to the dtype of the model. The whole model is in memory while its copy is made.

Two faults of libraries are gone round. transformers 5.23 takes the size of fp8 blocks to be the
weight's over the number of scales, which is wrong where the last block is a part of one: such a
weight is computed from its codes and scales. bitsandbytes 0.50.2 dequantises a matrix in 4 bits
with wrong scales on CPUs with AVX512 where its width is a multiple of 16 and not of 64, and
transformers' `dequantize` does so: here a 4-bit layer is dequantised as a flat run of blocks.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import safe_open

from raylab.errors import ModelError
from raylab.spec.models import content_of
from raylab.spec.quantized import METHODS, method_of, quantization_of, way_out
from raylab.spec.weight_files import read_json, weight_files
from raylab.store.filesystem import scratch_space
from raylab.store.references import ModelLocation
from raylab.weights.atomic_directory import atomic_directory
from raylab.weights.checkpoint_writer import TOKENIZER_FILES, copy_config_files
from raylab.weights.memory_names import AUTO_CLASSES

RECORD = "dequantized.json"
_LIBRARIES = ("torch", "transformers", "bitsandbytes")
_OF_ACTIVATIONS = re.compile(
    r"\.((input|output|activation|[kqv])_(scale|zero_point|global_scale)|activation_scale_inv)$"
)
"""Scales by which a layer's inputs or outputs are quantised while it runs; no weight needs them."""


def in_full_precision(location: ModelLocation) -> ModelLocation:
    """The location with a dequantised copy in the place of each quantised checkpoint.

    Raises ModelError where the installed packages cannot make it, OutError and StoreError.
    """
    own, base = location.checkpoint, location.base
    return replace(
        location,
        checkpoint=dequantized(own) if own else None,
        base=dequantized(base) if base else None,
    )


def dequantized(directory: Path) -> Path:
    """The directory of a checkpoint in full precision: `directory` itself, or its copy.

    Raises ModelError, OutError and StoreError.
    """
    file = directory / "config.json"
    settings = quantization_of(read_json(file, "a model's config")) if file.is_file() else None
    if settings is None:
        return directory
    row = METHODS.get(method_of(settings))
    if row is None or row.missing:
        raise ModelError(
            f"{directory} cannot be dequantised here",
            found=f"a model quantised by {method_of(settings)}",
            expected=", ".join(METHODS),
            todo=way_out(settings),
        )
    versions = {name: version(name) for name in _LIBRARIES}
    identity = json.dumps([content_of(directory), versions])
    name = f"{directory.resolve().name}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    target = scratch_space() / "dequantized" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if not target.is_dir():
            _write(directory, settings, target, versions)
    return target


def _write(
    directory: Path, settings: Mapping[str, Any], target: Path, versions: Mapping[str, str]
) -> None:
    """Make the copy at `target`."""
    method = method_of(settings)
    model = _loaded(directory, METHODS[method].config)
    if method == "fp8":
        for name, weight in _with_parts_of_blocks(directory, settings):
            parameter = model.get_parameter(name)
            parameter.data = weight.to(parameter.dtype)
    if METHODS[method].undone == "layer by layer":
        exact = _in_four_bits(model)
        model = model.dequantize(dtype=model.dtype)
        for name, weight in exact.items():
            model.get_submodule(name).weight = torch.nn.Parameter(weight, requires_grad=False)
    # transformers cannot turn its conversions of quantised tensors round; those of the
    # architecture it finds again by itself.
    if hasattr(model, "_weight_conversions"):
        del model._weight_conversions
    with atomic_directory(target) as part:
        model.save_pretrained(part)
        copy_config_files(directory, part, TOKENIZER_FILES)
        record = {"source": str(directory.resolve()), "method": method, "versions": dict(versions)}
        (part / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _loaded(directory: Path, config_class: str) -> Any:
    """The model at `directory` on the CPU, dequantised where its method does that at loading."""
    import transformers

    options: dict[str, Any] = {"dtype": "auto", "device_map": "cpu", "local_files_only": True}
    if config_class:
        options["quantization_config"] = getattr(transformers, config_class)(dequantize=True)
    problem = ""
    for name in AUTO_CLASSES:
        try:
            model, loading = getattr(transformers, name).from_pretrained(
                directory, output_loading_info=True, trust_remote_code=False, **options
            )
        except Exception as error:  # Code of many authors runs here, and fails in any way.
            problem = problem or (str(error).strip().splitlines() or [type(error).__name__])[0]
            continue
        _refuse_incomplete(directory, loading)
        return model
    raise ModelError(
        f"{directory} cannot be dequantised here",
        found=problem,
        expected="a model that the installed transformers loads on a CPU",
        todo="take the model that it was made from",
    )


def _refuse_incomplete(directory: Path, loading: Mapping[str, Any]) -> None:
    lacking = {
        "not in the files": loading.get("missing_keys"),
        "of another shape": loading.get("mismatched_keys"),
        "with no place in the model": [
            name
            for name in loading.get("unexpected_keys") or ()
            if not _OF_ACTIVATIONS.search(name)
        ],
    }
    told = [
        f"{len(names)} {why}: {', '.join(sorted(map(str, names))[:3])}"
        for why, names in lacking.items()
        if names
    ]
    if told:
        raise ModelError(
            f"{directory} does not load as a whole",
            found="; ".join(told),
            expected="every weight of the model from its files, and no other",
            todo="take the model that it was made from",
        )


def _with_parts_of_blocks(
    directory: Path, settings: Mapping[str, Any]
) -> Iterator[tuple[str, torch.Tensor]]:
    """The weights in fp8 whose last block is not whole, float32: codes times scales."""
    block = settings.get("weight_block_size")
    if not block:
        return
    with ExitStack() as stack:
        paths, _ = weight_files(directory, "model")
        files = [stack.enter_context(safe_open(path, framework="pt")) for path in paths]
        places = {name: file for file in files for name in file.keys()}  # noqa: SIM118
        for name in (name for name in places if f"{name}_scale_inv" in places):
            weight = places[name].get_tensor(name)
            scales = places[f"{name}_scale_inv"].get_tensor(f"{name}_scale_inv").float()
            if _has_part_of_block(weight.shape, scales.shape, block):
                tall = scales.repeat_interleave(block[0], 0)[: weight.shape[0]]
                yield (
                    name,
                    weight.float() * tall.repeat_interleave(block[1], 1)[:, : weight.shape[1]],
                )


def _has_part_of_block(shape: Sequence[int], grid: Sequence[int], block: Sequence[int]) -> bool:
    """Whether a matrix has several blocks along an axis, of which the last is not whole."""
    sizes = list(zip(shape, grid, block, strict=False))
    is_blocked = len(shape) == 2 and all(g == -(-n // b) for n, g, b in sizes)
    return is_blocked and any(g > 1 and n % b for n, g, b in sizes)


def _in_four_bits(model: Any) -> dict[str, torch.Tensor]:
    """The weight of every 4-bit layer by the name of its module, in the model's dtype."""
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit

    found = {}
    for name, module in model.named_modules():
        if isinstance(module, Linear4bit):
            state = copy.copy(module.weight.quant_state)
            shape, state.shape = state.shape, torch.Size([state.shape.numel()])
            flat = dequantize_4bit(module.weight.data, state)
            found[name] = flat.reshape(shape).to(model.dtype)
    return found
