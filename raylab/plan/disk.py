"""Disk and memory that a plan takes beyond the base models, from headers alone.

Model: an adapter holds r * (rows + columns) float32 numbers for each linear layer; a merged
parent is as large as its base model, on disk while it has children, and twice in RAM while it
is built. A merge is as large as its base model, and stays.
Invariant: reads safetensors headers, never a weight; a model that is not on this machine is taken
to be in bfloat16 and shaped as published, or is called unknown, never zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from raylab.number_format import size
from raylab.plan.merges import Planned, PlannedMerge
from raylab.plan.model_shapes import shape_of_base
from raylab.plan.trials import Inputs, Trial
from raylab.spec.models import Resolved, weights_shapes
from raylab.spec.study import Study

_FLOAT32, _BFLOAT16 = 4, 2
_NOT_LINEAR = ("embed", "lm_head", "wte", "embed_in", "embed_out")


def disk_lines(study: Study, inputs: Inputs, planned: Sequence[Planned]) -> Iterator[str]:
    """What the plan takes on disk and in memory, a line for each base model."""
    for name in study.base_models:
        here = [item for item in planned if item.base_model == name]
        mine = [item for item in here if isinstance(item, Trial)]
        merges = sum(isinstance(item, PlannedMerge) for item in here)
        found = _sizes(inputs.base_models[name])
        if found is None:
            yield f"{name}: {len(mine)} trials; sizes unknown until it is downloaded"
            continue
        whole, sides = found
        adapters = sum(_FLOAT32 * t.variant.lora.r * sides for t in mine)
        merged = {t.parent for t in mine if t.parent and t.variant.chain == "merge"}
        yield (
            f"{name}: base {size(whole)}, {len(mine)} adapters {size(adapters)}, "
            f"{len(merged)} merged parents at {size(whole)} each in scratch space while in use "
            f"(and {size(2 * whole)} of memory while one is built)"
            + (f", {merges} merges at {size(whole)} each" if merges else "")
        )


def _sizes(base: Resolved) -> tuple[int, int] | None:
    """The base model's bytes, and the rows and columns of all its linear layers."""
    if base.directory is not None:
        tensors = list(weights_shapes(base.directory))
        linear = [s for key, s, _ in tensors if len(s) == 2 and not _is_embedding(key)]
        return sum(entry for _, _, entry in tensors), sum(map(sum, linear))
    shape = shape_of_base(base)
    return (_BFLOAT16 * shape.parameters, shape.adapter_numel(1)) if shape else None


def _is_embedding(key: str) -> bool:
    return any(word in key for word in _NOT_LINEAR)
