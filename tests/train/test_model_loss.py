"""The loss that trl trains on is the model's own, or the model is refused before it trains."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from trl.trainer.utils import add_fused_lm_head

from raylab.cluster import stages
from raylab.errors import ModelError
from raylab.spec.recipes import Variant
from raylab.spec.seeds import Seeds
from raylab.spec.study import Evaluation, Lora, Quantization, Training
from raylab.spec.study_file import parse_study
from raylab.train.known_losses import KNOWN_LOSSES, SCALES, is_known
from raylab.train.methods import TrainerSettings, build_trainer
from raylab.train.model import load_base, load_tokenizer
from raylab.train.model_loss import check_head, check_loss
from tests.architectures import tiny_model
from tests.chats import save_base, tiny_tokenizer
from tests.commands import exit_status
from tests.custom_code import save_parrot
from tests.studies import D0, write_jsonl
from tests.train.test_trainers import examples_of_both

SIZES = {
    "vocab_size": 288, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 4, "pad_token_id": 0, "eos_token_id": 2,
    "bos_token_id": 1,
}  # fmt: skip
MIXTURE = {
    "num_experts": 4, "n_routed_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32, "n_group": 1,
    "topk_group": 1,
}  # fmt: skip
OF_TYPE = {
    "codegen": {"rotary_dim": 16, "n_head": 4},
    "deepseek_v2": {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 16,
                    "qk_rope_head_dim": 16, "v_head_dim": 16, "head_dim": 16},
    "deepseek_v3": {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 16,
                    "qk_rope_head_dim": 16, "v_head_dim": 16},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "num_layers": 2, "num_heads": 4},
    "gptj": {"rotary_dim": 16, "n_head": 4},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 64},
    "qwen3_next": {"layer_types": ["linear_attention", "full_attention"]},
    "gemma2": {"final_logit_softcapping": 3.0},
    "gemma3_text": {"final_logit_softcapping": 3.0},
    "cohere": {"logit_scale": 0.3},
    "cohere2": {"logit_scale": 0.3},
    "granite": {"logits_scaling": 7.0},
    "granitemoe": {"logits_scaling": 7.0},
}  # fmt: skip


def small_config(kind):
    """A config of an architecture whose model has two narrow layers, and scales that matter."""
    whole = AutoConfig.for_model(kind)
    mixture = {key: value for key, value in MIXTURE.items() if hasattr(whole, key)}
    has_width = "head_dim" in whole.to_dict() and whole.head_dim
    head = {"head_dim": 16} if has_width else {}
    return AutoConfig.for_model(kind, **{**SIZES, **head, **mixture, **OF_TYPE.get(kind, {})})


def drawn(config, spread=0.3):
    """A model of `config` in float32, of large weights, whose logits are far from zero."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(spread * torch.randn(weight.shape))
    return model


def difference(model):
    """The largest difference of log-probabilities by trl and by the model's own logits."""
    tokens = torch.randint(3, 288, (1, 16))
    with torch.no_grad():
        logs = model(input_ids=tokens).logits.double().log_softmax(-1)[:, :-1]
        own = logs.gather(-1, tokens[:, 1:, None])[..., 0]
        add_fused_lm_head(model)
        other = model(input_ids=tokens, labels=tokens, fused_lm_head=True).log_probs
    return float((own - other).abs().max() / own.abs().max())


@pytest.mark.parametrize("kind", KNOWN_LOSSES)
def test_known_architecture_trains_its_own_loss(kind):
    config = small_config(kind)
    held = {name: getattr(config, name, None) for name in SCALES}
    assert {name for name, value in held.items() if value is not None} == {*KNOWN_LOSSES[kind]}
    assert is_known(config.to_dict())
    assert difference(drawn(config)) < 1e-5
    check_head("it", config)


