"""Micro-batches: halved when memory ran out, never changing the examples of an update."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from raylab.plan.memory import can_shrink, micro_batch, micro_batches, with_micro_batch
from raylab.spec.study import Training
from raylab.store.records import Attempt


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


def test_micro_batch_after_shortages_is_halved_until_one_is_left():
    training = Training(batch_size=4)
    seen = []
    attempts = []
    while can_shrink(training, attempts):
        seen.append(micro_batch(training, attempts))
        attempts += [attempt("preempted"), attempt("oom")]
    assert [*seen, micro_batch(training, attempts)] == [4, 2, 1]


def test_micro_batch_of_a_trial_that_begins_again_is_what_the_study_says():
    training = Training(batch_size=2)
    ended = [attempt("oom"), attempt("oom", final=True)]
    assert micro_batch(training, ended) == 2
    assert micro_batch(training, [*ended, attempt("oom")]) == 1
