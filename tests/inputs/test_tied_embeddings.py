"""One weight under two names: counted once, compared with a model that has two, merged as PEFT's
forward pass uses it."""

from __future__ import annotations

import json
import math

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BloomConfig,
    CohereConfig,
    FalconConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    OPTConfig,
    Starcoder2Config,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from raylab.merge.merge import merge_models
from raylab.reduce.diff import DiffRequest, diff
from raylab.spec.architectures import tied_names, ties_embeddings
from raylab.spec.merges import request_merge
from raylab.store.references import FoundModel, ModelLocation
from raylab.weights import Checkpoint
from raylab.weights.adapter import Adapter
from raylab.weights.alignment import Tolerance
from raylab.weights.export import write_merged
from raylab.weights.views import View
from tests.architectures import merged_by_peft, save_adapter, save_random, tiny_model

_COMMON = {"vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
_IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_GROUPED = {**_COMMON, **_IDS, "intermediate_size": 48, "num_key_value_heads": 2}
CONFIGS = {
    "opt": lambda: OPTConfig(
        **_COMMON, **_IDS, ffn_dim=48, max_position_embeddings=40, word_embed_proj_dim=32
    ),
    "bloom": lambda: BloomConfig(vocab_size=96, hidden_size=32, n_layer=2, n_head=4, **_IDS),
    "falcon": lambda: FalconConfig(**_COMMON, **_IDS),
    "cohere": lambda: CohereConfig(**_GROUPED),
    "starcoder2": lambda: Starcoder2Config(**_GROUPED),
    "gpt2": lambda: GPT2Config(
        vocab_size=96, n_embd=32, n_layer=2, n_head=4, n_positions=40, **_IDS
    ),
    "gpt_neox": lambda: GPTNeoXConfig(
        **_COMMON, **_IDS, intermediate_size=48, tie_word_embeddings=True
    ),
    "llama": lambda: LlamaConfig(**_GROUPED, tie_word_embeddings=True),
}
SILENT = ("opt", "bloom", "falcon", "cohere", "starcoder2", "gpt2")
"""Tied by default: their config.json need not say so."""
TOKENS = torch.arange(5, 25)[None]


def drawn(architecture, seed, **changes):
    """A float32 model with random weights."""
    config = CONFIGS[architecture]()
    for key, value in changes.items():
        setattr(config, key, value)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=draws))
    return model.eval()


def stored(directory, architecture, seed, *, with_head=True, silent=False):
    """A model saved as older versions of transformers saved it: its tied head as well."""
    model = drawn(architecture, seed)
    model.save_pretrained(directory)
    weights = load_file(directory / "model.safetensors")
    if with_head:
        weights["lm_head.weight"] = model.get_input_embeddings().weight.detach().clone()
        save_file(weights, directory / "model.safetensors", {"format": "pt"})
    file = directory / "config.json"
    config = json.loads(file.read_text())
    if silent:
        config.pop("tie_word_embeddings", None)
    file.write_text(json.dumps(config))
    return model


def found(directory, base=None):
    is_adapter = (directory / "adapter_config.json").exists()
    place = {"adapters": (directory,)} if is_adapter else {"checkpoint": directory}
    return FoundModel(directory.name, ModelLocation(**place, base=base))


def logits(model):
    with torch.no_grad():
        return model(TOKENS).logits


def loaded(directory):
    return AutoModelForCausalLM.from_pretrained(directory, dtype="auto").eval()


@pytest.mark.parametrize("silent", [False, True], ids=["said", "silent"])
@pytest.mark.parametrize("architecture", SILENT)
def test_tied_head_that_is_stored_is_counted_once(tmp_path, architecture, silent):
    one = stored(tmp_path / "a", architecture, 1, silent=silent)
    other = stored(tmp_path / "b", architecture, 2, silent=silent)
    document = diff(DiffRequest(found(tmp_path / "a"), found(tmp_path / "b"))).document
    pairs = list(zip(one.parameters(), other.parameters(), strict=True))
    deltas = [(a.detach().double() - b.detach().double()) for a, b in pairs]
    assert document["numel"] == sum(delta.numel() for delta in deltas)
    expected = math.sqrt(sum(float(delta.square().sum()) for delta in deltas))
    assert document["norms"]["l2"] == pytest.approx(expected, rel=1e-6)
    assert document["accounting"]["tied"] == 96 * 32