OTHERS = {
    "recurrent_gemma": {"logits_soft_cap": 3.0, "block_types": ["recurrent", "attention"],
                        "lru_width": 64, "head_dim": 16},
    "modernbert-decoder": {},
    "bert": {"is_decoder": True},
    "roberta": {"is_decoder": True},
    "electra": {"is_decoder": True, "embedding_size": 32},
    "inkling_text": {},
    "xlstm": {"num_heads": 4, "hidden_size": 64, "num_blocks": 2},
    "llama4_text": {},
    # A scale that trl takes from the config, and the model does not.
    "llama": {"logit_scale": 0.5},
    "qwen2": {"final_logit_softcapping": 20.0},
    "phi3": {"logits_scaling": 8.0},
    "olmo2": {"output_multiplier": 0.25},
}  # fmt: skip


def config_of(kind, **changes):
    small = {"num_hidden_layers": 2} if kind == "inkling_text" else SIZES
    if kind in ("xlstm", "inkling_text"):
        small = {}
    return AutoConfig.for_model(kind, **{**small, **changes})


@pytest.mark.parametrize(("kind", "changes"), OTHERS.items())
def test_architecture_of_another_loss_is_refused_by_its_config(kind, changes):
    config = config_of(kind, **changes)
    assert not is_known(config.to_dict())
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    with pytest.raises(ModelError, match=r"another way than trl does|its trunk from its head"):
        check_head("it", config)
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:]


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("llama", {"logit_scale": 1.0}),
        ("mpt", {}),
        ("falcon_h1", {"lm_head_multiplier": 0.3}),
        ("rwkv", {}),
        ("bert-generation", {"is_decoder": True}),
        ("whisper", {}),
    ],
)
def test_architecture_that_is_not_known_and_has_its_own_loss_passes(kind, changes):
    config = AutoConfig.for_model(kind, **changes)
    assert not is_known(config.to_dict())
    check_head("it", config)


def save_recurrent(directory):
    """A tiny RecurrentGemma with a chat tokenizer."""
    tokenizer = tiny_tokenizer("gemma2")
    config = config_of("recurrent_gemma", **OTHERS["recurrent_gemma"])
    model = drawn(config)
    assert difference(drawn(config)) > 0.1
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def write_study(folder, base, **options):
    write_jsonl(folder / "d0.jsonl", D0)
    place = json.dumps({"path": str(base), **options})
    (folder / "study.yaml").write_text(
        f"name: x\nbase_models: {{b: {place}}}\ndata: {{D0: {{path: d0.jsonl}}}}\nseeds: [1]\n"
        "recipes: {sft: {method: sft, data: D0}}\n"
    )
    return folder / "study.yaml"


def test_plan_and_run_refuse_a_model_of_another_loss_before_anything_is_written(tmp_path, capsys):
    file = write_study(tmp_path, save_recurrent(tmp_path / "base"))
    out = tmp_path / "out"
    assert exit_status("plan", file, "--out", out) == 2
    error = capsys.readouterr().err
    assert "the base model b makes its logits in another way than trl does" in error
    assert "RecurrentGemmaForCausalLM" in error and "Traceback" not in error
    with pytest.raises(ModelError, match="the base model b makes its logits"):
        stages.prepare(parse_study(file.read_text(), file), str(out))
    assert not out.exists()


def test_plan_of_code_that_scales_its_logits_is_refused_where_the_study_trusts_it(tmp_path, capsys):
    base = save_parrot(tmp_path / "base", "scaled logits")
    file = write_study(tmp_path, base, trust_remote_code=True)
    assert exit_status("plan", file, "--out", tmp_path / "out") == 2
    assert "its own code makes its logits in another way" in capsys.readouterr().err


