"""The resources that a study needs: GPU memory and hours, and disk space.

Model: trials of one base model that need the same memory are one row: their peak memory, and the
longest max_length that fits cards of common sizes, with and without gradient checkpointing. Hours
follow from the number of operations: `FORWARD` for each parameter and token of a forward pass, as
many for the backward pass through frozen weights (which have no gradients), and one more forward
pass with checkpointing. DPO takes two sequences, and one more pass of each for its reference.
Assumptions, which every plan prints: one token per character and `TEMPLATE_TOKENS` for a chat
template, no padding, a card of `PEAK_FLOPS` at `EFFICIENCY`; loading, held-out losses and answers
cost nothing.
On disk, an adapter holds r * (rows + columns) float32 numbers for each linear layer. A merge is as
large as its base model. So is a merged parent, on disk while it has children, and twice as large
in memory while it is built.
Invariant: no weight is read, only the headers of safetensors files. A base model that is neither
on this machine nor in the catalogue is unknown (None), never zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from raylab.number_format import size
from raylab.plan.document import Documented
from raylab.plan.file_shapes import shape_of_base
from raylab.plan.memory import SEQUENCES, Workload, estimate_memory, longest_fit, usable
from raylab.plan.merges import Asked, PlannedMerge
from raylab.plan.model_shapes import Shape, published
from raylab.plan.trials import Inputs, Trial
from raylab.spec.data.rows import Row, characters_of, split, training_sum
from raylab.spec.models import ResolvedModel
from raylab.spec.study import Study
from raylab.spec.weight_files import tensor_shapes

CARDS = (24, 40, 80)
"""The memory of common cards, in GB."""
FORWARD, TEMPLATE_TOKENS = 2, 32
PEAK_FLOPS, EFFICIENCY, CARD = 312e12, 0.3, "an A100"
_PER_HOUR = PEAK_FLOPS * EFFICIENCY * 3600
_FLOAT32, _BFLOAT16 = 4, 2
_NOT_LINEAR = ("embed", "lm_head", "wte", "embed_in", "embed_out")
ASSUMED = (
    "GPU memory is an estimate; its CPU side was held against counted allocations, CUDA's by no "
    "GPU. Beside it 1 GB for CUDA's context and 5 % lost are left free; a length ends at the "
    "model's positions.",
    f"GPU time is an estimate: {CARD} at {EFFICIENCY:.0%} of {PEAK_FLOPS / 1e12:.0f} Tflop/s, "
    f"a token per character and {TEMPLATE_TOKENS} of a template, {FORWARD} flop per parameter and "
    "token forward and as many back, once more forward with checkpointing; no GPU has checked it.",
)


@dataclass(frozen=True)
class GpuDemand(Documented):
    """One row: equal trials of a base model; values are None if its shape is unknown.

    memory, static: bytes, at the peak and throughout the training. fits: the longest max_length by
    GB of a card, without (`plain`) and with `checkpointing`. hours: GPU-hours of all trials.
    """

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
    is_here: bool = False
    """Whether the base model is on this machine."""


def gpu_demands(study: Study, inputs: Inputs, trials: Sequence[Trial]) -> list[GpuDemand]:
    """A row for each base model and method, and for each setting that changes the memory."""
    groups: dict[tuple[Any, ...], list[Trial]] = {}
    for trial in trials:
        groups.setdefault(_memory_settings(trial), []).append(trial)
    shapes = {name: shape_of_base(found) for name, found in inputs.base_models.items()}
    operations = trial_operations(study, inputs, trials)
    rows = []
    for group in groups.values():
        first = group[0]
        base_model, training = first.base_model, first.variant.training
        row = GpuDemand(
            base_model=base_model,
            method=first.variant.method,
            trials=len(group),
            max_length=training.max_length,
            checkpointing=training.gradient_checkpointing,
            is_here=inputs.base_models[base_model].directory is not None,
        )
        if shape := shapes[base_model]:
            workload = workload_of(study, first, shape)
            memory = estimate_memory(workload)
            known = published().get(inputs.base_models[base_model].source, {})
            row = replace(
                row,
                parameters=shape.parameters,
                memory=memory.peak,
                static=memory.static,
                phase=memory.phase,
                fits=_longest_fits(workload),
                hours=sum(operations[trial.name] or 0 for trial in group) / _PER_HOUR,
                unverified=known.get("unverified", ""),
            )
        rows.append(row)
    return rows


def workload_of(study: Study, trial: Trial, shape: Shape) -> Workload:
    """The settings of a trial that determine its GPU memory."""
    variant = trial.variant
    return Workload(
        shape=shape,
        method=variant.method,
        quantization=study.quantization,
        lora=variant.lora,
        training=variant.training,
        evaluation=study.evaluation,
        parents=_frozen_parents(trial),
    )


def too_large(study: Study, inputs: Inputs, trials: Sequence[Trial], card: int) -> Iterator[str]:
    """A warning for each base model and method whose trials do not fit a GPU of `card` bytes."""
    available = usable(card) * min(1.0, study.resources.gpus)
    for row in gpu_demands(study, inputs, trials):
        if row.memory is not None and row.memory > available:
            # Only a warning: if memory runs out, the micro-batch is halved.
            yield (
                f"warning: {row.base_model}, {row.method}: about {size(row.memory)} at its peak "
                f"({row.phase}), and a GPU here leaves {size(available)}: lower max_length "
                f"({row.max_length}) or batch_size, or set gradient_checkpointing"
            )


def _memory_settings(trial: Trial) -> tuple[Any, ...]:
    training, lora = trial.variant.training, trial.variant.lora
    return (
        trial.base_model,
        trial.variant.method,
        training.max_length,
        training.gradient_checkpointing,
        training.batch_size,
        lora.r,
        lora.target_modules,
        _frozen_parents(trial),
    )


def _frozen_parents(trial: Trial) -> int:
    """The number of adapters that are loaded beside the trained one."""
    return len(trial.lineage) if trial.variant.chain == "stack" else 0


def _longest_fits(workload: Workload) -> dict[str, dict[str, int | None]]:
    """The longest max_length by GB of a card, without and with gradient checkpointing."""
    found: dict[str, dict[str, int | None]] = {}
    for name, checkpointing in (("plain", False), ("checkpointing", True)):
        training = workload.training.model_copy(update={"gradient_checkpointing": checkpointing})
        changed = replace(workload, training=training)
        found[name] = {str(card): longest_fit(changed, card * 1e9) for card in CARDS}
    return found


def _count_tokens(rows: Sequence[Row], held_out: float) -> float:
    """The tokens of all training examples, if every character is a token."""
    examples = len(split(rows, held_out)[0])
    return training_sum(rows, held_out, characters_of) + TEMPLATE_TOKENS * examples


def trial_operations(
    study: Study, inputs: Inputs, trials: Sequence[Trial]
) -> dict[str, float | None]:
    """The flop of each trial by its name; None where the shape of its base model is unknown."""
    shapes = {name: shape_of_base(found) for name, found in inputs.base_models.items()}
    tokens = {name: _count_tokens(rows, study.held_out) for name, rows in inputs.rows.items()}
    return {
        trial.name: _operations(shape, trial, tokens) if shape else None
        for trial in trials
        for shape in (shapes[trial.base_model],)
    }


def _operations(shape: Shape, trial: Trial, tokens: Mapping[str, float]) -> float:
    variant = trial.variant
    count = fmean(tokens[name] for name in variant.data_sets.values()) * SEQUENCES[variant.method]
    passes_per_epoch = 3 if variant.training.gradient_checkpointing else 2
    passes = passes_per_epoch * variant.training.epochs + (1 if variant.method == "dpo" else 0)
    return FORWARD * shape.active * count * passes


def disk_lines(study: Study, inputs: Inputs, planned: Sequence[Asked]) -> Iterator[str]:
    """The disk space and memory that the plan needs, as a line for each base model."""
    for name in study.base_models:
        items = [item for item in planned if item.base_model == name]
        trials = [item for item in items if isinstance(item, Trial)]
        merges = sum(isinstance(item, PlannedMerge) and not item.is_adapter for item in items)
        sizes = _base_sizes(inputs.base_models[name])
        if sizes is None:
            yield f"{name}: {len(trials)} trials; sizes unknown until it is downloaded"
            continue
        whole, sides = sizes
        adapters = sum(_FLOAT32 * trial.variant.lora.r * sides for trial in trials)
        small = [item for item in items if isinstance(item, PlannedMerge) and item.is_adapter]
        ranks = sum(_rank_of(item, planned) for item in small)
        merged = {t.parent for t in trials if t.parent and t.variant.chain == "merge"}
        yield (
            f"{name}: base {size(whole)}, {len(trials)} adapters {size(adapters)}, "
            f"{len(merged)} merged parents at {size(whole)} each in scratch space while in use "
            f"(and {size(2 * whole)} of memory while one is built)"
            + (f", {merges} merges at {size(whole)} each" if merges else "")
            + (f", {len(small)} merged adapters {size(_FLOAT32 * ranks * sides)}" if small else "")
        )


def _rank_of(merge: PlannedMerge, planned: Sequence[Asked]) -> int:
    """The rank of a merge that is an adapter: the one that is asked for, else the sum of the ranks
    of the trials that it is made of. Of finished adapters and of an energy nothing is known."""
    asked = merge.request.output
    if asked and asked.rank:
        return asked.rank
    trials = {item.name: item for item in planned if isinstance(item, Trial)}
    found = [trials[item.model] for item in merge.request.inputs if item.model in trials]
    return sum(trials[n].variant.lora.r for one in found for n in (*one.lineage, one.name))


def _base_sizes(base: ResolvedModel) -> tuple[int, int] | None:
    """The bytes of the base model, and the sum of rows and columns of all its linear layers.

    A model that is not on this machine is assumed to be stored in bfloat16.
    """
    if base.directory is None:
        shape = shape_of_base(base)
        return (_BFLOAT16 * shape.parameters, shape.adapter_numel(1)) if shape else None
    tensors = list(tensor_shapes(base.directory))
    whole = sum(size_in_bytes for _, _, size_in_bytes in tensors)
    found = shape_of_base(base)
    if found and found.counted:
        return whole, found.adapter_numel(1)
    sides = sum(
        sum(shape)
        for name, shape, _ in tensors
        if len(shape) == 2 and not any(word in name for word in _NOT_LINEAR)
    )
    return whole, sides
