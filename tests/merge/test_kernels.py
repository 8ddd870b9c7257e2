"""Every step of merging: the compiled one and the one in torch give the same bits, and both give
what the papers define."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from raylab.merge import kernels as compiled
from tests.oracles import merge_steps as plain
from tests.oracles import merging as oracle
from tests.reduce.arrays import LARGEST, arrays

QUICK = settings(max_examples=60, deadline=None)
WEIGHTS = st.sampled_from([0.0, 0.3, 0.5, 1.0, 3.0]) | st.floats(1e-3, 10)
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def stacked(rows):
    size = min(len(row) for row in rows)
    return np.stack([row[:size] for row in rows])


ROWS = st.lists(arrays(1), min_size=1, max_size=4).map(stacked)


def bits(values):
    return values.view({8: torch.int64, 4: torch.int32, 2: torch.int16}[values.element_size()])


def same_bits(left, right):
    return left.dtype == right.dtype and torch.equal(bits(left), bits(right))


def both(step, delta, *arguments):
    """(torch's result, the compiled one's, torch's count, the compiled one's)."""
    values = torch.from_numpy(delta)
    kept, count = getattr(plain, step)(values, *arguments)
    written = values.clone()
    return kept, written, count, getattr(compiled, step)(written, *arguments)


@QUICK
@given(arrays(), st.data())
def test_trim_any_threshold_is_the_definition_in_both(delta, data):
    own = [abs(float(v)) for v in delta]
    limit = data.draw(st.sampled_from([*own, 0.0, 1.0, LARGEST]))
    kept, written, count, counted = both("trim", delta, limit)
    assert written.tolist() == kept.tolist() == oracle.trimmed(delta, limit)
    assert count == counted == sum(abs(v) >= limit and v != 0 for v in own)


def test_trim_zeros_at_a_threshold_of_zero_are_not_kept():
    _, _, count, counted = both("trim", np.float32([0, -0.0, 1e-45]), 0.0)
    assert count == counted == 1


@QUICK
@given(arrays(), st.integers(0, 2**64 - 1), st.integers(0, 2**40), st.sampled_from([0.1, 0.5, 1.0]))
def test_drop_any_stream_is_splitmix64_in_both(delta, key, first, density):
    below = compiled.hash_limit(density)
    kept, written, count, counted = both("drop", delta, key, first, below)
    expected = [
        float(v) if oracle.splitmix(key, first + i) >> 11 < below else 0.0
        for i, v in enumerate(delta)
    ]
    assert written.tolist() == kept.tolist() == expected
    assert count == counted == sum(v != 0 for v in expected)


def test_splitmix64_known_seed_gives_published_outputs():
    # The first outputs for the seed 1234567, as published with the algorithm's C code.
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [oracle.splitmix(1234567, i) for i in range(3)] == published


def test_drop_half_keeps_half_without_correlation():
    ones = torch.ones(1 << 16)
    masks = []
    for model, tensor in ((0, "a"), (1, "a"), (0, "b")):
        mask = ones.clone()
        compiled.drop(mask, compiled.stream_key(7, model, tensor), 0, compiled.hash_limit(0.5))
        masks.append(mask * 2 - 1)
    deviation = 1 / math.sqrt(len(ones))
    for i, mask in enumerate(masks):
        others = [mask.mean(), (mask[1:] * mask[:-1]).mean()]
        others += [(mask * other).mean() for other in masks[i + 1 :]]
        assert max(abs(float(value)) for value in others) < 5 * deviation


def test_hash_limit_decimal_density_is_exact():
    assert compiled.hash_limit(1.0) == 2**53
    assert compiled.hash_limit(0.2) == 2**53 // 5


@QUICK
@given(ROWS, st.data(), st.booleans())
@example(np.float32([[1], [-1]]), None, True)
def test_disjoint_merge_any_models_is_the_definition_in_both(rows, data, normalize):
    count = len(rows)
    draw = data.draw if data else lambda _: [1.0] * count
    weights = draw(st.lists(WEIGHTS, min_size=count, max_size=count))
    factors = [weight / 0.3 for weight in weights] if normalize else weights
    deltas = torch.from_numpy(rows)
    found = plain.disjoint_merge(deltas, factors, weights, normalize)
    written = torch.empty_like(found)
    compiled.disjoint_merge(deltas, factors, weights, normalize, written)
    assert same_bits(found, written)
    assert found.tolist() == oracle.elected(rows, factors, weights, normalize)


def test_disjoint_merge_of_negated_models_gives_the_negated_result():
    rows = torch.randn(3, 500, generator=torch.Generator().manual_seed(1))
    rows[:, ::7] = torch.tensor([[1.0], [-2.0], [1.0]])
    weights = [1.0, 1.0, 1.0]
    found = plain.disjoint_merge(rows, weights, weights, True)
    assert torch.equal(plain.disjoint_merge(-rows, weights, weights, True), -found)
    assert found[::7].eq(0).all()


@QUICK
@given(ROWS, st.data())
def test_weighted_sum_of_any_models_is_the_weighted_sum_in_both(rows, data):
    factors = data.draw(st.lists(st.floats(-4, 4), min_size=len(rows), max_size=len(rows)))
    divisor = data.draw(st.sampled_from([1.0, 3.0]))
    deltas = torch.from_numpy(rows)
    found = plain.weighted_sum(deltas, factors, divisor)
    written = torch.empty_like(found)
    compiled.weighted_sum(deltas, factors, divisor, written)
    assert same_bits(found, written)
    assert found.tolist() == oracle.summed(rows, factors, divisor)


def moves_of(base, merged, scaling, dtype):
    """What both give, base and merged being numpy arrays and base exact in `dtype`."""
    found, bad = plain.add_to_base(torch.from_numpy(base), torch.from_numpy(merged), scaling, dtype)
    written = torch.from_numpy(base.copy())
    counted = compiled.add_to_base(written, torch.from_numpy(merged.copy()), scaling, dtype)
    assert bad == counted
    assert same_bits(found, written.to(dtype))
    return found, bad


@pytest.mark.parametrize("name", DTYPES)
@QUICK
@given(arrays(1), st.integers(0, 2**16), st.sampled_from([1.0, 0.3, -2.0, 0.0]))
def test_add_to_base_any_values_rounds_once_in_both(name, values, seed, scaling):
    base = torch.from_numpy(values).to(DTYPES[name])
    base = torch.where(base.isfinite(), base, 1).float().numpy()
    random = np.random.default_rng(seed)
    merged = base.astype(np.float64) * random.choice([0, 2**-8, 1e-3, 2**-9, 3], base.size)
    found, bad = moves_of(base, merged, scaling, DTYPES[name])
    expected = oracle.moved(base, merged, scaling, name)
    assert found.double().tolist() == expected
    assert bad == sum(not math.isfinite(value) for value in expected)


@pytest.mark.parametrize(
    ("name", "base", "merged", "expected"),
    [
        # float32 would round 1 + 2^-8 + 2^-40 to the tie 1 + 2^-8, and bfloat16 that to 1.
        ("bfloat16", 1.0, 2.0**-8 + 2.0**-40, 1 + 2.0**-7),
        ("bfloat16", 1.0, 2.0**-8, 1.0),
        ("bfloat16", -1.0, -(2.0**-8) - 2.0**-40, -1 - 2.0**-7),
        ("float16", 1.0, 2.0**-11 + 2.0**-40, 1 + 2.0**-10),
        ("float16", 2.0**-24, 2.0**-25 - 2.0**-60, 2.0**-24),
        ("float32", 1.0, 2.0**-24, 1.0),
        ("float32", 1.0, 2.0**-24 + 2.0**-50, 1 + 2.0**-23),
    ],
)
def test_add_to_base_near_a_tie_rounds_once(name, base, merged, expected):
    found, bad = moves_of(np.float32([base]), np.array([merged]), 1.0, DTYPES[name])
    assert (found.item(), bad) == (expected, 0)


@pytest.mark.parametrize(
    ("name", "largest"), [("bfloat16", 3.3895313892515355e38), ("float16", 65504.0)]
)
def test_add_to_base_beyond_the_dtype_is_counted(name, largest):
    base = np.float32([largest, -largest, largest, 1])
    half = largest * 2.0 ** (-9 if name == "bfloat16" else -12)
    found, bad = moves_of(base, np.array([half * 1.1, -half * 1.1, half / 2, 0]), 1.0, DTYPES[name])
    assert bad == 2
    assert found.isinf().tolist() == [True, True, False, False]


def test_add_to_base_nothing_keeps_the_sign_of_zero():
    found, bad = moves_of(np.float32([-0.0, 0.0]), np.zeros(2), 1.0, torch.bfloat16)
    assert (np.signbit(found.float().numpy()).tolist(), bad) == ([True, False], 0)


@pytest.mark.parametrize("step", [plain.count_non_finite, compiled.count_non_finite])
def test_non_finite_any_kind_is_counted(step):
    values = [math.nan, math.inf, -math.inf, LARGEST, -LARGEST, 0.0]
    assert step(torch.tensor(values)) == 3
