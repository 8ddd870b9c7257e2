"""PEFT adapters: deltas as PEFT computes them, and refusals by name."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, VeraConfig, get_peft_model
from peft.utils.other import get_pattern_key
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM

from raylab.errors import ModelError
from raylab.weights import Checkpoint, row_tiles
from raylab.weights.adapter import Adapter
from raylab.weights.adapter_config import AdapterConfig, read_config
from tests.architectures import (
    edited_adapter,
    merged_by_peft,
    save_adapter,
    save_random,
    tiny_model,
)

BF16 = torch.bfloat16
Q_PROJ = "model.layers.1.self_attn.q_proj"


@pytest.fixture(scope="module")
def base(bases):
    return bases["qwen2", BF16]


@pytest.fixture(scope="module")
def plain(base, tmp_path_factory):
    """An adapter of plain LoRA parts."""
    return save_adapter(tmp_path_factory.mktemp("plain"), base)


def edited(path, tmp_path, **changes):
    """A copy of the adapter at `path`; see `edited_adapter`."""
    return edited_adapter(path, tmp_path / "copy", **changes)


def whole(adapter, name):
    """The delta of one tensor, put together from its tiles."""
    shape = adapter.shapes[name]
    return torch.cat([adapter.rows(name, *bounds) for bounds in row_tiles.tiles(shape)]).reshape(
        shape
    )


@pytest.mark.parametrize("dtype", [torch.float32, BF16])
def test_rows_equal_peft_delta_weight_bit_for_bit(base, tmp_path, monkeypatch, dtype):
    monkeypatch.setattr(row_tiles, "TILE_ENTRIES", 64 * 37)
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    lora = {"use_rslora": True, "rank_pattern": {"k_proj": 2}, "alpha_pattern": {r"mlp\..*": 5}}
    model = get_peft_model(model, LoraConfig(r=8, target_modules="all-linear", **lora))
    save_random(model, tmp_path, 1)
    stored = load_file(tmp_path / "adapter_model.safetensors")
    cast = {key: tensor.to(dtype) for key, tensor in stored.items()}
    save_file(cast, tmp_path / "adapter_model.safetensors")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(parameter.to(dtype))
    modules = dict(model.base_model.model.named_modules())
    adapter = Adapter.open(tmp_path)
    assert len(adapter.names) == 14
    for name in adapter.names:
        module = modules[name.removesuffix(".weight")]
        expected = module.get_delta_weight("default").detach()
        assert adapter.shapes[name] == tuple(expected.shape)
        assert torch.equal(whole(adapter, name), expected), name
        assert adapter.factors(name)[2] == module.scaling["default"]


def test_rows_of_embedding_and_factors_have_the_shape_of_the_weight(base, tmp_path):
    path = save_adapter(tmp_path, base, target_modules=["embed_tokens"])
    checkpoint = Checkpoint(base)
    name = "model.embed_tokens.weight"
    stored = load_file(path / "adapter_model.safetensors")
    kept = edited(path, tmp_path, drop="base_layer.weight")
    adapter = Adapter.open(kept, checkpoint)
    down, up, scale = adapter.factors(name)
    prefix = "base_model.model.model.embed_tokens.lora_embedding_"
    expected = 4.0 * (stored[f"{prefix}B"].double() @ stored[f"{prefix}A"].double()).T
    assert torch.allclose(whole(adapter, name).double(), expected, atol=1e-6)
    assert torch.allclose(scale * (up @ down).double(), expected, atol=1e-6)
    assert adapter.low_rank == {name}
    with_copy = Adapter.open(path, checkpoint)
    assert with_copy.low_rank == frozenset()
    assert torch.allclose(whole(with_copy, name).double(), expected, atol=1e-6)


KINDS = {
    "DoRA": {"use_dora": True},
    "modules_to_save": {"modules_to_save": ["lm_head"]},
    "bias": {"bias": "lora_only"},
    "embedding": {"target_modules": ["embed_tokens"]},
    "tokens": {"trainable_token_indices": [3, 7]},
}


@pytest.mark.parametrize("kind", KINDS)
def test_adapter_that_needs_the_base_is_refused_without_it(base, tmp_path, kind):
    path = save_adapter(tmp_path, base, **KINDS[kind])
    with pytest.raises(ModelError, match=r"depends on the base model's weights(.*\n)*.*--base"):
        Adapter.open(path)
    assert Adapter.open(path, Checkpoint(base)).names


@pytest.mark.parametrize("kind", ["DoRA", "modules_to_save", "bias", "tokens"])
def test_rows_of_what_needs_the_base_equal_float64(base, tmp_path, kind):
    path = save_adapter(tmp_path, base, **KINDS[kind])
    checkpoint = Checkpoint(base)
    adapter = Adapter.open(path, checkpoint)
    stored = load_file(path / "adapter_model.safetensors")
    name, expected = {
        "DoRA": lambda: dora(stored, checkpoint),
        "modules_to_save": lambda: saved(stored, checkpoint, "lm_head.weight"),
        "bias": lambda: saved(stored, checkpoint, f"{Q_PROJ}.bias", f"{Q_PROJ}.base_layer.bias"),
        "tokens": lambda: tokens(stored, checkpoint),
    }[kind]()
    assert torch.count_nonzero(expected)
    assert torch.allclose(whole(adapter, name).double(), expected, rtol=1e-5, atol=1e-6)


def weight_of(checkpoint, name):
    shape = checkpoint.shapes[name]
    return checkpoint.raw(name, 0, shape[0] if len(shape) > 1 else 1).double().reshape(shape)


def dora(stored, checkpoint):
    prefix = f"base_model.model.{Q_PROJ}"
    factors = [stored[f"{prefix}.lora_{side}.weight"].double() for side in "BA"]
    start = weight_of(checkpoint, f"{Q_PROJ}.weight")
    direction = start + 4.0 * (factors[0] @ factors[1])
    magnitude = stored[f"{prefix}.lora_magnitude_vector"].double()
    scaled = magnitude[:, None] * direction / direction.pow(2).sum(1, keepdim=True).sqrt()
    return f"{Q_PROJ}.weight", scaled - start


def saved(stored, checkpoint, name, key=None):
    return name, stored[f"base_model.model.{key or name}"].double() - weight_of(checkpoint, name)


def tokens(stored, checkpoint):
    name = "model.embed_tokens.weight"
    rows = stored["base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"]
    delta = torch.zeros(160, 64, dtype=torch.float64)
    delta[[3, 7]] = rows.double() - weight_of(checkpoint, name)[[3, 7]]
    return name, delta


def test_rows_of_head_replaced_and_scaled_equal_what_peft_makes_of_it(bases, tmp_path):
    base = bases["qwen2", torch.float32]
    path = save_adapter(tmp_path, base, use_dora=True, target_modules=["lm_head"])
    key = "base_model.model.lm_head.base_layer.weight"
    moved = load_file(path / "adapter_model.safetensors")[key] + torch.linspace(-1, 1, 64)
    changed = edited(path, tmp_path, drop=key, add={key: moved})
    checkpoint = Checkpoint(base)
    delta = whole(Adapter.open(changed, checkpoint), "lm_head.weight").double()
    merged = merged_by_peft(base, changed)["lm_head.weight"].double()
    assert torch.allclose(delta, merged - weight_of(checkpoint, "lm_head.weight"), atol=1e-6)


def test_adapter_head_of_gpt_neox_is_found_under_its_stored_name(bases, tmp_path):
    base = bases["gpt_neox", BF16]
    path = save_adapter(tmp_path, base, modules_to_save=["lm_head"])
    assert "embed_out.weight" in Adapter.open(path, Checkpoint(base)).shapes


REFUSED = {
    "peft_type": "IA3",
    "layer_replication": [[0, 1]],
    "target_parameters": ["experts.gate"],
    "alora_invocation_tokens": [1, 2],
    "use_qalora": True,
    "arrow_config": {"top_k": 2},
    "megatron_config": {"a": 1},
    "init_lora_weights": "pissa",
    "use_a_thing_of_tomorrow": 1,
    "rank_pattern": {"(": 2},
    "lora_alpha": "many",
    "r": 0,
    "alpha_pattern": [1],
}


@pytest.mark.parametrize("field", REFUSED)
def test_adapter_config_that_is_not_read_is_refused_by_name(plain, tmp_path, field):
    path = edited(plain, tmp_path, **{field: REFUSED[field]})
    named = "IA3" if field == "peft_type" else field
    with pytest.raises(ModelError, match=named) as caught:
        Adapter.open(path)
    assert caught.value.exit_status == 2


def test_adapter_dora_on_conv1d_is_refused_by_name(plain, tmp_path):
    path = edited(plain, tmp_path, use_dora=True, fan_in_fan_out=True)
    with pytest.raises(ModelError, match="use_dora with fan_in_fan_out"):
        Adapter.open(path)


def test_adapter_weight_saved_under_two_names_is_refused(base, tmp_path):
    path = save_adapter(tmp_path, base, target_modules=["embed_tokens"])
    twice = {"base_model.model.model.embed_tokens.weight": torch.ones(160, 64)}
    with pytest.raises(ModelError, match=r"not read\n.*embed_tokens"):
        Adapter.open(edited(path, tmp_path, add=twice), Checkpoint(base))


def test_adapter_config_as_peft_writes_it_is_read(plain, tmp_path):
    config = json.loads((plain / "adapter_config.json").read_text())
    assert {"alora_invocation_tokens", "layer_replication", "init_lora_weights"} <= set(config)
    Adapter.open(edited(plain, tmp_path, init_lora_weights="gaussian", lora_dropout=0.5))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"drop": "layers.0.self_attn.q_proj.lora_A.weight"}, r"q_proj do not form pairs"),
        ({"drop": "layers.0.self_attn.q_proj.lora_B.weight"}, r"q_proj do not form pairs"),
        ({"add": {"base_model.model.x.vera_lambda_b": torch.ones(2)}}, "depends on"),
        ({"add": {"base_model.model.x.lora_C.weight": torch.ones(2, 2)}}, "lora_C"),
        ({"add": {"model.x.lora_A.weight": torch.ones(2, 2)}}, r"not read\n.*model\.x\.lora_A"),
        ({"add": {"base_model.model.x.lora_A.weight": torch.ones(4, 2).int()}}, "I32"),
        ({"add": {f"base_model.model.{Q_PROJ}.lora_A.weight": torch.ones(4, 2, 1)}}, "do not fit"),
        ({"r": 8}, "do not fit"),
        ({"use_dora": True}, "magnitude for DoRA"),
    ],
)
def test_adapter_tensors_that_are_not_read_are_refused_by_name(plain, tmp_path, change, named):
    with pytest.raises(ModelError, match=named):
        Adapter.open(edited(plain, tmp_path, **change))


def test_adapter_unknown_tensor_is_refused_with_the_base_too(plain, base, tmp_path):
    path = edited(plain, tmp_path, add={"base_model.model.x.vera_lambda_b": torch.ones(2)})
    with pytest.raises(ModelError, match=r"does not fit(.*\n)*.*x\.vera_lambda_b.*not in the base"):
        Adapter.open(path, Checkpoint(base))


def test_adapter_of_another_kind_is_refused(base, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    get_peft_model(model, VeraConfig(r=4, target_modules=["q_proj"])).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="VERA"):
        Adapter.open(tmp_path)


class Convolutions(nn.Module):
    def __init__(self, groups=1):
        super().__init__()
        self.one = nn.Conv1d(4, 6, 3, groups=groups)
        self.two = nn.Conv2d(4, 6, 2, groups=groups)
        self.pointwise = nn.Conv2d(4, 6, 1, groups=groups)
        self.three = nn.Conv3d(4, 6, 2, groups=groups)


CONVOLUTIONS = LoraConfig(target_modules=["one", "two", "pointwise", "three"], r=2, lora_alpha=3)


def test_rows_of_a_convolution_equal_peft_delta_weight(tmp_path):
    model = get_peft_model(Convolutions(), CONVOLUTIONS)
    save_random(model, tmp_path / "adapter", 0)
    weights = {name: w.detach().clone() for name, w in Convolutions().state_dict().items()}
    (tmp_path / "base").mkdir()
    save_file(weights, tmp_path / "base" / "model.safetensors")
    base = Checkpoint(tmp_path / "base")
    for adapter in (Adapter.open(tmp_path / "adapter"), Adapter.open(tmp_path / "adapter", base)):
        assert len(adapter.names) == 4
        for name in adapter.names:
            layer = model.base_model.model.get_submodule(name.removesuffix(".weight"))
            expected = layer.get_delta_weight("default").detach()
            assert adapter.shapes[name] == tuple(expected.shape)
            found = adapter.rows(name, 0, 6)
            assert torch.allclose(found, expected.flatten(1), atol=1e-6), name
            assert found.abs().max() > 1e-4


def test_adapter_convolution_of_several_groups_is_refused_by_name(tmp_path):
    lora = LoraConfig(target_modules=["two"], r=2)
    save_random(get_peft_model(Convolutions(groups=2), lora), tmp_path, 0)
    with pytest.raises(ModelError, match=r"factors of two do not fit(.*\n)*.*one group"):
        Adapter.open(tmp_path)


def test_adapter_dora_on_embedding_is_refused_by_name(base, tmp_path):
    path = save_adapter(tmp_path, base, use_dora=True, target_modules=["embed_tokens"])
    with pytest.raises(ModelError, match="embed_tokens do not form pairs that are read"):
        Adapter.open(path, Checkpoint(base))


@pytest.mark.parametrize("indices", [[3, 3], [3, 160], [3, -1], [3], [], {"lm_head": [3, 7]}])
def test_adapter_tokens_that_do_not_fit_are_refused(base, tmp_path, indices):
    path = save_adapter(tmp_path, base, **KINDS["tokens"])
    changed = edited(path, tmp_path, trainable_token_indices=indices)
    with pytest.raises(ModelError, match=r"trained tokens of model\.embed_tokens do not fit"):
        Adapter.open(changed, Checkpoint(base))


def test_adapter_of_another_base_is_refused_by_name(plain, bases):
    with pytest.raises(ModelError, match="does not fit the base model") as caught:
        Adapter.open(plain, Checkpoint(bases["gpt_neox", BF16]))
    assert "model.layers.0" in str(caught.value.found)
    assert "(14 in all)" in str(caught.value.found)


def test_adapter_of_a_base_in_other_shapes_is_refused_by_name(plain, tmp_path):
    tiny_model("qwen2", intermediate_size=96).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"up_proj\.weight \(128, 64\), \(96, 64\) in the base"):
        Adapter.open(plain, Checkpoint(tmp_path))


def test_adapter_pickle_alone_is_refused_with_the_way_out(plain, tmp_path):
    copy = edited(plain, tmp_path)
    (copy / "adapter_model.safetensors").rename(copy / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"pickles(.*\n)*.*PeftModel"):
        Adapter.open(copy)


def test_adapter_without_config_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"adapter_config\.json cannot be read"):
        Adapter.open(tmp_path)


modules = st.sampled_from(
    ["model.layers.1.mlp.up_proj", "model.layers.11.mlp.up_proj", "up_proj", "h.0.attn.q_proj"]
)
patterns = st.lists(
    st.sampled_from(
        [
            "up_proj",
            "mlp.up_proj",
            "proj",
            "layers\\.1\\..*",
            ".*\\.1\\.mlp.*",
            "q_proj|up_proj",
            "^model.*",
            "1.mlp",
            ".*",
        ]
    ),
    max_size=4,
    unique=True,
)


@given(module=modules, ranks=patterns, alphas=patterns)
def test_scale_any_patterns_match_as_peft_matches(module, ranks, alphas):
    by_rank = {pattern: 2 + at for at, pattern in enumerate(ranks)}
    by_alpha = {pattern: 10.0 + at for at, pattern in enumerate(alphas)}
    config = AdapterConfig(r=16, lora_alpha=64, rank_pattern=by_rank, alpha_pattern=by_alpha)
    rank = by_rank.get(get_pattern_key(by_rank, module), 16)
    alpha = by_alpha.get(get_pattern_key(by_alpha, module), 64)
    assert config.rank_of(module) == rank
    assert config.scale_of(module) == alpha / rank
    stabilised = config.model_copy(update={"use_rslora": True})
    assert stabilised.scale_of(module) == alpha / math.sqrt(rank)


config_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
config_fields = st.sampled_from([*AdapterConfig.model_fields, *REFUSED, "anything"])


@settings(max_examples=120, deadline=None)
@given(fields=st.dictionaries(config_fields, config_values, max_size=3))
def test_config_any_fields_are_read_or_refused(tmp_path_factory, fields):
    directory = tmp_path_factory.getbasetemp()
    (directory / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"} | fields))
    try:
        config = read_config(directory)
    except ModelError:
        return
    assert config.scale_of("a.b") == config.scale_of("a.b")
    assert config.rank_of("a.b") >= 1
