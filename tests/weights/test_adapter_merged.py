"""Merging by rows, bit for bit what PEFT's merge_and_unload makes of whole tensors."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from raylab.weights import Checkpoint, row_tiles
from raylab.weights.adapter import Adapter
from raylab.weights.quantized_base import MergedWeights
from tests.architectures import merged_by_peft, save_adapter, save_random

BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32
EMBEDDING = {"gpt_neox": "embed_in"}
PATTERNS = {
    "use_rslora": True,
    "rank_pattern": {r".*\.0\..*(q_proj|query_key_value)": 2, "q_proj": 3},
    "alpha_pattern": {"mlp.*": 5, ".*_proj": 7},
    "bias": "all",
    "modules_to_save": ["input_layernorm"],
}


@pytest.fixture(autouse=True)
def many_tiles(monkeypatch):
    """Tiles of 37 rows of 64 columns, so that every tensor has several, the last one smaller."""
    monkeypatch.setattr(row_tiles, "TILE_ENTRIES", 64 * 37)


def lora_of(kind, architecture):
    embedding = EMBEDDING.get(architecture, "embed_tokens")
    return {
        "patterns": PATTERNS,
        "dora": {"use_dora": True, "bias": "lora_only"},
        "embeddings": {"target_modules": [embedding, "v_proj", "dense"]},
        "tokens": {"trainable_token_indices": {embedding: [77, 3]}},
        "head": {"modules_to_save": ["lm_head"], "init_lora_weights": "gaussian"},
    }[kind]


def mismatches(weights, expected):
    """How many entries differ, by tensor, over all row tiles of all tensors."""
    found = {}
    for name, shape in weights.shapes.items():
        rows = [weights.raw(name, *bounds) for bounds in row_tiles.tiles(shape)]
        merged = torch.cat(rows).reshape(shape)
        assert merged.dtype == expected[name].dtype
        found[name] = int((merged != expected[name]).sum())
    return {name: count for name, count in found.items() if count}


CASES = [
    ("llama", BF16, "patterns"),
    ("qwen2", F16, "patterns"),
    ("gpt_neox", BF16, "patterns"),
    ("mistral", BF16, "dora"),
    ("qwen2", F32, "dora"),
    ("gemma2", BF16, "dora"),
    ("gpt_neox", BF16, "dora"),
    ("qwen2", F16, "embeddings"),
    ("gemma2", BF16, "embeddings"),
    ("gpt_neox", BF16, "embeddings"),
    ("gemma2", BF16, "tokens"),
    ("gpt_neox", BF16, "tokens"),
    ("gpt_neox", BF16, "head"),
    ("mistral", BF16, "head"),
]
"""Every architecture, dtype and kind; each kind with both ways to lay out a model."""


@pytest.mark.parametrize(("architecture", "dtype", "kind"), CASES)
def test_merged_rows_equal_peft_merge_bit_for_bit(bases, tmp_path, architecture, dtype, kind):
    base = bases[architecture, dtype]
    path = save_adapter(tmp_path, base, **lora_of(kind, architecture))
    checkpoint = Checkpoint(base)
    adapter = Adapter.open(path, checkpoint)
    assert len(adapter.shapes) >= (3 if kind == "embeddings" else 8)
    assert mismatches(MergedWeights(checkpoint, [adapter]), merged_by_peft(base, path)) == {}


def test_merged_chain_rounds_after_each_as_peft(bases, tmp_path):
    base = bases["gemma2", BF16]
    parent = save_adapter(tmp_path / "parent", base, 1, use_rslora=True)
    child = save_adapter(tmp_path / "child", base, 2, use_dora=True)
    checkpoint = Checkpoint(base)
    first = Adapter.open(parent, checkpoint)
    second = Adapter.open(child, MergedWeights(checkpoint, [first]))
    expected = merged_by_peft(base, parent, child)
    assert mismatches(MergedWeights(checkpoint, [first, second]), expected) == {}
    assert mismatches(MergedWeights(checkpoint, [second, first]), expected) != {}


def test_merged_bias_of_lora_b_equals_peft(bases, tmp_path):
    base = bases["gpt_neox", BF16]
    path = save_adapter(tmp_path, base, lora_bias=True)
    checkpoint = Checkpoint(base)
    adapter = Adapter.open(path, checkpoint)
    assert "gpt_neox.layers.0.mlp.dense_h_to_4h.bias" in adapter.shapes
    assert mismatches(MergedWeights(checkpoint, [adapter]), merged_by_peft(base, path)) == {}


def test_merged_conv1d_equals_peft(tmp_path):
    config = GPT2Config(n_embd=48, n_layer=2, n_head=4, vocab_size=90, n_positions=40)
    GPT2LMHeadModel(config).to(BF16).save_pretrained(tmp_path / "base")
    path = save_adapter(
        tmp_path / "adapter", tmp_path / "base", target_modules=["c_attn", "c_fc"], bias="lora_only"
    )
    checkpoint = Checkpoint(tmp_path / "base")
    adapter = Adapter.open(path, checkpoint)
    assert adapter.shapes["transformer.h.0.attn.c_attn.weight"] == (48, 144)
    assert len(adapter.conv1d) == 4
    expected = merged_by_peft(tmp_path / "base", path)
    assert mismatches(MergedWeights(checkpoint, [adapter]), expected) == {}


class OneLinear(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.lin = nn.Linear(*reversed(weight.shape), bias=False)
        self.lin.weight.data = weight.clone()


@pytest.mark.parametrize("rank", [1, 8, 33])
def test_merged_last_tile_of_one_row_equals_peft(tmp_path, monkeypatch, rank):
    monkeypatch.setattr(row_tiles, "TILE_ENTRIES", 1 << 20)
    weight = torch.randn(1025, 2048, generator=torch.Generator().manual_seed(rank))
    save_file({"lin.weight": weight}, tmp_path / "model.safetensors")
    lora = LoraConfig(r=rank, lora_alpha=16, target_modules=["lin"])
    save_random(get_peft_model(OneLinear(weight), lora), tmp_path, rank)
    merged = PeftModel.from_pretrained(OneLinear(weight), tmp_path).merge_and_unload()
    checkpoint = Checkpoint(tmp_path)
    assert [stop - start for start, stop in row_tiles.tiles(weight.shape)] == [512, 512, 1]
    found = MergedWeights(checkpoint, [Adapter.open(tmp_path, checkpoint)])
    assert mismatches(found, {"lin.weight": merged.lin.weight.data}) == {}
