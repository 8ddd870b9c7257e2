"""How many examples are on the device at once, given how often memory ran out.

Model: an update is taken over batch_size * gradient_accumulation examples, whatever happens. After
an attempt that ran out of memory the micro-batch is halved, and more of them are added up, down
to one example. A trial that ended, and is begun again, begins with what the study says.
Invariant: every micro-batch divides the examples of an update; it is no part of a trial's
identity, but changes the bits of its result, and so is told beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

from raylab.spec.study import Training
from raylab.store.records import Attempt


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
