"""What a study asks of GPUs: memory and hours, for each base model and method.

Model: trials of one base model that need as much memory as each other are one row: peak as the
study says, and the longest max_length that fits cards of common sizes, with and without gradient
checkpointing. Hours follow from work: `FORWARD` operations for each parameter and token of a
forward pass, as many to go back through frozen weights (their own gradients are not taken), and
one forward pass more with checkpointing; DPO takes two sequences, and each once for its reference.
Assumed, and said so in every plan: a token for every character and `TEMPLATE_TOKENS` of a chat
template, no padding, and a card of `PEAK_FLOPS` that is used to `EFFICIENCY`; loading, held-out
losses and answers cost nothing.
Invariant: a base model that is neither here nor in the catalogue has a row of unknowns, never zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from raylab.number_format import size
from raylab.plan.memory import SEQUENCES, Workload, estimate_memory, longest_fit, usable
from raylab.plan.merges import Planned, PlannedMerge
from raylab.plan.model_shapes import Shape, published, shape_of_base
from raylab.plan.trials import Inputs, Trial
from raylab.spec.data.rows import Row, is_held_out
from raylab.spec.models import ResolvedModel, tensor_shapes
from raylab.spec.study import Study

CARDS = (24, 40, 80)
"""GB of memory of common cards."""
FORWARD, TEMPLATE_TOKENS = 2, 32
PEAK_FLOPS, EFFICIENCY, CARD = 312e12, 0.3, "an A100"
ASSUMED = (
    "GPU memory is an estimate; its CPU side was held against counted allocations, CUDA's by no "
    "GPU. Beside it 1 GB for CUDA's context and 5 % lost are left free; a length ends at the "
    "model's positions.",
    f"GPU-hours are an estimate: {CARD} at {EFFICIENCY:.0%} of {PEAK_FLOPS / 1e12:.0f} Tflop/s, "
    f"a token per character and {TEMPLATE_TOKENS} of a template, {FORWARD} flop per parameter and "
    "token forward and as many back, once more forward with checkpointing; no GPU has checked it.",
)


@dataclass(frozen=True)
class GpuDemand:
    """One row: trials of a base model that need the same; None where the shape is unknown."""

    base_model: str
    method: str
    trials: int
    max_length: int
    checkpointing: bool
    parameters: int | None = None
    memory: int | None = None
    static: int | None = None
    phase: str | None = None
    fits: Mapping[str, Mapping[str, int | None]] = field(default_factory=dict)
    hours: float | None = None
    unverified: str = ""

    @property
    def document(self) -> dict[str, Any]:
        """The row as plain values."""
        return dict(vars(self))


def gpu_demands(study: Study, inputs: Inputs, trials: Sequence[Trial]) -> list[GpuDemand]:
    """A row for each base model and method, and for each setting that needs other memory."""
    groups: dict[tuple[Any, ...], list[Trial]] = {}
    for trial in trials:
        key = (trial.base_model, trial.variant.method, *_settings(trial))
        groups.setdefault(key, []).append(trial)
    shapes = {name: shape_of_base(found) for name, found in inputs.base_models.items()}
    tokens = {name: _tokens(rows, study.held_out) for name, rows in inputs.rows.items()}
    return [
        _demand(study, inputs, group, shapes[group[0].base_model], tokens)
        for group in groups.values()
    ]


def workload_of(study: Study, trial: Trial, shape: Shape) -> Workload:
    """What one trial asks of its GPU."""
    variant = trial.variant
    return Workload(
        shape=shape,
        method=variant.method,
        quantization=study.quantization,
        lora=variant.lora,
        training=variant.training,
        evaluation=study.evaluation,
        parents=_parents(trial),
    )


def too_large(study: Study, inputs: Inputs, trials: Sequence[Trial], card: int) -> Iterator[str]:
    """A warning for each base model and method whose trials will not fit a GPU of `card` bytes."""
    room = usable(card) * min(1.0, study.resources.gpus)
    for row in gpu_demands(study, inputs, trials):
        if row.memory is not None and row.memory > room:
            # The batch is halved when memory runs out, so this is no reason to stop.
            yield (
                f"warning: {row.base_model}, {row.method}: about {size(row.memory)} at its peak "
                f"({row.phase}), and a GPU here leaves {size(room)}: lower max_length "
                f"({row.max_length}) or batch_size, or set gradient_checkpointing"
            )


def _settings(trial: Trial) -> tuple[Any, ...]:
    """What decides memory, besides base model and method."""
    training, lora = trial.variant.training, trial.variant.lora
    length, checkpointing = training.max_length, training.gradient_checkpointing
    return length, checkpointing, training.batch_size, lora.r, lora.target_modules, _parents(trial)


def _parents(trial: Trial) -> int:
    return len(trial.lineage) if trial.variant.chain == "stack" else 0


def _demand(
    study: Study,
    inputs: Inputs,
    group: Sequence[Trial],
    shape: Shape | None,
    tokens: Mapping[str, float],
) -> GpuDemand:
    first = group[0]
    training = first.variant.training
    row = GpuDemand(
        base_model=first.base_model,
        method=first.variant.method,
        trials=len(group),
        max_length=training.max_length,
        checkpointing=training.gradient_checkpointing,
    )
    if shape is None:
        return row
    need = workload_of(study, first, shape)
    memory = estimate_memory(need)
    known = published().get(inputs.base_models[first.base_model].source, {})
    return replace(
        row,
        parameters=shape.parameters,
        memory=memory.peak,
        static=memory.static,
        phase=memory.phase,
        fits=_fits(need),
        hours=sum(_hours(shape, trial, tokens) for trial in group),
        unverified=known.get("unverified", ""),
    )


def _fits(need: Workload) -> dict[str, dict[str, int | None]]:
    """The longest max_length by GB of a card, without and with gradient checkpointing."""
    found: dict[str, dict[str, int | None]] = {}
    for name, checkpointing in (("plain", False), ("checkpointing", True)):
        training = need.training.model_copy(update={"gradient_checkpointing": checkpointing})
        asked = replace(need, training=training)
        found[name] = {str(card): longest_fit(asked, card * 1e9) for card in CARDS}
    return found


def _tokens(rows: Sequence[Row], held_out: float) -> float:
    """The tokens of all examples that are trained on, taken for one in each character."""
    return sum(
        len(row.prompt) + len(row.completion) + TEMPLATE_TOKENS
        for row in rows
        if not is_held_out(row.prompt, held_out)
    )


def _hours(shape: Shape, trial: Trial, tokens: Mapping[str, float]) -> float:
    variant = trial.variant
    sides = fmean(tokens[name] for name in variant.data_sets.values()) * SEQUENCES[variant.method]
    passes = 3 if variant.training.gradient_checkpointing else 2
    whole = passes * variant.training.epochs + (1 if variant.method == "dpo" else 0)
    return FORWARD * shape.parameters * sides * whole / (PEAK_FLOPS * EFFICIENCY) / 3600


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


def _sizes(base: ResolvedModel) -> tuple[int, int] | None:
    """The base model's bytes, and the rows and columns of all its linear layers."""
    if base.directory is not None:
        tensors = list(tensor_shapes(base.directory))
        linear = [s for key, s, _ in tensors if len(s) == 2 and not _is_embedding(key)]
        return sum(entry for _, _, entry in tensors), sum(map(sum, linear))
    shape = shape_of_base(base)
    return (_BFLOAT16 * shape.parameters, shape.adapter_numel(1)) if shape else None


def _is_embedding(key: str) -> bool:
    return any(word in key for word in _NOT_LINEAR)
