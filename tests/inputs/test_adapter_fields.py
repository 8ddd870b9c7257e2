"""Fields of PEFT's LoraConfig: read as PEFT applies them, without effect, or refused by name."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora.config import MontecloraConfig, VeloraConfig
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from raylab.errors import ModelError
from raylab.store.references import ModelLocation
from raylab.weights import Checkpoint, row_tiles
from raylab.weights.adapter import Adapter
from raylab.weights.adapter_fields import FIELDS, INITIALISATIONS
from raylab.weights.export import concatenate
from raylab.weights.views import View, ViewedModel
from tests.architectures import merged_by_peft, save_adapter, save_random, save_tiny

DOCS = Path(__file__).parents[2] / "docs" / "models.md"


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """Tiny Llama models: in float32, in bfloat16; and one whose head is tied."""
    root = tmp_path_factory.mktemp("bases")
    made = {
        str(dtype): save_tiny(root / str(dtype), "llama", 0, dtype)
        for dtype in (torch.float32, torch.bfloat16)
    }
    return made | {"tied": save_tiny(root / "tied", "gemma2", 0, torch.float32)}


@pytest.fixture
def base(bases):
    return bases[str(torch.float32)]


def merged_by_raylab(base, adapter):
    """Every weight of the view `merged`, by name."""
    template = Checkpoint(base)
    model = ViewedModel(ModelLocation(adapters=(adapter,), base=base), View("merged"), template)
    return {
        name: torch.cat([model.values(name, *bounds) for bounds in row_tiles.tiles(shape)]).reshape(
            shape
        )
        for name, shape in template.shapes.items()
    }


def delta_of(opened, name):
    shape = opened.shapes[name]
    return torch.cat([opened.rows(name, *bounds) for bounds in row_tiles.tiles(shape)])


def with_fields(adapter, **fields):
    """The adapter with other fields in its config."""
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    return adapter


PLAIN = {
    "mica": {"init_lora_weights": "mica"},
    "orthogonal": {"init_lora_weights": "orthogonal"},
    "velora": {"velora_config": VeloraConfig(num_groups=4)},
    "monteclora": {"monteclora_config": MontecloraConfig()},
    "qalora": {"use_qalora": True},
    "tying": {"ensure_weight_tying": True},
    "tying the embedding of a model that is not tied": {
        "ensure_weight_tying": True,
        "target_modules": ["embed_tokens", "q_proj"],
    },
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", PLAIN)
def test_field_without_effect_on_the_delta_is_read_as_peft_merges_it(bases, tmp_path, kind, dtype):
    base = bases[str(dtype)]
    adapter = save_adapter(tmp_path, base, **PLAIN[kind])
    expected = merged_by_peft(base, adapter)
    for name, weight in merged_by_raylab(base, adapter).items():
        assert torch.equal(weight, expected[name]), name
    opened, tensors = (
        Adapter.open(adapter, Checkpoint(base)),
        load_file(adapter / "adapter_model.safetensors"),
    )
    name = "model.layers.1.self_attn.q_proj"
    a, b = (tensors[f"base_model.model.{name}.lora_{side}.weight"].double() for side in "AB")
    assert torch.allclose(delta_of(opened, f"{name}.weight").double(), 4 * b @ a, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("method", ["pissa", "olora"])
def test_adapter_that_took_its_start_out_of_the_base_comes_back(
    bases, tmp_path, method, rslora, dtype
):
    base = bases[str(dtype)]
    lora = {"init_lora_weights": method, "use_rslora": rslora, "rank_pattern": {"k_proj": 2}}
    adapter = save_adapter(tmp_path, base, **lora)
    expected, mine = merged_by_peft(base, adapter), merged_by_raylab(base, adapter)
    for name, weight in mine.items():
        apart = (weight.float() - expected[name].float()).abs()
        if dtype is torch.float32:
            assert float(apart.max()) < 1e-6, name
        else:
            # A difference of one rounding of bfloat16, where float32 products differ in a bit.
            assert int((apart > 0).sum()) <= apart.numel() // 1000, name
    opened, original = (
        Adapter.open(adapter, Checkpoint(base)),
        load_file(base / "model.safetensors"),
    )
    for name in opened.names:
        delta = delta_of(opened, name)
        if dtype is torch.float32:
            assert torch.allclose(delta, expected[name] - original[name], atol=2e-6), name
        # The factors are those of the delta, so that norms and spectra are the delta's.
        down, up, scale = opened.factors(name)
        assert torch.allclose(scale * (up @ down), delta, atol=2e-6)


def test_adapter_of_pissa_that_was_never_trained_has_no_delta(base, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    lora = LoraConfig(r=4, target_modules="all-linear", init_lora_weights="pissa")
    get_peft_model(model, lora).save_pretrained(tmp_path)
    opened = Adapter.open(tmp_path, Checkpoint(base))
    assert len(opened.names) == 14
    for name in opened.names:
        assert float(delta_of(opened, name).abs().max()) < 1e-6


@pytest.mark.parametrize("fields", [{"init_lora_weights": "pissa"}, {"use_qalora": True}])
def test_field_that_needs_the_base_says_so_without_it(base, tmp_path, fields):
    adapter = save_adapter(tmp_path, base, **fields)
    with pytest.raises(ModelError, match=f"{next(iter(fields))}(.*\n)*.*--base"):
        Adapter.open(adapter)


REFUSED = {
    "pissa_niter_4": ({"init_lora_weights": "pissa_niter_4"}, "drawn at random"),
    "lora_ga": ({"init_lora_weights": "lora_ga"}, "depends on gradients"),
    "corda": ({"init_lora_weights": "corda"}, "covariance"),
    "loftq": ({"init_lora_weights": "loftq"}, "LoftQ rounded"),
    "an unknown start": ({"init_lora_weights": "of_tomorrow"}, "of_tomorrow.*not known"),
    "layer_replication": ({"layer_replication": [[0, 2], [1, 2]]}, "layers .* are repeated"),
    "aLoRA": ({"alora_invocation_tokens": [5, 6]}, "aLoRA changes only the tokens"),
    "kasa": ({"kasa_config": {"beta": 1e-4}}, "smallest singular components"),
    "arrow": ({"arrow_config": {"top_k": 2}}, "by the input"),
    "bdlora": ({"use_bdlora": {"nblocks": 2}}, "block-diagonal"),
    "megatron": ({"megatron_config": {"a": 1}}, "parallel"),
    "of a later PEFT": ({"use_tomorrow": True}, "use_tomorrow.*not known"),
    "pissa and dora": ({"init_lora_weights": "pissa", "use_dora": True}, "use_dora with init"),
    "olora on Conv1D": (
        {"init_lora_weights": "olora", "fan_in_fan_out": True},
        "fan_in_fan_out with init",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_field_that_is_refused_says_why(base, tmp_path, kind):
    fields, why = REFUSED[kind]
    adapter = with_fields(save_adapter(tmp_path, base, target_modules=["q_proj"]), **fields)
    with pytest.raises(ModelError, match=why) as caught:
        Adapter.open(adapter, Checkpoint(base))
    assert next(iter(fields)) in str(caught.value)
    assert caught.value.exit_status == 2


def test_qalora_over_pooled_inputs_is_refused_with_the_columns(base, tmp_path):
    adapter = save_adapter(tmp_path, base, target_modules=["q_proj"], use_qalora=True)
    file = adapter / "adapter_model.safetensors"
    pooled = {k: t[:, ::16].contiguous() if "A" in k else t for k, t in load_file(file).items()}
    save_file(pooled, file)
    with pytest.raises(ModelError, match=r"use_qalora: A of .* has 4 columns .* groups of 16"):
        Adapter.open(adapter, Checkpoint(base))


def test_tying_where_the_adapter_changes_a_tied_weight_needs_the_base(bases, tmp_path):
    base = bases["tied"]
    adapter = save_adapter(tmp_path / "e", base, target_modules=["embed_tokens"])
    opened = Adapter.open(adapter, Checkpoint(base))
    assert opened.untied_name("lm_head.weight", "model.embed_tokens.weight") == "lm_head.weight"
    adapter = save_adapter(
        tmp_path / "t", base, target_modules=["embed_tokens"], ensure_weight_tying=True
    )
    with pytest.raises(ModelError, match=r"embed_tokens.*ensure_weight_tying|depends on"):
        Adapter.open(adapter)
    opened = Adapter.open(adapter, Checkpoint(base))
    assert opened.changes("lm_head.weight")
    assert opened.untied_name("lm_head.weight", "model.embed_tokens.weight") is None
    other = save_adapter(tmp_path / "q", base, target_modules=["q_proj"])
    Adapter.open(with_fields(other, ensure_weight_tying=True), Checkpoint(base))


@pytest.mark.parametrize("rows", [160, 168, 152])
def test_embedding_saved_along_is_read_or_its_resize_is_named(base, tmp_path, rows):
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    model.resize_token_embeddings(rows, mean_resizing=False)
    model = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj"]))
    save_random(model, tmp_path, 1)
    model.save_pretrained(tmp_path, save_embedding_layers=True)
    if rows == 160:
        opened = Adapter.open(tmp_path, Checkpoint(base))
        assert float(delta_of(opened, "model.embed_tokens.weight").abs().max()) == 0
        assert float(delta_of(opened, "model.layers.0.self_attn.q_proj.weight").abs().max()) > 0
        return
    with pytest.raises(ModelError, match=f"weight has {rows} rows for 160") as caught:
        Adapter.open(tmp_path, Checkpoint(base))
    assert "resize_token_embeddings" in str(caught.value)


def test_chain_of_an_adapter_with_a_decomposed_start_is_not_written_as_one(base, tmp_path):
    adapter = save_adapter(tmp_path / "a", base, init_lora_weights="pissa")
    with pytest.raises(ModelError, match="init_lora_weights"):
        concatenate([adapter], tmp_path)


def test_table_has_a_row_for_every_field_of_the_installed_peft():
    assert {field.name for field in dataclasses.fields(LoraConfig)} == set(FIELDS)


def test_tables_of_the_docs_are_those_of_the_code():
    text = DOCS.read_text(encoding="utf-8")
    section = text.partition("## Fields of a PEFT adapter\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(.+?)` \| (.+?) \| (.+?) \|$", section, re.MULTILINE)
    shown = [(name, handling, why) for name, handling, why in rows]
    known = [
        (name, row.handling, row.why)
        for table in (FIELDS, INITIALISATIONS)
        for name, row in table.items()
    ]
    assert shown == known