@pytest.mark.parametrize("architecture", CONFIGS)
def test_tied_head_that_one_file_leaves_out_is_the_same_model(tmp_path, architecture):
    stored(tmp_path / "a", architecture, 1)
    stored(tmp_path / "b", architecture, 1, with_head=False)
    document = diff(DiffRequest(found(tmp_path / "a"), found(tmp_path / "b"))).document
    assert document["norms"]["nonzero"] == 0
    assert document["accounting"]["only_in_a"] == 0


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "opt"])
def test_untied_model_against_a_tied_base_compares_its_head_with_the_embedding(
    tmp_path, architecture
):
    tied = drawn(architecture, 1)
    untied = drawn(architecture, 2, tie_word_embeddings=False)
    tied.save_pretrained(tmp_path / "base")
    untied.save_pretrained(tmp_path / "own")
    whole = DiffRequest(found(tmp_path / "own"), found(tmp_path / "base"))
    document = diff(whole).document
    base = dict(tied.named_parameters(remove_duplicate=False))
    deltas = [p.detach().double() - base[n].detach().double() for n, p in untied.named_parameters()]
    assert document["numel"] == sum(delta.numel() for delta in deltas)
    expected = math.sqrt(sum(float(delta.square().sum()) for delta in deltas))
    assert document["norms"]["l2"] == pytest.approx(expected, rel=1e-6)
    accounting = document["accounting"]
    assert accounting["compared"] == document["numel"]
    assert not any(count for key, count in accounting.items() if key != "compared")
    again = DiffRequest(found(tmp_path / "own"), found(tmp_path / "own"), base=tmp_path / "base")
    assert diff(again).document["base"]["l2_a"] == pytest.approx(expected, rel=1e-6)


LORA = {
    "factors of the embedding": {"target_modules": ["embed_tokens", "q_proj"]},
    "factors of the head": {"target_modules": ["lm_head", "q_proj"]},
    "factors of both": {"target_modules": ["lm_head", "embed_tokens"]},
    "saved embedding": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
    "saved head": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    "both saved": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "embed_tokens"]},
    "tokens": {"target_modules": ["q_proj"], "trainable_token_indices": [11, 12]},
    "other tokens": {
        "target_modules": ["q_proj"],
        "trainable_token_indices": {"embed_tokens": [11, 12], "lm_head": [13]},
    },
    "tokens of the head": {
        "target_modules": ["q_proj"],
        "trainable_token_indices": {"lm_head": [11]},
    },
    "scaled head": {"target_modules": ["lm_head", "q_proj"], "use_dora": True},
    "kept tied, factors": {"target_modules": ["embed_tokens"], "ensure_weight_tying": True},
    "kept tied, factors of the head": {"target_modules": ["lm_head"], "ensure_weight_tying": True},
    "kept tied, saved": {
        "target_modules": ["q_proj"],
        "modules_to_save": ["embed_tokens"],
        "ensure_weight_tying": True,
    },
}
STAY_TIED = ("tokens", "kept tied, factors", "kept tied, factors of the head", "kept tied, saved")


@pytest.fixture(scope="module")
def tied(tmp_path_factory):
    """The directory of a tied base model in float32."""
    directory = tmp_path_factory.mktemp("tied")
    tiny_model("llama", 0, torch.float32, tie_word_embeddings=True).save_pretrained(directory)
    return directory


def merged(out, base, *models):
    request = request_merge("task_arithmetic", [str(model) for model in models], base=str(base))
    places = [found(model).location for model in models]
    return merge_models(request, places, base, out, threads=1)


@pytest.mark.parametrize("kind", LORA)
def test_merge_over_a_tied_base_has_the_logits_of_pefts_forward_pass(tmp_path, tied, kind):
    path = save_adapter(tmp_path / "adapter", tied, **LORA[kind])
    expected = logits(PeftModel.from_pretrained(loaded(tied), path).eval())
    assert not torch.allclose(expected, logits(loaded(tied)), atol=1e-2)
    record = merged(tmp_path / "out", tied, path)
    assert torch.allclose(logits(loaded(tmp_path / "out")), expected, atol=2e-5)
    written = load_file(tmp_path / "out" / "model.safetensors")
    config = AutoConfig.from_pretrained(tmp_path / "out")
    assert config.tie_word_embeddings is (kind in STAY_TIED)
    assert ("lm_head.weight" in written) is (kind not in STAY_TIED)
    assert record.get("untied", []) == ([] if kind in STAY_TIED else ["lm_head.weight"])


