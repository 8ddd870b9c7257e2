"""How much GPU memory a trial takes at its peak, before any of it is spent.

Model: what is there throughout (weights in 4 bits with the constants of their blocks, all that is
not quantised in the compute dtype, adapters, and once training has begun gradients and Adam's two
moments in float32) and, beside it, the largest of what happens one after the other: DPO's reference
scores `REFERENCE_BATCH` answers, training steps, the held-out loss, answers to questions. DPO
trains on twice the batch: chosen and rejected. The reference is the same model, its adapter off.
Not counted: CUDA's own context, and what its allocator cannot use; `usable` leaves room for them.
Invariant: with CPU kernels the static parts are within 1 %, and the peaks of training, reference
and held-out loss within 15 %, of allocations counted on a CPU; that of answers is rougher. No GPU
has checked the peaks with CUDA kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from raylab.plan.activation_memory import (
    FLOAT32,
    KERNELS,
    Kernels,
    Pass,
    answering_bytes,
    scoring_bytes,
    training_bytes,
)
from raylab.plan.model_shapes import Shape
from raylab.spec.study import Evaluation, Lora, Method, Quantization, Training
from raylab.store.records import Attempt

WIDTHS = {"float32": 4, "bfloat16": 2, "float16": 2}
SEQUENCES = {"sft": 1, "dpo": 2}
"""Sequences of one example."""
REFERENCE_BATCH, EVALUATION_BATCH, ANSWERS_BATCH = 8, 8, 16
"""As in `raylab.train`: answers that the reference scores at once, examples of a held-out batch at
the least, questions asked at once."""
_BLOCK, _NESTED_BLOCK = 64, 256
_CONTEXT, _LOST = 10**9, 0.05
_STEP = 64


@dataclass(frozen=True)
class Workload:
    """All that decides how much memory a trial takes. `parents` are frozen beside its adapter."""

    shape: Shape
    method: Method
    quantization: Quantization
    lora: Lora
    training: Training
    evaluation: Evaluation
    parents: int = 0

    @property
    def sequences(self) -> int:
        """Sequences of one training step."""
        return self.training.batch_size * SEQUENCES[self.method]


@dataclass(frozen=True)
class Memory:
    """Bytes by what they are for. Those from `weights` to `optimizer` are there throughout."""

    weights: int
    constants: int
    unquantised: int
    adapters: int
    gradients: int
    optimizer: int
    phases: dict[str, int]

    @property
    def static(self) -> int:
        """What is there while training, without activations."""
        held = self.weights + self.constants + self.unquantised
        return held + self.adapters + self.gradients + self.optimizer

    @property
    def peak(self) -> int:
        """The most that is there at once."""
        return max(self._base + needed for needed in self.phases.values())

    @property
    def phase(self) -> str:
        """What is going on at the peak."""
        return max(self.phases, key=self.phases.__getitem__)

    @property
    def _base(self) -> int:
        return self.weights + self.constants + self.unquantised + self.adapters


def estimate_memory(need: Workload, kernels: Kernels = KERNELS["cuda"]) -> Memory:
    """The memory of one trial, its phases with what is theirs of gradients and optimizer."""
    width = WIDTHS[need.quantization.compute_dtype]
    adapter = FLOAT32 * _adapter(need)
    weights, constants = _quantised(need, width)
    return Memory(
        weights=weights,
        constants=constants,
        unquantised=need.shape.other_numel * width,
        adapters=adapter * (1 + need.parents),
        gradients=adapter,
        optimizer=2 * adapter,
        phases=_phases(need, adapter, kernels),
    )


def _adapter(need: Workload) -> int:
    targets = need.lora.target_modules
    return need.shape.adapter_numel(need.lora.r, None if targets == "all-linear" else targets)


def _quantised(need: Workload, width: int) -> tuple[int, int]:
    """The bytes of all linear layers, and of what turns them back."""
    if need.quantization.bits == 16:
        return need.shape.linear_numel * width, 0
    weights = constants = 0
    for linear in need.shape.linears:
        blocks = -(-linear.numel // _BLOCK)
        weights += -(-linear.numel // 2)
        nested = blocks + FLOAT32 * -(-blocks // _NESTED_BLOCK)
        constants += nested if need.quantization.double else FLOAT32 * blocks
    return need.shape.layers * weights, need.shape.layers * constants


def _phases(need: Workload, adapter: int, kernels: Kernels) -> dict[str, int]:
    training, asked = need.training, need.evaluation
    width = WIDTHS[need.quantization.compute_dtype]
    step = Pass(
        need.shape, need.sequences, training.max_length, width, r=need.lora.r, kernels=kernels
    )
    steps = training_bytes(step, checkpointing=training.gradient_checkpointing)
    held_out = max(EVALUATION_BATCH, training.batch_size) * SEQUENCES[need.method]
    phases = {
        "training": 3 * adapter + steps,
        "held-out loss": 2 * adapter
        + scoring_bytes(replace(step, sequences=held_out), adapted=True),
    }
    if need.method == "dpo":
        phases["reference"] = scoring_bytes(replace(step, sequences=REFERENCE_BATCH), adapted=False)
    if asked.prompts:
        # A prompt is taken to be half of the longest example.
        sequences = min(ANSWERS_BATCH, asked.prompts)
        prompts = replace(step, sequences=sequences, length=training.max_length // 2)
        phases["answers"] = 2 * adapter + answering_bytes(prompts, asked.max_new_tokens)
    return phases


def usable(memory: float) -> float:
    """What a trial may take of a GPU of `memory` bytes: 1 GB for CUDA's context and 5 % lost."""
    return (memory - _CONTEXT) * (1 - _LOST)


def longest_fit(need: Workload, memory: float, kernels: Kernels = KERNELS["cuda"]) -> int | None:
    """The largest max_length, in steps of 64, that fits a GPU; None where not even 64 does.

    It ends at the positions that the model knows.
    """

    def fits(length: int) -> bool:
        training = need.training.model_copy(update={"max_length": length})
        return estimate_memory(replace(need, training=training), kernels).peak <= usable(memory)

    low, high = 0, need.shape.positions // _STEP
    while low < high:
        middle = -(-(low + high) // 2)
        low, high = (middle, high) if fits(middle * _STEP) else (low, middle - 1)
    return low * _STEP or None


def micro_batches(training: Training) -> list[int]:
    """The sizes to try, the largest first: 8, 4, 2, 1."""
    examples = training.batch_size * training.gradient_accumulation
    found = [training.batch_size]
    while found[-1] > 1:
        size = found[-1] // 2
        while examples % size:
            size -= 1
        found.append(size)
    return found


def micro_batch(training: Training, attempts: Sequence[Attempt]) -> int:
    """The size for the attempt that follows `attempts`."""
    sizes = micro_batches(training)
    return sizes[min(_shortages(attempts), len(sizes) - 1)]


def can_shrink(training: Training, attempts: Sequence[Attempt]) -> bool:
    """Whether the attempt that follows `attempts` may be followed by a smaller one."""
    return _shortages(attempts) < len(micro_batches(training)) - 1


def with_micro_batch(training: Training, size: int) -> Training:
    """The same update in batches of `size`."""
    examples = training.batch_size * training.gradient_accumulation
    assert examples % size == 0, "a micro-batch divides the examples of an update"
    changes = {"batch_size": size, "gradient_accumulation": examples // size}
    return training.model_copy(update=changes)


def _shortages(attempts: Sequence[Attempt]) -> int:
    """How often memory ran out since the trial last began."""
    count = 0
    for attempt in reversed(attempts):
        if attempt.final:
            break
        count += attempt.cause == "oom"
    return count
