"""The GPU memory of a trial at its peak, and the micro-batches to use if memory runs out.

Model: some memory is used throughout: the weights (in 4 bits, with the constants of their
blocks), whatever is not quantised in the compute dtype, the adapters, and once training has begun
the gradients and Adam's two moments in float32. Beside it is the largest of the phases that
follow each other: DPO's reference scores `REFERENCE_BATCH` answers, training steps, the held-out
loss, answers to prompts. DPO trains on twice the batch, chosen and rejected; its reference is the
same model without the adapter. CUDA's context and unusable memory of its allocator are not
counted; `usable` leaves room for them.
An update is computed over batch_size * gradient_accumulation examples. After an attempt that ran
out of memory, the micro-batch is halved and more of them are accumulated, down to one example. A
trial that has ended and begins again starts with the batch size of the study.
Invariant: with CPU kernels the static parts are within 1 %, and the peaks of training, reference
and held-out loss within 15 %, of allocations counted on a CPU; the peak of answers is less exact.
The peaks with CUDA kernels are not checked on a GPU. Every micro-batch divides the examples of an
update; it is no part of a trial's identity, but it changes the bits of the result.
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

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
SEQUENCES = {"sft": 1, "dpo": 2}
"""Sequences of one example."""
REFERENCE_BATCH, EVALUATION_BATCH, ANSWERS_BATCH = 8, 8, 16
"""Batch sizes of `raylab.train`: answers that the reference scores, examples of a held-out batch
(at least), prompts that are answered."""
_QUANTISED_BLOCK, _NESTED_BLOCK = 64, 256
_CUDA_CONTEXT_BYTES, _UNUSABLE_SHARE = 10**9, 0.05
_LENGTH_STEP = 64


@dataclass(frozen=True)
class Workload:
    """The settings of a trial that determine its memory. parents: the number of frozen adapters."""

    shape: Shape
    method: Method
    quantization: Quantization
    lora: Lora
    training: Training
    evaluation: Evaluation
    parents: int = 0

    @property
    def sequences(self) -> int:
        """The sequences of one training step."""
        return self.training.batch_size * SEQUENCES[self.method]


@dataclass(frozen=True)
class Memory:
    """Bytes by their use. Those from `weights` to `optimizer` are used throughout the training.

    phases: bytes beside the weights and adapters, by the name of the phase.
    """

    weights: int
    constants: int
    unquantised: int
    adapters: int
    gradients: int
    optimizer: int
    phases: dict[str, int]

    @property
    def model(self) -> int:
        """The memory of the model itself."""
        return self.weights + self.constants + self.unquantised + self.adapters

    @property
    def static(self) -> int:
        """The memory during training without activations."""
        return self.model + self.gradients + self.optimizer

    @property
    def peak(self) -> int:
        """The largest memory in use at once."""
        return self.model + max(self.phases.values())

    @property
    def phase(self) -> str:
        """The phase at the peak."""
        return max(self.phases, key=self.phases.__getitem__)


def estimate_memory(workload: Workload, kernels: Kernels = KERNELS["cuda"]) -> Memory:
    """The memory of one trial; each phase includes its gradients and optimizer states."""
    shape, lora = workload.shape, workload.lora
    width = DTYPE_BYTES[workload.quantization.compute_dtype]
    targets = None if lora.target_modules == "all-linear" else lora.target_modules
    adapter = FLOAT32 * shape.adapter_numel(lora.r, targets)
    weights, constants = _linear_layer_bytes(workload, width)
    return Memory(
        weights=weights,
        constants=constants,
        unquantised=shape.other_numel * width,
        adapters=adapter * (1 + workload.parents),
        gradients=adapter,
        optimizer=2 * adapter,
        phases=_phases(workload, adapter, width, kernels),
    )


def _linear_layer_bytes(workload: Workload, width: int) -> tuple[int, int]:
    """The bytes of the weights of all linear layers, and of the constants that dequantise them."""
    shape, quantization = workload.shape, workload.quantization
    if quantization.bits == 16:
        return shape.linear_numel * width, 0
    weights = constants = 0
    for linear, times in shape.every_linear:
        blocks = -(-linear.numel // _QUANTISED_BLOCK)
        weights += times * -(-linear.numel // 2)
        nested = blocks + FLOAT32 * -(-blocks // _NESTED_BLOCK)
        constants += times * (nested if quantization.double else FLOAT32 * blocks)
    return weights, constants


def _phases(workload: Workload, adapter: int, width: int, kernels: Kernels) -> dict[str, int]:
    training, evaluation = workload.training, workload.evaluation
    step = Pass(
        workload.shape,
        workload.sequences,
        training.max_length,
        width,
        r=workload.lora.r,
        kernels=kernels,
    )
    steps = training_bytes(step, checkpointing=training.gradient_checkpointing)
    held_out = max(EVALUATION_BATCH, training.batch_size) * SEQUENCES[workload.method]
    phases = {
        "training": 3 * adapter + steps,
        "held-out loss": 2 * adapter
        + scoring_bytes(replace(step, sequences=held_out), adapted=True),
    }
    if workload.method == "dpo":
        phases["reference"] = scoring_bytes(replace(step, sequences=REFERENCE_BATCH), adapted=False)
    if evaluation.prompts:
        # A prompt is assumed to be half as long as the longest example.
        sequences = min(ANSWERS_BATCH, evaluation.prompts)
        prompts = replace(step, sequences=sequences, length=training.max_length // 2)
        phases["answers"] = 2 * adapter + answering_bytes(prompts, evaluation.max_new_tokens)
    return phases


def usable(memory: float) -> float:
    """The usable part of a GPU's memory: without CUDA's context (1 GB) and 5 %, in bytes."""
    return (memory - _CUDA_CONTEXT_BYTES) * (1 - _UNUSABLE_SHARE)


def longest_fit(
    workload: Workload, memory: float, kernels: Kernels = KERNELS["cuda"]
) -> int | None:
    """The largest max_length, in steps of 64, that fits a GPU of `memory` bytes.

    None if not even 64 fits. The length is at most the number of positions of the model.
    """

    def fits(length: int) -> bool:
        training = workload.training.model_copy(update={"max_length": length})
        found = estimate_memory(replace(workload, training=training), kernels)
        return found.peak <= usable(memory)

    low, high = 0, workload.shape.positions // _LENGTH_STEP
    while low < high:
        middle = -(-(low + high) // 2)
        low, high = (middle, high) if fits(middle * _LENGTH_STEP) else (low, middle - 1)
    return low * _LENGTH_STEP or None


def micro_batches(training: Training) -> list[int]:
    """The micro-batch sizes of a training, the largest first: 8, 4, 2, 1."""
    examples = training.batch_size * training.gradient_accumulation
    sizes = [training.batch_size]
    while sizes[-1] > 1:
        size = sizes[-1] // 2
        while examples % size:
            size -= 1
        sizes.append(size)
    return sizes


def micro_batch(training: Training, attempts: Sequence[Attempt]) -> int:
    """The micro-batch size of the attempt that follows `attempts`."""
    sizes = micro_batches(training)
    return sizes[min(_out_of_memory_count(attempts), len(sizes) - 1)]


def can_shrink(training: Training, attempts: Sequence[Attempt]) -> bool:
    """Whether there is a smaller micro-batch than that of the attempt that follows `attempts`."""
    return _out_of_memory_count(attempts) < len(micro_batches(training)) - 1


def with_micro_batch(training: Training, size: int) -> Training:
    """The same update in micro-batches of `size`."""
    examples = training.batch_size * training.gradient_accumulation
    assert examples % size == 0, "a micro-batch divides the examples of an update"
    changes = {"batch_size": size, "gradient_accumulation": examples // size}
    return training.model_copy(update=changes)


def _out_of_memory_count(attempts: Sequence[Attempt]) -> int:
    """How often memory ran out since the trial last began."""
    count = 0
    for attempt in reversed(attempts):
        if attempt.final:
            break
        count += attempt.cause == "oom"
    return count
