"""One model under each view, against PEFT and models really loaded in 4 bits."""

from __future__ import annotations

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from raylab.errors import ModelError
from raylab.spec.study import Quantization
from raylab.store.references import ModelLocation
from raylab.train.model import load_base
from raylab.weights import Checkpoint, row_tiles
from raylab.weights.views import View, ViewedModel
from tests.architectures import merged_by_peft, save_adapter, save_tiny, tiny_model

MERGED = View("merged")
Q_PROJ = "model.layers.0.self_attn.q_proj.weight"
UP_PROJ = "model.layers.1.mlp.up_proj.weight"
NORM = "model.norm.weight"


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Tiles of 23 rows of 64 columns, in one thread."""
    monkeypatch.setattr(row_tiles, "TILE_ENTRIES", 64 * 23)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("base"), "llama")


@pytest.fixture(scope="module")
def parent(base, tmp_path_factory):
    return save_adapter(tmp_path_factory.mktemp("parent"), base, 1, use_rslora=True)


@pytest.fixture(scope="module")
def child(base, tmp_path_factory):
    return save_adapter(tmp_path_factory.mktemp("child"), base, 2, target_modules=["q_proj"])


def whole(rows_of, name, shape):
    """A tensor put together from its tiles; None where there is none."""
    parts = [rows_of(name, *bounds) for bounds in row_tiles.tiles(shape)]
    if any(part is None for part in parts):
        assert parts == [None] * len(parts)
        return None
    return torch.cat(parts).reshape(shape)


def peft_deltas(base, adapter):
    """float32 deltas as PEFT computes them, by the weight's name."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    model = PeftModel.from_pretrained(model, adapter).base_model.model
    return {
        f"{name}.weight": module.get_delta_weight("default").detach()
        for name, module in model.named_modules()
        if hasattr(module, "get_delta_weight")
    }


def as_loaded(checkpoint, quantization):
    """The weights of the model that training loads from `checkpoint`, dequantised, float32."""
    model = load_base(checkpoint, quantization)
    return {
        name: (
            dequantize_4bit(parameter.data, parameter.quant_state)
            if hasattr(parameter, "quant_state")
            else parameter.data
        ).float()
        for name, parameter in model.named_parameters()
    }


def test_delta_of_chain_is_the_sum_and_values_are_none(base, parent, child):
    side = ViewedModel(ModelLocation(adapters=(parent, child), base=base))
    first, second = peft_deltas(base, parent), peft_deltas(base, child)
    assert set(side.shapes) == set(first)
    for name, shape in side.shapes.items():
        expected = first[name] + second[name] if name in second else first[name]
        assert torch.equal(whole(side.delta, name, shape), expected)
        assert whole(side.values, name, shape) is None
    assert side.delta(NORM, 0, 1) is None
    assert not side.is_checkpoint
    assert side.bytes_read == 0


def test_delta_of_adapters_needs_no_base(parent, child):
    side = ViewedModel(ModelLocation(adapters=(parent, child)))
    assert side.delta(UP_PROJ, 0, 4).shape == (4, 64)


def test_delta_of_checkpoint_is_float32_difference(base, parent, tmp_path):
    other = save_tiny(tmp_path, "llama", seed=5)
    side = ViewedModel(ModelLocation(checkpoint=other, base=base))
    theirs, mine = Checkpoint(base), Checkpoint(other)
    assert side.is_checkpoint
    assert side.shapes == mine.shapes
    for name, shape in side.shapes.items():
        rows = shape[0] if len(shape) > 1 else 1
        expected = mine.raw(name, 0, rows).float() - theirs.raw(name, 0, rows).float()
        assert torch.equal(whole(side.delta, name, shape), expected.reshape(shape))
    read = sum(torch.Size(shape).numel() * 2 for shape in side.shapes.values())
    assert side.bytes_read == 2 * read


