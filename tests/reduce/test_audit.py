"""The precision audit against numpy: bf16 by bits, NF4 by the paper's table, all in float64."""

from __future__ import annotations

import json
import math
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from raylab.errors import NonFiniteError
from raylab.reduce.audit import audit_parts, audit_rows
from raylab.spec.study import Quantization
from raylab.store.references import ModelLocation
from raylab.store.schemas import SCHEMAS
from raylab.store.tables import to_table
from raylab.weights import Checkpoint

Q0, Q1, UP = (
    "model.layers.0.self_attn.q_proj.weight",
    "model.layers.1.self_attn.q_proj.weight",
    "model.layers.0.mlp.up_proj.weight",
)
SHAPES = {Q0: (48, 64), Q1: (48, 64), UP: (96, 128)}
NF4 = Quantization(compute_dtype="float32")
# Dettmers et al. 2023, appendix E.
CODES = np.float32([
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
])  # fmt: skip


def bf16(values):
    """float32 rounded to bf16, to nearest, ties to even, by its bits."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    bits = bits + 0x7FFF + ((bits >> 16) & 1)
    return (bits & np.uint32(0xFFFF0000)).view(np.float32)


def nf4(values):
    """Every 64 entries to the nearest code of their largest magnitude, and back."""
    blocks = values.reshape(-1, 64)
    largest = np.abs(blocks).max(axis=1, keepdims=True)
    nearest = np.abs((blocks / largest)[..., None] - CODES).argmin(axis=-1)
    return (CODES[nearest] * largest).reshape(values.shape)


def merged(start, delta):
    return bf16(start + delta)


def write_base(directory, seed=0, shapes=SHAPES, dtype=torch.bfloat16):
    """A base model; returns its weights as float32."""
    generator = np.random.default_rng(seed)
    weights = {n: bf16(0.02 * generator.standard_normal(s)) for n, s in shapes.items()}
    directory.mkdir()
    stored = {name: torch.from_numpy(w).to(dtype) for name, w in weights.items()}
    save_file(stored, directory / "model.safetensors")
    (directory / "config.json").write_text('{"model_type": "llama"}')
    return weights


def write_adapter(directory, seed, shapes=SHAPES, size=1e-4, zero=(), **config):
    """An adapter of rank 8; returns its float32 deltas, each entry about `size`."""
    generator = np.random.default_rng(seed)
    stored, deltas = {}, {}
    for name, (rows, columns) in shapes.items():
        down = generator.standard_normal((8, columns)).astype(np.float32)
        up = (generator.standard_normal((rows, 8)) * size / 8**0.5).astype(np.float32)
        up *= name not in zero
        stem = "base_model.model." + name.removesuffix(".weight")
        stored[f"{stem}.lora_A.weight"] = torch.from_numpy(down)
        stored[f"{stem}.lora_B.weight"] = torch.from_numpy(up)
        deltas[name] = (up.astype(np.float64) @ down).astype(np.float32)
    directory.mkdir()
    save_file(stored, directory / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 8, **config}
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return deltas


def expected(start, delta, names, held=None):
    """(numel, l2, error, false zeros, [held error, false zeros, noise]) over `names`."""

    def flat(values):
        return np.concatenate([np.float64(values[name]).ravel() for name in names])

    d, w = flat(delta), flat(start)
    m = flat({n: merged(start[n], delta[n]) for n in names})
    size = np.linalg.norm(d)
    found = [d.size, size, np.linalg.norm(m - w - d) / size, ((m == w) & (d != 0)).sum() / d.size]
    if held:
        h = flat({n: bf16(held[n]) for n in names})
        m = flat({n: merged(held[n], delta[n]) for n in names})
        found += [
            np.linalg.norm(m - h - d) / size,
            ((m == h) & (d != 0)).sum() / d.size,
            np.linalg.norm(h - w) / size,
        ]
    return found


COLUMNS = (
    "numel", "l2", "merged_error", "merged_false_zeros", "dequantized_error",
    "dequantized_false_zeros", "quantization_noise",
)  # fmt: skip
GROUPS = {
    ("all", "all"): [Q0, UP, Q1],
    ("layer", "model.layers.0"): [Q0, UP],
    ("layer", "model.layers.1"): [Q1],
    ("module", "q_proj"): [Q0, Q1],
    ("module", "up_proj"): [UP],
    **{("tensor", name): [name] for name in SHAPES},
}


def assert_rows(rows, start, delta, held=None):
    assert {(row["level"], row["key"]) for row in rows} == set(GROUPS)
    for row in rows:
        names = GROUPS[row["level"], row["key"]]
        found = expected(start, delta, names, held)
        # The float32 sum of a delta may round an entry's merged value to its other neighbour.
        for column, value in zip(COLUMNS, found, strict=False):
            assert row[column] == pytest.approx(value, rel=2e-3), (column, names)


def test_rows_of_one_training_equal_numpy_at_every_level(tmp_path):
    start = write_base(tmp_path / "base")
    delta = write_adapter(tmp_path / "a", 1)
    place, base = ModelLocation((tmp_path / "a",)), Checkpoint(tmp_path / "base")
    rows = audit_rows("trial", audit_parts(place, base, SHAPES, NF4))
    assert_rows(rows, start, delta, {name: nf4(weights) for name, weights in start.items()})
    assert {"note", *rows[0]} == set(SCHEMAS["audit"].names)
    assert to_table("audit", rows).num_rows == len(rows)


def test_rows_of_a_chain_start_from_its_rounded_parents(tmp_path):
    weights = write_base(tmp_path / "base")
    parents = [write_adapter(tmp_path / str(seed), seed, size=5e-3) for seed in (1, 2)]
    delta = write_adapter(tmp_path / "child", 3)
    start = weights
    for parent in parents:
        start = {name: merged(start[name], parent[name]) for name in SHAPES}
    place = ModelLocation((tmp_path / "1", tmp_path / "2", tmp_path / "child"))
    rows = audit_rows("m", audit_parts(place, Checkpoint(tmp_path / "base"), SHAPES, NF4))
    assert_rows(rows, start, delta, {name: nf4(values) for name, values in start.items()})


def test_merge_into_bf16_at_half_a_percent_loses_a_third_and_zeroes_a_third(tmp_path):
    shapes = {Q0: (1200, 1024)}  # more than one tile
    weights = write_base(tmp_path / "base", shapes=shapes)
    base, errors = Checkpoint(tmp_path / "base"), []
    for seed in (1, 2):
        delta = write_adapter(tmp_path / str(seed), seed, shapes)
        size = np.linalg.norm(delta[Q0]) / np.linalg.norm(weights[Q0])
        assert size == pytest.approx(5e-3, rel=0.05)
        row = audit_rows("m", audit_parts(ModelLocation((tmp_path / str(seed),)), base, shapes))[0]
        exact = expected(weights, delta, [Q0])
        assert [row[column] for column in COLUMNS[:4]] == pytest.approx(exact, rel=1e-4)
        assert row["merged_false_zeros"] == pytest.approx(0.32, abs=0.04)
        errors.append(row["merged_error"])
    # The difference of two such models loses 46 % of what one of them learnt.
    assert errors == pytest.approx([0.325, 0.325], abs=0.01)
    assert math.hypot(*errors) == pytest.approx(0.46, abs=0.01)


def test_without_quantization_its_columns_are_null(tmp_path):
    write_base(tmp_path / "base")
    write_adapter(tmp_path / "a", 1)
    rows = audit_rows(
        "m", audit_parts(ModelLocation((tmp_path / "a",)), Checkpoint(tmp_path / "base"), SHAPES)
    )
    assert len(rows) == len(GROUPS)
    for row in rows:
        assert [row[column] for column in COLUMNS[4:]] == [None] * 3
        assert None not in [row[column] for column in COLUMNS[:4]]


def test_layers_that_keep_their_weight_transposed_are_audited_merged_only(tmp_path):
    write_base(tmp_path / "base", shapes={Q0: (64, 48)})
    write_adapter(tmp_path / "a", 1, {Q0: (48, 64)}, fan_in_fan_out=True)
    place, base = ModelLocation((tmp_path / "a",)), Checkpoint(tmp_path / "base")
    row = audit_rows("m", audit_parts(place, base, [Q0], NF4))[0]
    assert [row[column] for column in COLUMNS[4:]] == [None] * 3
    assert 0.2 < row["merged_error"] < 0.5


def test_without_base_or_adapter_there_are_no_rows(tmp_path):
    write_base(tmp_path / "base")
    write_adapter(tmp_path / "a", 1)
    base = Checkpoint(tmp_path / "base")
    for place, weights in ((ModelLocation((tmp_path / "a",)), None), (ModelLocation(), base),
                           (ModelLocation(checkpoint=tmp_path / "base"), base)):  # fmt: skip
        sums = audit_parts(place, weights, SHAPES, NF4)
        assert audit_rows("m", sums) == []


def test_untrained_tensor_has_no_shares_and_leaves_the_others_theirs(tmp_path):
    weights = write_base(tmp_path / "base")
    delta = write_adapter(tmp_path / "a", 1, zero=(UP,))
    place, base = ModelLocation((tmp_path / "a",)), Checkpoint(tmp_path / "base")
    rows = {r["key"]: r for r in audit_rows("m", audit_parts(place, base, SHAPES, NF4))}
    assert [rows[UP][column] for column in COLUMNS] == [96 * 128, 0.0, *[None] * 5]
    moved = (delta[Q0] != 0).sum() + (delta[Q1] != 0).sum()
    zeros = sum(((merged(weights[n], delta[n]) == weights[n]) & (delta[n] != 0)).sum()
                for n in (Q0, Q1))  # fmt: skip
    assert rows["all"]["merged_false_zeros"] == pytest.approx(zeros / moved, rel=2e-3)


def test_merge_into_float32_loses_next_to_nothing(tmp_path):
    write_base(tmp_path / "base", dtype=torch.float32)
    write_adapter(tmp_path / "a", 1)
    place, base = ModelLocation((tmp_path / "a",)), Checkpoint(tmp_path / "base")
    row = audit_rows("m", audit_parts(place, base, SHAPES, NF4))[0]
    assert 0 < row["merged_error"] < 1e-4
    assert row["merged_false_zeros"] < 1e-3
    assert row["dequantized_error"] < 1e-4
    assert 10 < row["quantization_noise"] < 30  # 4 bits: about 9 % of the weights


@pytest.mark.parametrize("threads", [1, 4])
def test_rows_any_shards_threads_and_order_have_the_same_bits(tmp_path, threads):
    shapes = {**SHAPES, Q0: (700, 2048)}
    write_base(tmp_path / "base", shapes=shapes)
    write_adapter(tmp_path / "a", 1, shapes)

    def part(names):
        base = Checkpoint(tmp_path / "base")
        return audit_parts(ModelLocation((tmp_path / "a",)), base, names, NF4)

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected_rows = audit_rows("m", part(shapes))
        torch.set_num_threads(threads)
        order = random.Random(threads).sample(sorted(shapes), 3)
        with ThreadPoolExecutor(threads) as pool:
            found = {k: v for some in pool.map(part, [[n] for n in order]) for k, v in some.items()}
        assert audit_rows("m", found) == expected_rows
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_merge_that_overflows_is_an_error_that_names_the_tensor(tmp_path):
    write_base(tmp_path / "base", dtype=torch.float16)
    write_adapter(tmp_path / "a", 1, size=1e5)
    place, base = ModelLocation((tmp_path / "a",)), Checkpoint(tmp_path / "base")
    with pytest.raises(NonFiniteError, match=r"layers\.0\.mlp\.up_proj"):
        audit_parts(place, base, [UP])
