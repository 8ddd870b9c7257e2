"""A sum of task vectors beside a layer does what the added matrices do."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from transformers.pytorch_utils import Conv1D

from raylab.errors import ModelError
from raylab.train.evaluate.shifted_model import ShiftedModel
from tests.lora_files import write_adapter

SIDES = st.integers(1, 7)
RANKS = st.integers(1, 12)


class One(nn.Module):
    """A model of one layer."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)


def shifted_output(model, x, shares):
    with torch.no_grad(), ShiftedModel(model).shifted(shares) as shifted:
        return shifted(x)


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, RANKS, RANKS, st.floats(0, 1), st.booleans(), st.integers(0, 2**31))
@example(1, 1, 12, 1, 0.5, False, 0)  # A rank larger than both sides.
@example(3, 5, 2, 7, 0.25, True, 1)  # B of zeros.
def test_shifted_layer_is_that_of_the_added_matrices(inputs, outputs, r_a, r_b, t, zero, seed):
    rng = np.random.default_rng(seed)
    layer = nn.Linear(inputs, outputs)
    weight = layer.weight.detach().numpy().astype(np.float64)
    x = rng.normal(size=(2, 3, inputs)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        shares, expected = {}, weight.copy()
        for name, rank, share, scale in (("a", r_a, 1 - t, 2.0), ("b", r_b, t, 0.5)):
            down, up = rng.normal(size=(rank, inputs)), rng.normal(size=(outputs, rank))
            up = 0 * up if zero and name == "b" else up
            factors = {"layer": (down, up)}
            path = write_adapter(Path(folder, name), factors, lora_alpha=scale * rank)
            shares[path] = share
            expected += share * scale * up.astype(np.float32) @ down.astype(np.float32)
        found = shifted_output(One(layer), torch.from_numpy(x), shares).numpy()
    wanted = x.astype(np.float64) @ expected.T + layer.bias.detach().numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def factors_of(outputs, inputs, rank=2, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rank, inputs)), rng.normal(size=(outputs, rank))


def test_shifted_embedding_and_conv1d_are_those_of_the_added_matrices(tmp_path):
    embedding, conv = One(nn.Embedding(9, 4)), One(Conv1D(5, 4))
    down, up = factors_of(5, 4)
    path = write_adapter(tmp_path / "conv", {"layer": (down, up)}, fan_in_fan_out=True)
    x = torch.randn(3, 4)
    found = shifted_output(conv, x, {path: 0.5}).numpy()
    weight = conv.layer.weight.detach().numpy() + (up @ down).T
    bias = conv.layer.bias.detach().numpy()
    np.testing.assert_allclose(found, x.numpy() @ weight + bias, rtol=1e-4, atol=1e-4)
    ids = torch.tensor([[1, 8, 1]])
    from safetensors.numpy import save_file

    a, b = factors_of(4, 9)
    path = write_adapter(tmp_path / "embedding", {"layer": (a, b)})
    names = ("lora_embedding_A", "lora_embedding_B")
    tensors = {f"base_model.model.layer.{n}": v for n, v in zip(names, (a, b), strict=True)}
    save_file(
        {n: np.ascontiguousarray(v, dtype=np.float32) for n, v in tensors.items()},
        path / "adapter_model.safetensors",
    )
    found = shifted_output(embedding, ids, {path: 0.5}).numpy()
    table = embedding.layer.weight.detach().numpy() + (b @ a).T
    np.testing.assert_allclose(found, table[ids.numpy()], rtol=1e-4, atol=1e-4)


def test_shifted_model_is_the_base_model_again_after_it(tmp_path):
    model = One(nn.Linear(4, 5))
    x = torch.randn(3, 4)
    before = model(x)
    path = write_adapter(tmp_path / "a", {"layer": factors_of(5, 4)})
    assert not torch.allclose(shifted_output(model, x, {path: 1.0}), before, atol=1e-2)
    assert model(x).equal(before)
    assert shifted_output(model, x, {}).equal(before)


def test_shifted_model_does_not_depend_on_the_points_before(tmp_path):
    model = One(nn.Linear(4, 5))
    paths = [write_adapter(tmp_path / str(n), {"layer": factors_of(5, 4, 2, n)}) for n in range(3)]
    x, shifted = torch.randn(3, 4), ShiftedModel(model)
    found = []
    for shares in ({paths[0]: 0.5, paths[1]: 0.5}, {paths[2]: 1.0}, {paths[0]: 0.5, paths[1]: 0.5}):
        with torch.no_grad(), shifted.shifted(shares) as changed:
            found.append(changed(x))
    assert found[0].equal(found[2]) and not found[0].equal(found[1])
    assert shifted_output(model, x, {paths[2]: 1.0}).equal(found[1])


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"use_dora": True}, "weights"),
        ({"modules_to_save": ["head"]}, "head"),
        ({"lora_bias": True}, "layer"),
    ],
)
def test_adapter_that_is_more_than_products_is_refused(tmp_path, changes, what):
    from safetensors.numpy import load_file, save_file

    path = write_adapter(tmp_path / "a", {"layer": factors_of(5, 4)}, **changes)
    file, stem = path / "adapter_model.safetensors", "base_model.model."
    more = {
        "use_dora": {f"{stem}layer.lora_magnitude_vector": np.ones(5, np.float32)},
        "modules_to_save": {f"{stem}head.weight": np.ones((2, 2), np.float32)},
        "lora_bias": {f"{stem}layer.lora_B.bias": np.ones(5, np.float32)},
    }
    save_file({**load_file(file), **more[next(iter(changes))]}, file)
    with pytest.raises(ModelError, match=what):
        shifted_output(One(nn.Linear(4, 5)), torch.randn(1, 4), {path: 1.0})


def test_adapter_of_another_model_is_refused(tmp_path):
    path = write_adapter(tmp_path / "a", {"other": factors_of(5, 4)})
    with pytest.raises(ModelError, match="a module of the base model"):
        shifted_output(One(nn.Linear(4, 5)), torch.randn(1, 4), {path: 1.0})
    path = write_adapter(tmp_path / "b", {"layer": factors_of(5, 4)})
    with pytest.raises(ModelError, match="a linear layer"):
        shifted_output(One(nn.LayerNorm(4)), torch.randn(1, 4), {path: 1.0})