@pytest.mark.parametrize("view", [View(), MERGED, View("dequantized", Quantization())])
def test_checkpoint_values_are_its_own_under_every_view(base, tmp_path, view):
    other = save_tiny(tmp_path, "llama", seed=5)
    for place in (ModelLocation(checkpoint=other, base=base), ModelLocation(checkpoint=other)):
        side = ViewedModel(place, view)
        assert torch.equal(side.values(UP_PROJ, 3, 9), Checkpoint(other).raw(UP_PROJ, 3, 9))
        assert side.values("nothing.weight", 0, 1) is None


def test_base_itself_has_no_task_vector_and_its_weights_under_merged(base):
    checkpoint = Checkpoint(base)
    assert not ViewedModel(ModelLocation(base=base)).shapes
    assert ViewedModel(ModelLocation()).delta(UP_PROJ, 0, 2) is None
    assert ViewedModel(ModelLocation()).values(UP_PROJ, 0, 2) is None
    side = ViewedModel(ModelLocation(), MERGED, checkpoint)
    assert not side.shapes
    assert torch.equal(side.values(UP_PROJ, 0, 9), checkpoint.raw(UP_PROJ, 0, 9))


@pytest.mark.parametrize("chain", ["parent", "parent child"])
def test_merged_values_equal_peft_merge_of_the_chain(base, parent, child, chain):
    paths = tuple({"parent": parent, "child": child}[name] for name in chain.split())
    side = ViewedModel(ModelLocation(adapters=paths), MERGED, Checkpoint(base))
    expected = merged_by_peft(base, *paths)
    checkpoint = Checkpoint(base)
    for name, shape in checkpoint.shapes.items():
        values = whole(side.values, name, shape)
        assert torch.equal(values, expected[name])
        if name in side.shapes:
            start = whole(checkpoint.raw, name, shape)
            delta = whole(side.delta, name, shape)
            assert torch.equal(delta, values.float() - start.float())
        else:
            assert side.delta(name, 0, 1) is None


