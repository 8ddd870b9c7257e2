"""DELLA's draws by counted or sorted ranks, against ranks by numpy's stable sort."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylab.merge.compiled_blocks import KEPT, NON_FINITE, Combining
from raylab.merge.compiled_rank_merge import Draws, merge_ranked
from raylab.merge.compiled_ranks import MOST_VALUES, drop_by_rank
from raylab.merge.compiled_rows import Words
from raylab.merge.steps import keep_probabilities
from raylab.merge.thread_memory import ThreadMemory
from tests.merge.test_compiled_blocks import check, deltas_of, values_of, words_of
from tests.oracles import merging as oracle

QUICK = settings(max_examples=40, deadline=None)
WINDOW = (0.5, 0.4)


def kept_of(rows, key, first=0):
    """What is left of float32 (rows, columns) over its probability, by sorted ranks."""
    found = np.zeros(rows.shape)
    density, epsilon = WINDOW
    columns = rows.shape[1]
    shares = density - epsilon + 2 * epsilon * (np.arange(columns) / max(1, columns - 1))
    for r, row in enumerate(rows):
        order = np.argsort(np.abs(row), kind="stable")
        for rank, place in enumerate(order.tolist()):
            share = shares[rank] if columns > 1 else density
            draw = oracle.splitmix(key, first + r * columns + place) >> 11
            if draw < int(share * 2**53):
                found[r, place] = float(row[place]) / share
    return found


def spread_of(row):
    """The steps from the smallest magnitude to the largest, in units of the last bit in use."""
    bits = np.unique(np.abs(row[row != 0]).view(np.uint32)).tolist()
    every = int(np.bitwise_or.reduce(np.uint32(bits)))
    return (bits[-1] - bits[0]) // (every & -every)


KINDS = {
    "few values": lambda random, shape: random.choice(np.float32([0, -0.0, 1, -1, 2, 0.5]), shape),
    "words": lambda random, shape: values_of(words_of(random.standard_normal(shape))),
    "normal": lambda random, shape: random.standard_normal(shape).astype(np.float32),
    "tiny": lambda random, shape: np.float32(1.4e-45) * random.integers(-3, 9, shape),
    "zeros": lambda random, shape: np.zeros(shape, np.float32),
}


@pytest.mark.parametrize("kind", KINDS)
@QUICK
@given(
    seed=st.integers(0, 2**16),
    shape=st.tuples(st.integers(1, 4), st.sampled_from([1, 2, 9, 300])),
    key=st.integers(0, 2**64 - 1),
    first=st.integers(0, 2**40),
)
def test_drop_by_rank_of_any_values_has_the_ranks_of_a_stable_sort(kind, seed, shape, key, first):
    rows = KINDS[kind](np.random.default_rng(seed), shape).astype(np.float32)
    expected = kept_of(rows, key, first)
    delta, scaled = rows.copy().ravel(), np.full(rows.size, np.nan)
    count = drop_by_rank(delta, key, first, *keep_probabilities(*WINDOW, shape[1]), scaled)
    assert scaled.tolist() == expected.ravel().tolist()
    assert delta.tolist() == np.where(expected != 0, rows, 0).ravel().tolist()
    assert count == np.count_nonzero(expected)


@pytest.mark.parametrize(("kind", "is_sorted"), [("few values", False), ("normal", True)])
def test_drop_by_rank_kinds_of_rows_are_counted_and_sorted(kind, is_sorted):
    row = KINDS[kind](np.random.default_rng(0), 300)
    assert (spread_of(row) > MOST_VALUES) == is_sorted


@pytest.mark.parametrize("elects", [True, False])
@QUICK
@given(seed=st.integers(0, 2**16), count=st.integers(1, 3), columns=st.sampled_from([1, 9, 300]))
def test_merge_ranked_any_models_is_della(elects, seed, count, columns):
    random = np.random.default_rng(seed)
    base = words_of(random.standard_normal((4, columns)))
    models = [words_of(values_of(base) * random.choice([1, 1.01, 2], base.shape))] * count
    models = [words ^ random.choice(np.uint16([0, 0, 1]), words.shape) for words in models]
    # A row that no model changes.
    for words in models:
        words[1] = base[1]
    deltas = [np.float32(delta) for delta in deltas_of(base, models)]
    kept = [kept_of(delta, 5 + k, 7).ravel() for k, delta in enumerate(deltas)]
    limits, shares = keep_probabilities(*WINDOW, columns)
    draws = Draws([5 + k for k in range(count)], [limits] * count, [shares] * count)
    weights = [1.0, 0.5, -2.0][:count]
    how = Combining("disjoint", weights, weights, normalizes=True)
    result = np.zeros(base.size, np.uint16)
    flat = Words(base.ravel(), [words.ravel() for words in models], False)
    overflow, counts = merge_ranked(
        flat, 7, draws, how if elects else Combining("sum", weights), 0.5, ThreadMemory(), result
    )
    merged = oracle.elected(kept, weights, weights) if elects else oracle.summed(kept, weights)
    check((np.float64(values_of(result)), overflow, counts), base.ravel(), merged, 0.5)
    assert counts[:, KEPT].tolist() == [np.count_nonzero(values) for values in kept]
    assert not counts[:, NON_FINITE].any()
