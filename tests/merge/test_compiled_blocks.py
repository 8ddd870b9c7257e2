"""The loop that merges bfloat16 from bytes to bytes, against the definitions in plain numpy."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raylab.merge.compiled_blocks import (
    ABOVE,
    ABOVE_UPPER,
    AT,
    AT_UPPER,
    KEPT,
    NON_FINITE,
    Combining,
    Keeping,
    merge_words,
)
from raylab.merge.compiled_products import products_of_words
from raylab.merge.compiled_rows import Words
from raylab.merge.merge import merge_models
from raylab.merge.thread_memory import ThreadMemory
from raylab.spec.merge_methods import METHODS
from raylab.spec.merges import request_merge
from tests.merge.models import made, place, saved
from tests.oracles import merging as oracle

QUICK = settings(max_examples=40, deadline=None)
SIZES = st.sampled_from([1, 7, 1024, 1025, 2100])
TINY = np.uint16([0, 0x8000, 1, 0x8003, 0x0080])
"""Zeros, subnormal numbers and the smallest normal one, as bfloat16."""


def values_of(words):
    return (words.astype(np.uint32) << 16).view(np.float32)


def words_of(values):
    return (np.float32(values).view(np.uint32) >> 16).astype(np.uint16)


@st.composite
def drawn(draw, fewest=1):
    """A base and models as words, many entries unmoved, or moved by one unit of the last place."""
    random, size = np.random.default_rng(draw(st.integers(0, 2**16))), draw(SIZES)
    scale = draw(st.sampled_from([1e-38, 1e-2, 1.0, 1e30]))
    base = words_of(random.standard_normal(size) * scale)
    base[::5] = random.choice(TINY, base[::5].size)
    models = []
    for _ in range(draw(st.integers(fewest, 3))):
        moved = words_of(values_of(base) * (1 + 0.1 * random.standard_normal(size)))
        steps = base ^ random.choice(np.uint16([0, 1, 0x8000]), size)
        models.append(random.choice([0, 1, 2], size).choose([base, moved, steps]))
    if draw(st.booleans()):
        for words in models:
            words[:1024] = base[:1024]
    return base, models


def merged(base, models, keeping, combining, scaling=1.0, first=0, of_values=False):
    """The merged entries, float64, how many overflow, and the counts of each model."""
    result = np.full(base.size, 0x7FC0, np.uint16)
    overflow, counts = merge_words(
        Words(base, models, of_values), first, keeping, combining, scaling, ThreadMemory(), result
    )
    return values_of(result).astype(np.float64), overflow, counts


def check(found, base, moves, scaling=1.0):
    """Against base + scaling * moves, rounded once."""
    values, overflow, _ = found
    expected = np.array(oracle.moved(values_of(base), moves, scaling, "bfloat16"))
    assert overflow == np.count_nonzero(~np.isfinite(expected))
    finite = np.isfinite(expected)
    assert values[finite].tolist() == expected[finite].tolist()


def deltas_of(base, models):
    return [oracle.task_vector(values_of(words), values_of(base)) for words in models]


FACTORS = st.lists(st.sampled_from([0.3, 1.0, -0.5, 2.0]), min_size=3, max_size=3)


@QUICK
@given(drawn(), FACTORS, st.sampled_from([1.0, 3.0]), st.sampled_from([1.0, 0.3]))
def test_merge_words_sum_is_the_weighted_sum(words, factors, divisor, scaling):
    base, models = words
    factors = factors[: len(models)]
    deltas = deltas_of(base, models)
    found = merged(base, models, Keeping(), Combining("sum", factors, bound=divisor), scaling)
    check(found, base, oracle.summed(deltas, factors, divisor), scaling)
    assert found[2][:, KEPT].tolist() == [np.count_nonzero(delta) for delta in deltas]


@QUICK
@given(drawn(), FACTORS)
def test_merge_words_of_values_is_their_sum(words, factors):
    base, models = words
    factors = factors[: len(models)]
    found = merged(base, models, Keeping(), Combining("sum", factors), of_values=True)
    check(found, np.zeros_like(base), oracle.summed(list(map(values_of, models)), factors))


@QUICK
@given(drawn(), FACTORS, st.data(), st.booleans())
def test_merge_words_trimmed_and_elected_is_ties_and_counts_prove_it(words, weights, data, over):
    base, models = words
    deltas, weights = deltas_of(base, models), weights[: len(models)]
    sizes = [sorted(map(float, {*np.abs(delta), np.float32(0)})) for delta in deltas]
    lower = [data.draw(st.sampled_from(each)) for each in sizes]
    upper = [data.draw(st.sampled_from(each)) if over else math.inf for each in sizes]
    bounds = list(zip(lower, upper, strict=True))
    combining = Combining("disjoint", weights, weights, normalizes=True)
    found = merged(base, models, Keeping("trim", bounds), combining)
    kept = [oracle.between(delta, *each) for delta, each in zip(deltas, bounds, strict=True)]
    check(found, base, oracle.elected(kept, weights, weights))
    for counts, delta, values, (low, high) in zip(found[2], deltas, kept, bounds, strict=True):
        assert counts[KEPT] == np.count_nonzero(values)
        assert counts[ABOVE] == (abs(delta) > low).sum()
        assert counts[AT] == (abs(delta) == low).sum()
        assert counts[ABOVE_UPPER] == (abs(delta) > high).sum()
        assert counts[AT_UPPER] == (abs(delta) == high).sum()


@QUICK
@given(drawn(), st.integers(0, 2**64 - 4), st.integers(0, 2**40))
def test_merge_words_dropped_is_splitmix64_at_the_index_of_the_entry(words, key, first):
    base, models = words
    limit, deltas = 2**52, deltas_of(base, models)
    kept = [
        [v if oracle.splitmix(key + k, first + i) >> 11 < limit else 0.0 for i, v in enumerate(d)]
        for k, d in enumerate(map(np.ndarray.tolist, deltas))
    ]
    streams = [(key + k, limit) for k in range(len(models))]
    twos = [2.0] * len(models)
    found = merged(base, models, Keeping("drop", streams=streams), Combining("sum", twos), 1, first)
    check(found, base, oracle.summed(kept, twos))
    assert found[2][:, KEPT].tolist() == [np.count_nonzero(values) for values in kept]


@QUICK
@given(drawn(), st.sampled_from([0.0, 1e-4, 0.1]), FACTORS)
def test_merge_words_mean_of_moved_is_ram(words, epsilon, boosts):
    base, models = words
    boosts, epsilon = np.array(boosts[: len(models)]), float(np.float32(epsilon))
    deltas = np.float64(deltas_of(base, models))
    moves = np.abs(deltas) > epsilon
    alone = moves.sum(axis=0) == 1
    raised = np.where(moves, np.where(alone, boosts[:, None], 1.0) * deltas, 0.0)
    expected = sum(raised) / np.maximum(moves.sum(axis=0), 1)
    combining = Combining("mean_of_moved", boosts.tolist(), bound=epsilon)
    found = merged(base, models, Keeping(), combining)
    check(found, base, expected)
    assert found[2][:, KEPT].tolist() == moves.sum(axis=1).tolist()


@QUICK
@given(drawn(), st.sampled_from([0.0, 1e-4, 0.1]))
def test_merge_words_clipped_is_nearswap(words, most):
    base, models = words
    (delta, *_) = deltas_of(base, models)
    found = merged(base, models[:1], Keeping(), Combining("clip", bound=most))
    check(found, base, np.clip(np.float64(delta), -most, most))


@QUICK
@given(drawn(fewest=2), FACTORS, st.data())
def test_merge_words_selected_is_the_mean_of_the_elected_sign(words, weights, data):
    base, models = words
    deltas = np.float64(deltas_of(base, models))
    with np.errstate(over="ignore"):
        total, weights = sum(deltas), np.abs(weights[: len(models)])
        variances = sum((deltas - total / len(deltas)) ** 2) / len(deltas)
    least = float(data.draw(st.sampled_from([*variances.tolist()])))
    agrees = (np.sign(deltas) == np.sign(total)) & (total != 0) & (variances >= least)
    shares = np.where(agrees, weights[:, None], 0.0)
    divisors = sum(shares)
    expected = np.divide(
        sum(shares * deltas), divisors, out=np.zeros_like(total), where=divisors > 0
    )
    combining = Combining("selected", weights.tolist(), bound=least)
    found = merged(base, models, Keeping(), combining)
    check(found, base, expected)
    selected = (variances >= least) & (deltas != 0)
    assert found[2][:, KEPT].tolist() == selected.sum(axis=1).tolist()


@pytest.mark.parametrize("bad", [0x7F80, 0xFF80, 0x7FC0])
@pytest.mark.parametrize("of_base", [True, False])
def test_merge_words_entries_that_are_not_finite_are_counted(bad, of_base):
    base = np.full(2000, 0x3F80, np.uint16)
    models = [base.copy(), base.copy()]
    models[1][1999] = bad
    if of_base:
        # The same bits in a model and the base: the difference is no number.
        base[1999] = bad
    *_, counts = merged(base, models, Keeping(), Combining("sum", [1.0, 1.0]))
    assert counts[:, NON_FINITE].tolist() == [int(of_base), 1]


@QUICK
@given(st.integers(0, 2**16), st.sampled_from([1, 127, 1025, 40_000]), st.booleans())
def test_products_of_words_have_the_bits_of_numpys_pairwise_sum(seed, size, are_values):
    random = np.random.default_rng(seed)
    base, *models = (words_of(random.standard_normal(size)) for _ in range(4))
    counts = np.zeros(3, np.int64)
    found = products_of_words(Words(base, models, are_values), ThreadMemory(), counts)
    rows = list(map(values_of, models)) if are_values else deltas_of(base, models)
    wide = np.float64(rows)
    expected = [[(a * b).sum() for b in wide] for a in wide]
    assert found.tolist() == expected
    assert not counts.any()


OF_TWO = {
    "slerp": {"parameters": {"t": 0.3}},
    "nearswap": {"parameters": {"t": 0.01}},
    "ram": {"parameters": {"epsilon": 0.05}},
    "ramplus_tl": {"parameters": {"epsilon": 0.05}},
    "sce": {"parameters": {"select_topk": 0.3}},
}


@pytest.mark.parametrize(
    "method", [name for name, row in METHODS.items() if row.combines != "matrices"]
)
def test_merge_of_bfloat16_is_that_of_the_same_values_in_float32(tmp_path, method):
    """The output and the record: files of float32 are merged step by step."""
    row = METHODS[method]
    base, others, paths = made(tmp_path, "normal")
    wide = [
        saved(tmp_path / f"wide{i}", {name: values.float() for name, values in model.items()})
        for i, model in enumerate([base, *others])
    ]
    given = paths[: 1 + (row.most or 2)], wide[: 1 + (row.most or 2)]
    base_of = {} if row.of == "values" else {"base": "base"}
    names = [f"m{i}" for i in range(row.most or 2)]
    request = request_merge(method, names, dtype="bfloat16", **base_of, **OF_TWO.get(method, {}))
    outs = []
    for place_of_base, *models in given:
        out = tmp_path / f"out{len(outs)}"
        of = place_of_base if base_of else None
        record = merge_models(request, [place(model) for model in models], of, out)
        outs.append(((out / "model.safetensors").read_bytes(), record["models"]))
    assert outs[0] == outs[1]