def test_merged_side_and_its_saved_checkpoint_are_the_same(base, parent, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    PeftModel.from_pretrained(model, parent).merge_and_unload().save_pretrained(tmp_path)
    adapter = ViewedModel(ModelLocation(adapters=(parent,), base=base), MERGED)
    saved = ViewedModel(ModelLocation(checkpoint=tmp_path, base=base), MERGED)
    for name, shape in adapter.shapes.items():
        assert torch.equal(whole(adapter.values, name, shape), whole(saved.values, name, shape))
        assert torch.equal(whole(adapter.delta, name, shape), whole(saved.delta, name, shape))


SETTINGS = [
    Quantization(),
    Quantization(double=True),
    Quantization(compute_dtype="float32", type="fp4"),
    Quantization(bits=16, compute_dtype="float16"),
]


@pytest.mark.parametrize("quantization", SETTINGS, ids=str)
def test_dequantized_equals_the_loaded_model_plus_delta(base, parent, quantization):
    side = ViewedModel(
        ModelLocation(adapters=(parent,), base=base), View("dequantized", quantization)
    )
    assert_dequantized(side, as_loaded(base, quantization), peft_deltas(base, parent))
    origin = ViewedModel(ModelLocation(base=base), View("dequantized", quantization))
    assert_dequantized(origin, as_loaded(base, quantization), {})
    for name, shape in side.shapes.items():
        difference = [whole(one.values, name, shape).float() for one in (side, origin)]
        assert torch.equal(whole(side.delta, name, shape), difference[0] - difference[1])


def test_dequantized_chain_starts_from_the_rounded_parent(base, parent, child, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    PeftModel.from_pretrained(model, parent).merge_and_unload().save_pretrained(tmp_path)
    view = View("dequantized", Quantization())
    side = ViewedModel(ModelLocation(adapters=(parent, child), base=base), view)
    loaded = as_loaded(tmp_path, Quantization())
    assert_dequantized(side, loaded, peft_deltas(base, child))
    unmerged = as_loaded(base, Quantization())
    assert not torch.equal(loaded[UP_PROJ], unmerged[UP_PROJ])


def assert_dequantized(side, loaded, deltas):
    for name, weight in loaded.items():
        if name == "lm_head.weight" or "embed" in name or "norm" in name:
            assert name not in deltas
            continue
        expected = (weight + deltas[name] if name in deltas else weight).to(torch.bfloat16)
        assert torch.equal(whole(side.values, name, tuple(weight.shape)), expected), name


def test_dequantized_dora_scales_the_dequantised_weights(base, tmp_path):
    path = save_adapter(tmp_path, base, use_dora=True)
    side = ViewedModel(
        ModelLocation(adapters=(path,), base=base), View("dequantized", Quantization())
    )
    loaded = as_loaded(base, Quantization())
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    for name, parameter in model.named_parameters():
        parameter.data.copy_(loaded[name])
    merged = PeftModel.from_pretrained(model, path).merge_and_unload().state_dict()
    for name in side.shapes:
        values = whole(side.values, name, side.shapes[name])
        assert torch.equal(values, merged[name].to(torch.bfloat16)), name


@pytest.mark.parametrize("name", ["merged", "dequantized"])
def test_view_without_base_weights_is_refused(parent, name):
    with pytest.raises(ModelError, match=f"view {name} needs the base model's weights") as caught:
        ViewedModel(ModelLocation(adapters=(parent,)), View(name, Quantization()))
    assert caught.value.exit_status == 2


def test_view_dequantized_without_settings_is_refused(base, parent):
    with pytest.raises(ModelError, match="settings of the quantisation"):
        ViewedModel(ModelLocation(adapters=(parent,), base=base), View("dequantized"))


def test_view_dequantized_of_conv1d_is_refused_by_name(tmp_path):
    config = GPT2Config(n_embd=64, n_layer=1, n_head=2, vocab_size=90, n_positions=40)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "base")
    path = save_adapter(tmp_path / "adapter", tmp_path / "base", target_modules=["c_attn"])
    place = ModelLocation(adapters=(path,), base=tmp_path / "base")
    assert ViewedModel(place, MERGED).shapes
    with pytest.raises(ModelError, match="c_attn"):
        ViewedModel(place, View("dequantized", Quantization()))


def test_side_of_adapter_that_does_not_fit_its_base_is_refused(parent, tmp_path):
    other = save_tiny(tmp_path, "gpt_neox")
    with pytest.raises(ModelError, match="does not fit the base model"):
        ViewedModel(ModelLocation(adapters=(parent,), base=other))


def test_delta_of_checkpoint_without_base_is_refused(base):
    with pytest.raises(ModelError, match="no base model to be compared with"):
        ViewedModel(ModelLocation(checkpoint=base)).delta(UP_PROJ, 0, 2)


def test_delta_of_checkpoint_of_another_shape_is_refused(base, tmp_path):
    save_tiny(tmp_path, "qwen2")
    side = ViewedModel(ModelLocation(checkpoint=tmp_path, base=base))
    assert side.delta(UP_PROJ, 0, 2) is not None
    with pytest.raises(ModelError, match=r"q_proj\.bias .*\n.*not in the base"):
        side.delta("model.layers.0.self_attn.q_proj.bias", 0, 1)


@pytest.mark.parametrize("changes", [{"vocab_size": 170}, {"hidden_size": 96}], ids=str)
def test_delta_of_checkpoint_beyond_its_base_is_refused(base, tmp_path, changes):
    tiny_model("llama", **changes).save_pretrained(tmp_path)
    side = ViewedModel(ModelLocation(checkpoint=tmp_path, base=base))
    name = "model.embed_tokens.weight"
    with pytest.raises(ModelError, match="differs in shape from the base model's"):
        side.delta(name, 150, side.shapes[name][0])
    if side.shapes[name][1] == 64:
        assert side.delta(name, 150, 160) is not None


@pytest.fixture(scope="module")
def tied(tmp_path_factory):
    """A tied base and an adapter with factors on its output head."""
    root = tmp_path_factory.mktemp("tied")
    base = save_tiny(root / "base", "gemma2")
    return base, save_adapter(root / "adapter", base, target_modules=["lm_head", "q_proj"])


def test_side_low_rank_on_tied_head_counts_under_delta_alone(tied):
    base, path = tied
    side = ViewedModel(ModelLocation(adapters=(path,), base=base))
    deltas = peft_deltas(base, path)
    assert side.shapes["lm_head.weight"] == (160, 64)
    assert torch.equal(whole(side.delta, "lm_head.weight", (160, 64)), deltas["lm_head.weight"])
    with pytest.raises(ModelError, match=r"changes lm_head\.weight.*ties"):
        ViewedModel(ModelLocation(adapters=(path,), base=base), MERGED)


ON_EMBEDDING = [
    {"target_modules": ["embed_tokens"]},
    {"target_modules": ["v_proj"], "trainable_token_indices": [5, 100]},
    {"target_modules": ["v_proj"], "modules_to_save": ["embed_tokens"]},
]


@pytest.mark.parametrize("lora", ON_EMBEDDING, ids=str)
def test_side_of_tied_embedding_changes_the_head_where_peft_does(tied, tmp_path, lora):
    base, _ = tied
    path = save_adapter(tmp_path, base, **lora)
    side = ViewedModel(ModelLocation(adapters=(path,), base=base), MERGED)
    expected = merged_by_peft(base, path)
    assert "model.embed_tokens.weight" in side.shapes
    assert "lm_head.weight" not in side.shapes
    for name in ("lm_head.weight", "model.embed_tokens.weight"):
        assert torch.equal(whole(side.values, name, (160, 64)), expected[name])


def test_side_replaced_tied_head_is_a_weight_of_its_own(tied, tmp_path):
    base, _ = tied
    path = save_adapter(tmp_path, base, modules_to_save=["lm_head"])
    side = ViewedModel(ModelLocation(adapters=(path,), base=base), MERGED)
    expected = merged_by_peft(base, path)
    for name in ("lm_head.weight", "model.embed_tokens.weight"):
        assert torch.equal(whole(side.values, name, (160, 64)), expected[name])
    origin = ViewedModel(ModelLocation(base=base), MERGED)
    head = whole(origin.values, "lm_head.weight", (160, 64))
    assert torch.equal(head, expected["model.embed_tokens.weight"])
    with pytest.raises(ModelError, match="ties"):
        ViewedModel(ModelLocation(adapters=(path, path), base=base))


def test_delta_of_dora_child_is_taken_from_the_merged_parent(base, parent, tmp_path):
    child = save_adapter(tmp_path, base, 3, use_dora=True)
    place = ModelLocation(adapters=(parent, child), base=base)
    stored = load_file(child / "adapter_model.safetensors")
    prefix = f"base_model.model.{UP_PROJ.removesuffix('.weight')}.lora_"
    low_rank = 4 * stored[f"{prefix}B.weight"].double() @ stored[f"{prefix}A.weight"].double()

    def expected(start):
        direction = start.double() + low_rank
        norm = direction.pow(2).sum(1).sqrt()
        scaled = (stored[f"{prefix}magnitude_vector"] / norm)[:, None] * direction
        return scaled - start.double() + peft_deltas(base, parent)[UP_PROJ].double()

    total = whole(ViewedModel(place).delta, UP_PROJ, (128, 64)).double()
    assert torch.allclose(total, expected(merged_by_peft(base, parent)[UP_PROJ]), atol=1e-6)
    assert not torch.allclose(total, expected(merged_by_peft(base)[UP_PROJ]), atol=1e-4)