@pytest.mark.parametrize("kind", LORA)
def test_delta_over_a_tied_base_is_what_pefts_forward_pass_changes(tmp_path, tied, kind):
    path = save_adapter(tmp_path / "adapter", tied, **LORA[kind])
    base = Checkpoint(tied)
    adapter = Adapter.open(path, base)
    model = PeftModel.from_pretrained(loaded(tied), path).eval()
    start = loaded(tied).get_input_embeddings().weight.detach().double()
    with torch.no_grad():
        embedded = model.get_input_embeddings()(torch.arange(160)).double()
        head = model.get_output_embeddings()(torch.eye(64)).T.double()
    for name, forward in (("model.embed_tokens.weight", embedded), ("lm_head.weight", head)):
        delta = forward - start
        if not adapter.changes(name):
            assert not delta.any()
            continue
        assert torch.allclose(adapter.rows(name, 0, 160).double(), delta, atol=1e-5)


def test_merge_of_a_tied_and_an_untied_model_over_a_tied_base(tmp_path, tied):
    untied = tiny_model("llama", 1, torch.float32, tie_word_embeddings=False)
    other = tiny_model("llama", 2, torch.float32, tie_word_embeddings=True)
    untied.save_pretrained(tmp_path / "untied")
    other.save_pretrained(tmp_path / "other")
    merged(tmp_path / "out", tied, tmp_path / "untied", tmp_path / "other")
    base = dict(loaded(tied).named_parameters(remove_duplicate=False))
    second = dict(other.named_parameters(remove_duplicate=False))
    result = dict(loaded(tmp_path / "out").named_parameters(remove_duplicate=False))
    for name, first in untied.named_parameters(remove_duplicate=False):
        start = base[name].double()
        expected = start + (first.double() - start) + (second[name].double() - start)
        assert torch.allclose(result[name].double(), expected, atol=1e-6), name


def test_merge_of_a_tied_model_over_an_untied_base_moves_both(tmp_path):
    base = tiny_model("llama", 1, torch.float32, tie_word_embeddings=False)
    other = tiny_model("llama", 2, torch.float32, tie_word_embeddings=True)
    base.save_pretrained(tmp_path / "base")
    other.save_pretrained(tmp_path / "other")
    merged(tmp_path / "out", tmp_path / "base", tmp_path / "other")
    assert torch.allclose(logits(loaded(tmp_path / "out")), logits(other.eval()), atol=1e-4)


@pytest.mark.parametrize("architecture", ["gpt2", "opt", "bloom", "gpt_neox"])
def test_merge_that_unties_an_architecture_with_other_names_is_exact(tmp_path, architecture):
    drawn(architecture, 1).save_pretrained(tmp_path / "base")
    embedding = {"gpt2": "wte", "opt": "embed_tokens", "gpt_neox": "embed_in"}
    target = embedding.get(architecture, "word_embeddings")
    lora = {"target_modules": [target], "modules_to_save": None}
    path = save_adapter(tmp_path / "adapter", tmp_path / "base", **lora)
    expected = logits(PeftModel.from_pretrained(loaded(tmp_path / "base"), path).eval())
    merged(tmp_path / "out", tmp_path / "base", path)
    assert torch.allclose(logits(loaded(tmp_path / "out")), expected, atol=2e-5)


KEPT_TIED = {
    "gpt2": ("wte", "c_attn"),
    "bloom": ("word_embeddings", "query_key_value"),
    "gpt_neox": ("embed_in", "query_key_value"),
    "opt": ("embed_tokens", "q_proj"),
    "cohere": ("embed_tokens", "q_proj"),
}
"""Of the first three PEFT does not find the embedding, warns, and trains it alone. Where lm_head is
named it trains both, saves both, and takes the embedding alone when it loads them again."""


@pytest.mark.filterwarnings("ignore:You have requested")
@pytest.mark.parametrize("kind", ["factors", "factors of the head", "both factors", "saved"])
@pytest.mark.parametrize("architecture", KEPT_TIED)
def test_embedding_that_peft_is_asked_to_keep_tied_is_tied_where_peft_does_so(
    tmp_path, architecture, kind
):
    base, out = tmp_path / "base", tmp_path / "out"
    drawn(architecture, 1).save_pretrained(base)
    embedding, other = KEPT_TIED[architecture]
    lora = {
        "factors": {"target_modules": [embedding]},
        "factors of the head": {"target_modules": ["lm_head"]},
        "both factors": {"target_modules": [embedding, "lm_head"]},
        "saved": {"target_modules": [other], "modules_to_save": [embedding]},
    }[kind]
    config = LoraConfig(r=4, lora_alpha=16, ensure_weight_tying=True, **lora)
    trained = get_peft_model(loaded(base), config)
    path = save_random(trained, tmp_path / "adapter", 1)
    expected = logits(trained.eval())
    assert not torch.allclose(expected, logits(loaded(base)), atol=1e-2)
    merged(out, base, path)
    assert torch.allclose(logits(loaded(out)), expected, atol=5e-5)


