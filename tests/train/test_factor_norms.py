"""Inner products, steps and sketches out of factors, held against deltas that are formed."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from raylab.train.factor_norms import (
    SKETCH,
    Factors,
    Group,
    groups_of,
    products,
    signs_of,
    steps_between,
)
from tests.architectures import tiny_model


def random_factors(seed, count=2, rank=3, rows=7, columns=5):
    draw = torch.Generator().manual_seed(seed)
    left = torch.randn(count, rank, rows, generator=draw)
    return Factors(left, torch.randn(count, rank, columns, generator=draw))


def formed(factors):
    return factors.left.double().mT @ factors.right.double()


def group(rows, columns, name="a.0.b"):
    left, right = signs_of(name, rows, columns)
    return Group(
        (name,), (), torch.ones(1, 1, dtype=torch.float64), Factors(left[None], right[None])
    )


def sketch(up, down, name="a.0.b"):
    """The sketch of up @ down, which `Group.measure` gives after three numbers."""
    of = group(up.shape[0], down.shape[1], name)
    return of.measure(Factors(up.mT[None], down[None]), [])[0, 3:]


def adapted(drawn=True, **config):
    torch.manual_seed(0)
    values = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", **config}
    model = get_peft_model(tiny_model("llama"), LoraConfig(**values))
    for name, parameter in model.named_parameters():
        if drawn and "lora_" in name:
            parameter.data = torch.randn_like(parameter)
    return model


def test_products_of_factors_are_those_of_the_deltas():
    one, other = (random_factors(seed).to("cpu", torch.float64) for seed in (1, 2))
    both = Factors(torch.cat([one.left, other.left], 1), torch.cat([one.right, other.right], 1))
    deltas = torch.stack([formed(one), formed(other)], dim=1)
    expected = (formed(one)[:, None] * deltas).sum((2, 3))
    assert products(one, both).numpy() == pytest.approx(expected.numpy(), rel=1e-12)


def test_steps_between_records_are_the_differences_of_the_deltas():
    records = [random_factors(seed).to("cpu", torch.float64) for seed in (1, 2, 3)]
    steps = steps_between(records)
    first, second = (
        formed(Factors(steps.left[:, part], steps.right[:, part]))
        for part in (slice(0, 6), slice(6, 12))
    )
    assert torch.allclose(first, formed(records[0]) - formed(records[1]))
    assert torch.allclose(second, formed(records[1]) - formed(records[2]))


def test_step_that_is_a_millionth_of_the_delta_keeps_its_digits():
    before = random_factors(1, count=1)
    now = Factors(before.left * (1 + 2**-20), before.right)
    found = group(7, 5).measure(now, [before])[0]
    wide = [np.array(part, dtype=np.longdouble) for part in (now.left, before.left, now.right)]
    exact = (wide[0] - wide[1])[0].T @ wide[2][0]
    assert float(found[1]) == pytest.approx(float((exact**2).sum()), rel=1e-12)
    assert float(found[1] / found[0]) == pytest.approx(2**-40, rel=1e-2)


def test_sketch_is_the_projection_onto_its_signs():
    up, down = torch.randn(7, 3).double(), torch.randn(3, 5).double()
    left, right = (side.double() for side in signs_of("a.0.b", 7, 5))
    expected = torch.stack([u @ (up @ down) @ v for u, v in zip(left, right, strict=True)])
    assert sketch(up, down).numpy() == pytest.approx((expected / SKETCH**0.5).numpy())


def test_sketch_of_equal_deltas_is_equal_whatever_the_factors():
    up, down = torch.randn(7, 3), torch.randn(3, 5)
    order, powers = torch.tensor([2, 0, 1]), torch.tensor([0.5, 4.0, 2.0])
    known = sketch(up, down)
    assert torch.equal(sketch(up * powers, down / powers[:, None]), known)
    assert torch.allclose(sketch(up[:, order], down[order]), known, rtol=1e-12)
    mix = torch.randn(3, 3).double()
    other = sketch(up.double() @ mix, torch.linalg.solve(mix, down.double()))
    wider = sketch(torch.cat([up, up], 1), torch.cat([down, -down]) * 0.5)
    assert torch.allclose(other, known, rtol=1e-5)
    assert wider.abs().max() < 1e-12


def test_sketches_of_many_names_estimate_products_without_bias():
    one, other = (random_factors(seed, count=1, rows=24, columns=16) for seed in (1, 2))
    other = Factors(other.left, other.right + one.right)
    names = [f"a.{place}.b" for place in range(2000)]
    a, b = (
        torch.stack([sketch(side.left[0].mT, side.right[0], name) for name in names])
        for side in (one, other)
    )
    lengths = formed(one).norm() * formed(other).norm()
    found = (a * b).sum(1) / lengths
    true = (formed(one) * formed(other)).sum() / lengths
    assert float(found.mean()) == pytest.approx(float(true), abs=4 * float(found.std()) / 2000**0.5)
    assert float((a.square().sum(1)).mean()) == pytest.approx(
        float(formed(one).norm() ** 2), rel=0.05
    )


def test_cosines_of_sketches_of_orthogonal_deltas_deviate_by_a_quarter():
    one, other = (torch.zeros(24, 6), torch.zeros(24, 6))
    one[:12], other[12:] = torch.randn(12, 6), torch.randn(12, 6)
    down = torch.randn(6, 16)
    names = [f"a.{place}.b" for place in range(2000)]
    a, b = (torch.stack([sketch(up, down, name) for name in names]) for up in (one, other))
    cosines = torch.nn.functional.cosine_similarity(a, b)
    assert 0.2 < float(cosines.std()) < 0.3
    assert float(cosines.mean()) == pytest.approx(0, abs=0.03)
    assert float(torch.nn.functional.cosine_similarity(a, a).min()) == pytest.approx(1)


def test_signs_depend_on_name_and_shape_alone_and_stay_what_they_are():
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    left, right = signs_of("model.layers.0.self_attn.q_proj", 192, 64)
    assert left.shape == (SKETCH, 192) and right.shape == (SKETCH, 64)
    assert left.dtype == torch.int8 and {*left.flatten().tolist()} == {-1, 1}
    digest = hashlib.sha256(left.numpy().tobytes() + right.numpy().tobytes()).hexdigest()
    assert digest == "ff017756d2f57dc5cb4008aec384420a8498bb147cf855c588436ed54cc9c67d"
    assert not torch.equal(signs_of("model.layers.1.self_attn.q_proj", 192, 64)[0], left)
    assert not torch.equal(signs_of("model.layers.0.self_attn.q_proj", 192, 65)[0], left)
    assert torch.equal(torch.get_rng_state(), state[0])
    assert np.array_equal(np.random.get_state()[1], state[1])


@pytest.mark.parametrize("rslora", [False, True])
def test_groups_hold_each_module_once_in_one_shape_with_its_scale(rslora):
    groups = groups_of(adapted(use_rslora=rslora))
    names = [name for group in groups for name in group.names]
    assert len(names) == len({*names}) == 14
    for found in groups:
        assert len({(up.shape, down.shape) for up, down in found.weights}) == 1
        assert {*found.scales.flatten().tolist()} == {8 / 4**0.5 if rslora else 2.0}


def test_groups_of_many_entries_are_small_and_measure_the_same(monkeypatch):
    model = adapted()
    whole = {n: row for g in groups_of(model) for n, row in measured(g).items()}
    monkeypatch.setattr("raylab.train.factor_norms._MOST_ENTRIES", 1)
    groups = groups_of(model)
    assert {len(group.names) for group in groups} == {1}
    for group in groups:
        for name, row in measured(group).items():
            assert torch.allclose(row[:1], whole[name][:1])
            assert torch.allclose(row[3:], whole[name][3:])


def measured(group):
    return dict(zip(group.names, group.measure(group.factors(), []), strict=True))


def test_groups_leave_out_other_adapters_and_what_is_no_matrix():
    model = adapted()
    model.add_adapter("parent", LoraConfig(r=2, target_modules=["lm_head"]))
    assert "lm_head" not in {name for group in groups_of(model) for name in group.names}
    cube = torch.zeros(4, 3, 2)
    layer = torch.nn.Module()
    layer.lora_A = torch.nn.ModuleDict({"default": torch.nn.Conv1d(3, 4, 2)})
    layer.lora_B = torch.nn.ModuleDict({"default": torch.nn.Conv1d(4, 3, 1)})
    assert layer.lora_A["default"].weight.shape == cube.shape
    assert groups_of(SimpleNamespace(get_base_model=lambda: torch.nn.Sequential(layer))) == ()


def test_groups_of_embeddings_measure_the_same_norm_as_their_transposes():
    model = adapted(target_modules=["embed_tokens", "lm_head"])
    weights = {}
    for name, value in model.named_parameters():
        if "lora_" in name:
            weights.setdefault("embed" if "embed" in name else "head", []).append(
                value.detach().double()
            )
    found = {n: row for g in groups_of(model) for n, row in measured(g).items()}
    assert {*found} == {"model.embed_tokens", "lm_head"}
    for name, key in (("model.embed_tokens", "embed"), ("lm_head", "head")):
        down, up = weights[key]
        expected = float(((2 * up @ down) ** 2).sum())
        assert float(found[name][0]) == pytest.approx(expected, rel=1e-6)
