"""The memory of a trial, the longest lengths that fit, and micro-batches if memory runs out."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raylab.plan.memory import (
    Workload,
    can_shrink,
    estimate_memory,
    longest_fit,
    micro_batch,
    micro_batches,
    usable,
    with_micro_batch,
)
from raylab.plan.model_shapes import published, shape_of
from raylab.spec.study import Evaluation, Lora, Quantization, Training
from raylab.store.records import Attempt

ELYZA, GEMMA = "elyza/Llama-3-ELYZA-JP-8B", "google/gemma-2-9b-it"
GB = 10**9


def workload(hub=ELYZA, method="sft", **training):
    shape = shape_of(published()[hub])
    return Workload(shape, method, Quantization(), Lora(), Training(**training), Evaluation())


def test_memory_of_a_llama_of_8b_has_the_parts_that_its_config_gives():
    memory = estimate_memory(workload())
    linear = 32 * (2 * 4096 * 4096 + 2 * 1024 * 4096 + 3 * 14336 * 4096)
    assert memory.weights == linear // 2
    assert memory.constants == linear // 64 * 4
    assert memory.unquantised == 2 * (2 * 128256 * 4096 + 65 * 4096)
    assert memory.optimizer == 2 * memory.gradients == 2 * memory.adapters
    assert memory.phase == "training"


def test_memory_nested_constants_take_a_byte_and_a_two_hundred_and_fifty_sixth():
    double = replace(workload(), quantization=Quantization(double=True))
    blocks = estimate_memory(workload()).constants / 4
    assert estimate_memory(double).constants == pytest.approx(blocks * (1 + 4 / 256), rel=1e-3)


@pytest.mark.parametrize("hub", published())
@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_longest_fit_fits_and_the_next_step_does_not(hub, method):
    for checkpointing in (False, True):
        asked = workload(hub, method, gradient_checkpointing=checkpointing)
        longest = longest_fit(asked, 40 * GB)
        peaks = [
            estimate_memory(
                replace(asked, training=asked.training.model_copy(update={"max_length": length}))
            ).peak
            for length in (longest, longest + 64)
        ]
        assert peaks[0] <= usable(40 * GB)
        assert peaks[1] > usable(40 * GB) or longest + 64 > asked.shape.positions


def test_longest_fit_is_none_where_weights_alone_are_too_large():
    assert longest_fit(workload(), 5 * GB) is None


def test_gemma_9b_of_the_original_takes_more_than_a_card_of_24_gb():
    assert estimate_memory(workload(GEMMA)).peak > 24 * GB
    assert longest_fit(workload(GEMMA, gradient_checkpointing=True), 24 * GB) >= 1024


def attempt(cause, final=False):
    return Attempt(attempt=1, cause=cause, final=final)


@given(st.integers(1, 64), st.integers(1, 16))
def test_micro_batches_any_training_divide_an_update_and_end_at_one(size, accumulated):
    training = Training(batch_size=size, gradient_accumulation=accumulated)
    sizes = micro_batches(training)
    assert sizes[0] == size
    assert sizes[-1] == 1
    assert all(2 * small <= large for large, small in itertools.pairwise(sizes))
    for found in sizes:
        smaller = with_micro_batch(training, found)
        assert smaller.batch_size * smaller.gradient_accumulation == size * accumulated
        assert with_micro_batch(smaller, size) == training


def test_micro_batch_after_running_out_of_memory_is_halved_until_one_is_left():
    training = Training(batch_size=4)
    seen = []
    attempts = []
    while can_shrink(training, attempts):
        seen.append(micro_batch(training, attempts))
        attempts += [attempt("preempted"), attempt("oom")]
    assert [*seen, micro_batch(training, attempts)] == [4, 2, 1]


def test_micro_batch_of_a_trial_that_begins_again_is_that_of_the_study():
    training = Training(batch_size=2)
    ended = [attempt("oom"), attempt("oom", final=True)]
    assert micro_batch(training, ended) == 2
    assert micro_batch(training, [*ended, attempt("oom")]) == 1