def trainer_over(base, directory, quantization, method="sft"):
    training = Training(batch_size=2, max_length=128)
    variant = Variant("x", "x", method, {}, None, "merge", training, Lora(), {}, "x")
    settings = TrainerSettings(variant, Seeds.of(42), quantization, Evaluation(), directory)
    model, tokenizer = load_base(base, quantization), load_tokenizer(base)
    return build_trainer(model, tokenizer, examples_of_both(method), settings, [])


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_loaded_model_of_another_loss_is_refused_before_it_trains(method, tmp_path):
    base = save_recurrent(tmp_path / "base")
    quantization = Quantization(bits=16, compute_dtype="float32")
    with pytest.raises(ModelError, match="the model makes its logits in another way"):
        trainer_over(base, tmp_path / "out", quantization, method)


def test_check_of_a_loaded_model_changes_no_weight_gradient_or_random_state(tmp_path):
    base = save_base(tmp_path / "base", "llama")
    trainer = trainer_over(base, tmp_path / "out", Quantization(compute_dtype="float32"))
    batch = {**next(iter(trainer.get_train_dataloader()))}

    def state():
        trainer.model.train()
        torch.manual_seed(3)
        trainer.model.zero_grad()
        trainer.compute_loss(trainer.model, dict(batch)).backward()
        found = [*trainer.model.parameters(), *trainer.model.buffers()]
        gradients = [w.grad for w in trainer.model.parameters() if w.grad is not None]
        return [value.detach().clone() for value in (*found, *gradients)]

    before, random_state = state(), torch.get_rng_state()
    check_loss(trainer)
    assert torch.equal(random_state, torch.get_rng_state())
    assert trainer.model.training
    assert all(torch.equal(a, b) for a, b in zip(before, state(), strict=True))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("size", [10.0, 60.0, 1e6])
def test_rounding_or_overflow_of_large_logits_over_a_large_vocabulary_is_no_other_loss(
    tmp_path, dtype, size
):
    base = save_base(tmp_path / "base", "llama")
    model = tiny_model("llama", vocab_size=60_000)
    with torch.no_grad():
        hidden = model.model(torch.arange(3, 40)[None]).last_hidden_state
        model.lm_head.weight.mul_(size / model.lm_head(hidden).abs().max())
    model.save_pretrained(base)
    trainer_over(base, tmp_path / "out", Quantization(bits=16, compute_dtype=dtype))


@pytest.mark.parametrize("scale", [0.9, 1.1])
def test_other_scale_of_the_logits_of_a_loaded_model_is_refused(tmp_path, scale):
    base = save_base(tmp_path / "base", "llama")
    trainer = trainer_over(base, tmp_path / "out", Quantization(bits=16, compute_dtype="float32"))
    head = trainer.model.get_base_model().lm_head
    head.weight.data *= 20 / head.weight.std() / 8
    check_loss(trainer)
    head.register_forward_hook(lambda module, inputs, output: output * scale)
    with pytest.raises(ModelError, match="makes its logits in another way than trl does"):
        check_loss(trainer)


class _WithoutWeight(torch.nn.Module):
    """A head that trl cannot multiply by."""

    def __init__(self, head):
        super().__init__()
        self.inner = head

    def forward(self, hidden):
        return self.inner(hidden)


def test_head_that_trl_cannot_multiply_by_is_refused_in_one_message(tmp_path):
    base = save_base(tmp_path / "base", "llama")
    trainer = trainer_over(base, tmp_path / "out", Quantization(bits=16, compute_dtype="float32"))
    model = trainer.model.get_base_model()
    model.lm_head = _WithoutWeight(model.lm_head)
    with pytest.raises(ModelError, match=r"trl's way fails: .* no attribute 'weight'"):
        check_loss(trainer)


def test_study_that_trains_nothing_takes_a_base_of_any_loss(tmp_path, capsys):
    file = write_study(tmp_path, save_recurrent(tmp_path / "base"))
    models = f"models: {{m: {{path: {tmp_path}/base, base_model: b}}}}\n"
    recipes = "recipes: {sft: {method: sft, data: D0}}\n"
    assert recipes in file.read_text()
    file.write_text(file.read_text().replace(recipes, models))
    assert exit_status("plan", file, "--out", tmp_path / "out") == 0
