"""Kept values of 4-bit layers against bitsandbytes' own passes, bit by bit."""

from __future__ import annotations

import copy

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from torch import nn

from raylab.train import kept_values
from raylab.train.kept_values import keep_values


def layer_of(dtype=torch.float32, kind="nf4", double=False, bias=False, compute=None):
    """A layer of 96 inputs and 40 outputs, quantised; it never repacks its codes."""
    torch.manual_seed(3)
    layer = Linear4bit(
        96,
        40,
        bias=bias,
        compute_dtype=compute or dtype,
        compress_statistics=double,
        quant_type=kind,
    )
    layer.support_avx512bf16_for_cpu = False
    return layer.to(dtype).to("cpu").requires_grad_(False)


def passes(layer, dtype, autocast=False):
    """(output, gradient of the input) of a batch of 3 sequences of 5 tokens."""
    torch.manual_seed(5)
    x = torch.randn(3, 5, 96, dtype=dtype, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        found = layer(x)
    found.backward(torch.randn(found.shape, dtype=found.dtype))
    return found.detach(), x.grad


@pytest.mark.parametrize("bias", [False, True], ids=["plain", "bias"])
@pytest.mark.parametrize("double", [False, True], ids=["once", "twice"])
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_passes_with_kept_values_are_those_of_bitsandbytes(dtype, kind, double, bias):
    own = layer_of(dtype, kind, double, bias)
    kept = copy.deepcopy(own)
    keep_values(nn.Sequential(kept))
    assert "forward" in vars(kept)
    for theirs, ours in zip(passes(own, dtype), passes(kept, dtype), strict=True):
        assert theirs.dtype == ours.dtype
        assert torch.equal(theirs, ours)


def test_passes_under_autocast_with_kept_values_are_those_of_bitsandbytes():
    own = layer_of(torch.bfloat16)
    kept = copy.deepcopy(own)
    keep_values(nn.Sequential(kept))
    for dtype in (torch.bfloat16, torch.float32):
        pairs = zip(passes(own, dtype, True), passes(kept, dtype, True), strict=True)
        assert all(torch.equal(theirs, ours) for theirs, ours in pairs)


def test_codes_and_what_is_saved_stay_as_they_were():
    model = nn.Sequential(layer_of(double=True))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    keep_values(model)
    passes(model, torch.float32)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_layer_that_computes_in_another_dtype_than_its_own_is_left_alone():
    layer = layer_of(torch.float32, compute=torch.bfloat16)
    keep_values(nn.Sequential(layer))
    assert "forward" not in vars(layer)


def test_model_of_more_values_than_the_most_is_left_alone(monkeypatch):
    model = nn.Sequential(layer_of(), nn.ReLU(), layer_of())
    values = 2 * 96 * 40 * 4
    monkeypatch.setattr(kept_values, "MOST_BYTES", values - 1)
    keep_values(model)
    assert not any("forward" in vars(layer) for layer in model)
    monkeypatch.setattr(kept_values, "MOST_BYTES", values)
    keep_values(model)
    assert ["forward" in vars(layer) for layer in model] == [True, False, True]
