"""Every step of merging: the compiled one and the one in torch give the same bits, and both give
what the papers define.

The steps in torch run on the CPU and, where there is a GPU, on it as well.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from raylab.merge import compiled_steps as compiled
from raylab.merge import torch_steps
from raylab.merge.magnitude_counts import tally
from raylab.merge.steps import hash_limit, keep_probabilities, stream_key
from raylab.weights.torch_rows import as_numpy
from tests.oracles import merging as oracle
from tests.reduce.arrays import LARGEST, arrays

QUICK = settings(max_examples=60, deadline=None)
WEIGHTS = st.sampled_from([0.0, 0.3, -0.3, 0.5, 1.0, -1.0, 3.0]) | st.floats(1e-3, 10)
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def stacked(rows):
    size = min(len(row) for row in rows)
    return np.stack([row[:size] for row in rows])


ROWS = st.lists(arrays(1), min_size=1, max_size=4).map(stacked)


SPECIAL = np.float32(
    [0, -0.0, 1.4e-45, -1.1754942e-38, 1.1754944e-38, 1, -3.0, LARGEST, np.inf, -np.inf, np.nan]
)
ANYTHING = hnp.arrays(np.float32, st.integers(1, 30), elements=st.sampled_from(SPECIAL)) | (
    hnp.arrays(np.uint32, st.integers(1, 30)).map(lambda words: words.view(np.float32))
)
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=GPU)])
def device(request):
    """Where the steps in torch run."""
    return torch.device(request.param)


@pytest.fixture(scope="module", autouse=True, params=[7, torch_steps.BLOCK])
def block(request):
    """How many entries the steps in torch take at once."""
    before, torch_steps.BLOCK = torch_steps.BLOCK, request.param
    yield
    torch_steps.BLOCK = before


def bits(values):
    return values.view({8: torch.int64, 4: torch.int32, 2: torch.int16}[values.element_size()])


def same_bits(left, right):
    """Whether two tensors are the same; one NaN is as good as another."""
    alike = (bits(left) == bits(right)) | (left.isnan() & right.isnan())
    return left.dtype == right.dtype and left.shape == right.shape and bool(alike.all())


def both(device, step, tensors, *arguments):
    """(the count, the tensors) after a step, which is the same in both."""
    written = [tensor.clone() for tensor in tensors]
    count = getattr(compiled, step)(*map(as_numpy, written), *arguments)
    moved = [tensor.clone().to(device) for tensor in tensors]
    other = getattr(torch_steps, step)(*moved, *arguments)
    assert all(same_bits(a.cpu(), b) for a, b in zip(moved, written, strict=True))
    assert (other is None) == (count is None)
    if other is not None:
        assert (other.dtype, other.shape, other.item()) == (torch.int64, (), count)
    return count, written


def one_row(values):
    return [torch.from_numpy(values)]


@QUICK
@given(delta=arrays() | ANYTHING, data=st.data())
def test_trim_any_threshold_is_the_definition_in_both(device, delta, data):
    own = [abs(float(v)) for v in delta if math.isfinite(v)]
    limit = data.draw(st.sampled_from([*own, 0.0, 1.0, LARGEST]))
    count, (written,) = both(device, "trim", one_row(delta), limit)
    assert written.tolist() == oracle.trimmed(delta, limit)
    assert count == sum(abs(float(v)) >= limit and v != 0 for v in delta)


@QUICK
@given(delta=arrays() | ANYTHING, data=st.data())
def test_trim_between_any_two_thresholds_is_the_definition_in_both(device, delta, data):
    own = [abs(float(v)) for v in delta if math.isfinite(v)]
    low, high = sorted(data.draw(st.sampled_from([*own, 0.0, 1.0, LARGEST])) for _ in range(2))
    count, (written,) = both(device, "trim", one_row(delta), low, high)
    expected = [float(v) if low <= abs(float(v)) <= high else 0.0 for v in delta]
    assert written.tolist() == expected
    assert count == sum(value != 0 for value in expected)


def test_trim_zeros_at_a_threshold_of_zero_are_not_kept(device):
    count, _ = both(device, "trim", one_row(np.float32([0, -0.0, 1e-45])), 0.0)
    assert count == 1


@QUICK
@given(
    delta=arrays(),
    key=st.integers(0, 2**64 - 1),
    first=st.integers(0, 2**40),
    density=st.sampled_from([1e-9, 0.1, 0.5, 1.0]),
)
def test_drop_any_stream_is_splitmix64_in_both(device, delta, key, first, density):
    below = hash_limit(density)
    count, (written,) = both(device, "drop", one_row(delta), key, first, below)
    expected = [
        float(v) if oracle.splitmix(key, first + i) >> 11 < below else 0.0
        for i, v in enumerate(delta)
    ]
    assert written.tolist() == expected
    assert count == sum(v != 0 for v in expected)


# The first outputs for the seed 1234567, as published with the algorithm's C code.
PUBLISHED = [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_splitmix64_known_seed_gives_published_outputs():
    assert [oracle.splitmix(1234567, i) for i in range(3)] == PUBLISHED


@pytest.mark.parametrize("step", [compiled.drop, torch_steps.drop])
@pytest.mark.parametrize("index", range(3))
def test_drop_known_seed_keeps_below_the_published_outputs_alone(step, index):
    for limit, count in ((PUBLISHED[index] >> 11, 0), ((PUBLISHED[index] >> 11) + 1, 1)):
        one = np.ones(1, np.float32) if step is compiled.drop else torch.ones(1)
        assert int(step(one, 1234567, index, limit)) == count


def test_drop_half_keeps_half_without_correlation():
    ones = torch.ones(1 << 16)
    masks = []
    for model, tensor in ((0, "a"), (1, "a"), (0, "b")):
        mask = ones.clone()
        compiled.drop(mask.numpy(), stream_key(7, model, tensor), 0, hash_limit(0.5))
        masks.append(mask * 2 - 1)
    deviation = 1 / math.sqrt(len(ones))
    for i, mask in enumerate(masks):
        others = [mask.mean(), (mask[1:] * mask[:-1]).mean()]
        others += [(mask * other).mean() for other in masks[i + 1 :]]
        assert max(abs(float(value)) for value in others) < 5 * deviation


def test_hash_limit_decimal_density_is_exact():
    assert hash_limit(1.0) == 2**53
    assert hash_limit(0.2) == 2**53 // 5


ROWS_OF = hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)


@QUICK
@given(
    values=hnp.arrays(np.float32, ROWS_OF, elements=st.sampled_from(SPECIAL[:8])),
    key=st.integers(0, 2**64 - 1),
    first=st.integers(0, 2**40),
    window=st.sampled_from([(0.5, 0.49), (0.2, 0.1), (0.3, 0.0), (1.0, 0.15)]),
)
def test_drop_by_rank_any_rows_keeps_by_the_rank_of_the_magnitude_in_both(
    device, values, key, first, window
):
    tables = keep_probabilities(*window, values.shape[1])
    rows, scaled = torch.from_numpy(values.ravel()), torch.full((values.size,), math.nan).double()
    kept = [row.clone() for row in (rows, scaled)]
    count = compiled.drop_by_rank(kept[0].numpy(), key, first, *tables, kept[1].numpy())
    moved = [row.clone().to(device) for row in (rows, scaled)]
    on_device = [torch.from_numpy(table).to(device) for table in tables]
    other = torch_steps.drop_by_rank(moved[0], key, first, *on_device, moved[1])
    assert all(same_bits(a.cpu(), b) for a, b in zip(moved, kept, strict=True))
    shares = [p for row in values for p in oracle.probabilities(row, *window)]
    draws = [oracle.splitmix(key, first + i) / 2**64 for i in range(values.size)]
    entries = list(zip(map(float, values.ravel()), shares, draws, strict=True))
    assert kept[0].tolist() == [v if draw < p else 0.0 for v, p, draw in entries]
    assert kept[1].tolist() == pytest.approx([v / p if d < p else 0.0 for v, p, d in entries])
    assert int(other) == count == sum(d < p and v != 0 for v, p, d in entries)


def test_drop_by_rank_keeps_each_rank_as_often_as_its_probability_and_is_unbiased():
    rows, columns, (density, epsilon) = 20_000, 5, (0.4, 0.3)
    row = torch.tensor([0.5, -4.0, 2.0, 1.0, -3.0])
    limits, shares = keep_probabilities(density, epsilon, columns)
    assert shares.tolist() == pytest.approx([0.1, 0.25, 0.4, 0.55, 0.7])
    delta, scaled = row.repeat(rows), torch.empty(rows * columns, dtype=torch.float64)
    key = stream_key(3, 0, "a")
    compiled.drop_by_rank(delta.numpy(), key, 0, limits, shares, scaled.numpy())
    found = (delta.view(rows, columns) != 0).double().mean(0)
    expected = torch.from_numpy(shares[[0, 4, 2, 1, 3]])
    deviation = (expected * (1 - expected) / rows).sqrt()
    assert ((found - expected).abs() < 5 * deviation).all()
    mean = scaled.view(rows, columns).mean(0)
    assert ((mean - row).abs() < 5 * row.abs() * deviation / expected).all()


def merged_by(device, step, rows, *arguments):
    """What both write for `rows`, numpy (models, size), over what the memory held before."""
    deltas = torch.from_numpy(rows)
    written = torch.full((rows.shape[1],), math.nan, dtype=torch.float64)
    getattr(compiled, step)(rows, *arguments, written.numpy())
    other = torch.full_like(written, math.nan, device=device)
    getattr(torch_steps, step)(deltas.to(device), *arguments, other)
    assert same_bits(other.cpu(), written)
    return written


@QUICK
@given(rows=ROWS, data=st.data(), normalize=st.booleans())
@example(rows=np.float32([[1], [-1]]), data=None, normalize=True)
def test_disjoint_merge_any_models_is_the_definition_in_both(device, rows, data, normalize):
    count = len(rows)
    draw = data.draw if data else lambda _: [1.0] * count
    weights = draw(st.lists(WEIGHTS, min_size=count, max_size=count))
    factors = [weight / 0.3 for weight in weights] if normalize else weights
    found = merged_by(device, "disjoint_merge", rows, factors, weights, normalize)
    assert found.tolist() == oracle.elected(rows, factors, weights, normalize)


def test_disjoint_merge_of_weights_that_cancel_is_the_sum(device):
    # 0.1 + 0.2 - 0.3 is not 0 in float64. Of the second entry the models of 0.1 and 0.3 agree.
    rows, weights = np.float32([[1, 1], [1, -1], [-3, -3]]), [0.1, 0.2, -0.3]
    found = merged_by(device, "disjoint_merge", rows, weights, weights, True)
    assert found.tolist() == pytest.approx([0.1 + 0.2 + 0.9, (0.1 + 0.9) / (0.1 - 0.3)])


def test_disjoint_merge_of_negated_models_gives_the_negated_result(device):
    rows = torch.randn(3, 500, generator=torch.Generator().manual_seed(1))
    rows[:, ::7] = torch.tensor([[1.0], [-2.0], [1.0]])
    weights = [1.0, 1.0, 1.0]
    found, negated = (
        merged_by(device, "disjoint_merge", each.numpy(), weights, weights, True)
        for each in (rows, -rows)
    )
    assert torch.equal(negated, -found)
    assert found[::7].eq(0).all()


@QUICK
@given(rows=ROWS, data=st.data())
def test_weighted_sum_of_any_models_is_the_weighted_sum_in_both(device, rows, data):
    factors = data.draw(st.lists(st.floats(-4, 4), min_size=len(rows), max_size=len(rows)))
    divisor = data.draw(st.sampled_from([1.0, 3.0, 0.7]))
    found = merged_by(device, "weighted_sum", rows, factors, divisor)
    assert found.tolist() == oracle.summed(rows, factors, divisor)


def moves_of(device, base, merged, scaling, dtype):
    """What both give, base and merged being numpy arrays and base exact in `dtype`."""
    found = torch.empty(base.size, dtype=dtype)
    count = compiled.add_to_base(base.copy(), merged.copy(), scaling, as_numpy(found))
    moved = [torch.from_numpy(values).clone().to(device) for values in (base, merged)]
    other = torch.empty(base.size, dtype=dtype, device=device)
    assert torch_steps.add_to_base(*moved, scaling, other).item() == count
    # What is infinite or NaN is counted, and never written to a file.
    finite = found.isfinite()
    assert bool((finite == other.cpu().isfinite()).all())
    assert same_bits(other.cpu()[finite], found[finite])
    return found, count


@pytest.mark.parametrize("name", DTYPES)
@QUICK
@given(values=arrays(1), seed=st.integers(0, 2**16), scaling=st.sampled_from([1.0, 0.3, -2.0, 0.0]))
def test_add_to_base_any_values_rounds_once_in_both(device, name, values, seed, scaling):
    base = torch.from_numpy(values).to(DTYPES[name])
    base = torch.where(base.isfinite(), base, 1).float().numpy()
    random = np.random.default_rng(seed)
    merged = base.astype(np.float64) * random.choice([0, 2**-8, 1e-3, 2**-9, 3], base.size)
    found, bad = moves_of(device, base, merged, scaling, DTYPES[name])
    expected = oracle.moved(base, merged, scaling, name)
    assert found.double().tolist() == expected
    assert bad == sum(not math.isfinite(value) for value in expected)


@pytest.mark.parametrize("name", DTYPES)
@QUICK
@given(values=ANYTHING, seed=st.integers(0, 2**16))
def test_add_to_base_of_special_values_is_the_same_in_both(device, name, values, seed):
    base = torch.from_numpy(values).to(DTYPES[name]).float().numpy()
    chosen = [0.0, -0.0, 2.0**-150, 1.0, 2.0**-9, 1e300, -math.inf, math.nan]
    merged = np.random.default_rng(seed).choice(chosen, base.size)
    found, bad = moves_of(device, base, merged, 1.0, DTYPES[name])
    with np.errstate(invalid="ignore"):
        pairs = [(float(b), float(m)) for b, m in zip(base, merged, strict=True)]
        exact = [b if m == 0 else b + m for b, m in pairs]
    expected = [oracle.rounded(e, name) if math.isfinite(e) else e for e in exact]
    assert bad == sum(not math.isfinite(value) for value in expected)
    if bad == 0:
        assert found.double().tolist() == expected


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
def test_add_to_base_near_a_tie_rounds_once(device, name, base, merged, expected):
    found, bad = moves_of(device, np.float32([base]), np.array([merged]), 1.0, DTYPES[name])
    assert (found.item(), bad) == (expected, 0)


@pytest.mark.parametrize(
    ("name", "largest"), [("bfloat16", 3.3895313892515355e38), ("float16", 65504.0)]
)
def test_add_to_base_beyond_the_dtype_is_counted(device, name, largest):
    base = np.float32([largest, -largest, largest, 1])
    half = largest * 2.0 ** (-9 if name == "bfloat16" else -12)
    moves = np.array([half * 1.1, -half * 1.1, half / 2, 0])
    found, bad = moves_of(device, base, moves, 1.0, DTYPES[name])
    assert bad == 2
    assert found.isinf().tolist() == [True, True, False, False]


def test_add_to_base_nothing_keeps_the_sign_of_zero(device):
    found, bad = moves_of(device, np.float32([-0.0, 0.0]), np.zeros(2), 1.0, torch.bfloat16)
    assert (np.signbit(found.float().numpy()).tolist(), bad) == ([True, False], 0)


@QUICK
@given(values=arrays() | ANYTHING)
def test_counts_of_any_values_are_those_of_python_in_both(device, values):
    for step, counted in (("count_non_finite", math.isfinite), ("count_nonzero", lambda v: v == 0)):
        count, _ = both(device, step, one_row(values))
        assert count == sum(not counted(float(value)) for value in values)


@pytest.mark.parametrize("dtypes", [(a, b) for a in DTYPES for b in DTYPES])
@QUICK
@given(values=ANYTHING, seed=st.integers(0, 2**16))
def test_subtract_any_values_and_dtypes_is_float32_in_both(device, dtypes, values, seed):
    shuffled = np.random.default_rng(seed).permutation(values)
    mine, base = (
        torch.from_numpy(each).to(DTYPES[name])
        for each, name in zip((values, shuffled), dtypes, strict=True)
    )
    row = torch.full((len(values),), 7.0)
    count, (_, _, written) = both(device, "subtract", [mine, base, row])
    with np.errstate(invalid="ignore", over="ignore"):
        expected = mine.float().numpy() - base.float().numpy()
    assert same_bits(written, torch.from_numpy(expected))
    assert count == (~np.isfinite(expected)).sum()


@pytest.mark.parametrize("name", DTYPES)
@QUICK
@given(values=ANYTHING)
def test_widen_any_values_is_float32_and_back_the_same_in_both(device, name, values):
    stored = torch.from_numpy(values).to(DTYPES[name])
    row = torch.full((len(values),), 7.0)
    count, (_, written) = both(device, "widen", [stored, row])
    assert same_bits(written, stored.float())
    assert count == int((~stored.isfinite()).sum())


@pytest.mark.parametrize("name", DTYPES)
@QUICK
@given(values=ANYTHING)
def test_narrow_any_float32_rounds_to_nearest_even_in_both(device, name, values):
    row = torch.from_numpy(values)
    expected = row.to(DTYPES[name])
    found = torch.empty_like(expected)
    count = compiled.narrow(values, as_numpy(found))
    on_device = torch.empty_like(expected, device=device)
    assert torch_steps.narrow(row.to(device), on_device).item() == count
    finite = expected.isfinite()
    assert count == int((~finite).sum())
    assert same_bits(found[finite], expected[finite])
    assert same_bits(on_device.cpu(), expected)


@pytest.mark.parametrize("name", DTYPES)
@QUICK
@given(values=ANYTHING, seed=st.integers(0, 2**16))
def test_add_any_values_is_float32_in_both(device, name, values, seed):
    row = torch.from_numpy(np.random.default_rng(seed).permutation(values))
    stored = torch.from_numpy(values).to(DTYPES[name])
    count, (written, _) = both(device, "add", [row, stored])
    with np.errstate(invalid="ignore", over="ignore"):
        expected = row.numpy() + stored.float().numpy()
    assert same_bits(written, torch.from_numpy(expected))
    assert count == (~np.isfinite(expected)).sum()


RANGES = [(0, 0x7FFFFFFF, 16), (0, 0xFFFF, 0), (0x3F800000, 0x3F80FFFF, 0), (5, 5, 0)]


@QUICK
@given(values=arrays() | ANYTHING, within=st.sampled_from(RANGES))
def test_tally_any_values_is_the_same_in_both(device, values, within):
    first, last, shift = within
    counts = torch.arange(((last - first) >> shift) + 2)
    moved = counts.clone().to(device)
    row = torch.from_numpy(values)
    tally(values, *within, counts.numpy())
    torch_steps.tally(row.to(device), *within, moved)
    assert torch.equal(moved.cpu(), counts)


def test_steps_in_torch_need_no_value_on_the_host():
    # Tensors on the device "meta" have no values: what asks for one raises an error.
    def meta(dtype, *shape):
        return torch.empty(shape or (20,), dtype=dtype, device="meta")

    row, sums, weights = meta(torch.float32), meta(torch.float64), [1.0, 0.5]
    found = [
        torch_steps.count_non_finite(row),
        torch_steps.count_nonzero(row),
        torch_steps.subtract(meta(torch.bfloat16), meta(torch.float16), row),
        torch_steps.widen(meta(torch.bfloat16), row),
        torch_steps.narrow(row, meta(torch.bfloat16)),
        torch_steps.add(row, meta(torch.bfloat16)),
        torch_steps.trim(row, 0.5),
        torch_steps.trim(row, 0.5, 2.0),
        torch_steps.drop(row, 2**63, 5, 2**50),
        torch_steps.drop_by_rank(
            row, 2**63, 5, meta(torch.int64, 4), meta(torch.float64, 4), meta(torch.float64)
        ),
        torch_steps.add_to_base(row, sums, 0.5, meta(torch.bfloat16)),
    ]
    torch_steps.disjoint_merge(meta(torch.float32, 2, 20), weights, weights, True, sums)
    torch_steps.weighted_sum(meta(torch.float32, 2, 20), weights, 3.0, sums)
    torch_steps.tally(row, 0, 0xFFFF, 0, meta(torch.int64, 0x10001))
    assert [(count.device.type, count.shape) for count in found] == [("meta", ())] * 11
    with pytest.raises(RuntimeError):
        found[0].item()


@GPU
def test_steps_in_torch_never_wait_for_a_gpu():
    row = torch.randn(20, device="cuda")
    sums = torch.randn(20, dtype=torch.float64, device="cuda")
    rows, counts = torch.randn(2, 20, device="cuda"), torch.zeros(0x10001, dtype=torch.int64).cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        torch_steps.subtract(row.bfloat16(), row.half(), row)
        torch_steps.widen(row.bfloat16(), row)
        torch_steps.narrow(row, row.bfloat16())
        torch_steps.add(row, row.bfloat16())
        torch_steps.trim(row, 0.5)
        torch_steps.trim(row, 0.5, 2.0)
        torch_steps.drop(row, 2**63, 5, 2**50)
        torch_steps.drop_by_rank(row, 2**63, 5, counts[:4], sums[:4], sums)
        torch_steps.disjoint_merge(rows, [1.0, 0.5], [1.0, 0.5], True, sums)
        torch_steps.weighted_sum(rows, [1.0, 0.5], 3.0, sums)
        torch_steps.add_to_base(row, sums, 0.5, row.bfloat16())
        torch_steps.tally(row, 0, 0xFFFF, 0, counts)
    finally:
        torch.cuda.set_sync_debug_mode("default")