def test_checkpoint_that_peft_untied_is_a_delta_to_its_tied_base(tmp_path, tied):
    path = save_adapter(tmp_path / "adapter", tied, **LORA["saved embedding"])
    model = PeftModel.from_pretrained(loaded(tied), path).merge_and_unload()
    model.save_pretrained(tmp_path / "whole")
    document = diff(DiffRequest(found(tmp_path / "whole"), found(path, tied), base=tied)).document
    assert document["norms"]["l2"] < 1e-4
    expected = merged_by_peft(tied, path)
    start = {name: p.detach() for name, p in loaded(tied).named_parameters(remove_duplicate=False)}
    squares = sum(float((expected[n].double() - start[n].double()).square().sum()) for n in start)
    assert document["base"]["l2_a"] == pytest.approx(math.sqrt(squares), rel=1e-5)
    assert document["base"]["l2_b"] == pytest.approx(math.sqrt(squares), rel=1e-5)


def test_untied_head_beside_a_tied_model_is_skipped_only_where_nothing_stands_for_it(tmp_path):
    tiny_model("llama", 1, tie_word_embeddings=True).save_pretrained(tmp_path / "a")
    tiny_model("llama", 1, tie_word_embeddings=False).save_pretrained(tmp_path / "b")
    request = DiffRequest(
        found(tmp_path / "a"), found(tmp_path / "b"), tolerance=Tolerance(missing="skip")
    )
    accounting = diff(request).document["accounting"]
    assert accounting["only_in_b"] == 0


TYPES = (
    "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "gemma3_text", "phi3",
    "gpt2", "gpt_neox", "gpt_bigcode", "opt", "bloom", "falcon", "mpt", "cohere", "cohere2",
    "starcoder2", "granite", "mixtral", "smollm3", "llava", "mistral3", "qwen2_5_vl",
)  # fmt: skip


@pytest.mark.parametrize("model_type", TYPES)
def test_ties_of_an_architecture_are_those_of_its_config_class(model_type):
    expected = bool(getattr(CONFIG_MAPPING[model_type](), "tie_word_embeddings", False))
    assert ties_embeddings({"model_type": model_type}) is expected
    assert ties_embeddings({"model_type": model_type, "tie_word_embeddings": False}) is False


def test_names_of_what_is_tied_come_from_the_class_that_the_config_names():
    config = {"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"]}
    assert tied_names(config) == {"lm_head.weight": "model.language_model.embed_tokens.weight"}
    assert tied_names({"model_type": "../../etc"}) == {}


@pytest.mark.parametrize("kind", LORA)
def test_whole_model_that_is_published_has_the_logits_of_pefts_forward_pass(tmp_path, tied, kind):
    path = save_adapter(tmp_path / "adapter", tied, **LORA[kind])
    expected = logits(PeftModel.from_pretrained(loaded(tied), path).eval())
    (tmp_path / "out").mkdir()
    write_merged(ModelLocation(adapters=(path,), base=tied), tmp_path / "out", threads=1)
    assert torch.allclose(logits(loaded(tmp_path / "out")), expected, atol=2e-5)
    config = AutoConfig.from_pretrained(tmp_path / "out")
    assert config.tie_word_embeddings is (kind in STAY_TIED)


@pytest.mark.parametrize("kind", ["saved embedding", "saved head", "both saved", "tokens"])
def test_merged_view_over_a_tied_base_has_the_bits_of_what_peft_saves(tmp_path, kind):
    base = tmp_path / "base"
    tiny_model("llama", 0, torch.bfloat16, tie_word_embeddings=True).save_pretrained(base)
    path = save_adapter(tmp_path / "adapter", base, **LORA[kind])
    model = PeftModel.from_pretrained(loaded(base), path).merge_and_unload()
    model.save_pretrained(tmp_path / "whole")
    request = DiffRequest(found(path, base), found(tmp_path / "whole"), view=View("merged"))
    document = diff(request).document
    assert document["norms"]["nonzero"] == 0
    assert document["numel"] == sum(p.numel() for p in loaded(tmp_path / "whole").parameters())
