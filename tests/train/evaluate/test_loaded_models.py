"""Models that are loaded beside one another predict what each predicts alone."""

from __future__ import annotations

import shutil

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from raylab.spec.study import Quantization
from raylab.train.base_checkpoint import Start
from raylab.train.evaluate.likelihoods import FramedAnswer
from raylab.train.evaluate.loaded_models import (
    LoadedModels,
    Side,
    asking,
    predict,
    predictions_of,
    trained_side,
)

ANSWER = FramedAnswer((5, 9, 33, 200, 7, 15, 4), 3)
NF4 = Quantization(compute_dtype="float32")
NOT_QUANTIZED = Quantization(bits=16, compute_dtype="float32")


def plain_base(base, *, quantized=True):
    """The base model by transformers alone, in 4 bits as a study has it."""
    settings = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
    )
    model = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, quantization_config=settings if quantized else None
    )
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
    return model.eval()


def logits_of(model):
    """The logits that predict the answer's tokens, and the hidden states at them."""
    with torch.no_grad():
        found = model(torch.tensor([ANSWER.ids]), output_hidden_states=True)
    states = torch.stack([one[0, 3:7] for one in found.hidden_states])
    return found.logits[0, 2:6], states


@pytest.fixture(scope="module")
def adapters(demo_base, tmp_path_factory):
    """Two adapters by PEFT, whose B is not zero."""
    folder = tmp_path_factory.mktemp("adapters")
    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_pretrained(demo_base, dtype=torch.float32)
        config = LoraConfig(r=4, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
        model = get_peft_model(model, config)
        for parameter in model.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.05)
        model.save_pretrained(folder / name)
    return folder


def asked(sides, names=None, quantization=NF4):
    """(logits and states of each side, why others failed)."""
    models = LoadedModels(sides, quantization, False)
    with asking(torch.get_num_threads()):
        found, failed = predictions_of(models, names or list(sides), lambda _: [(0, ANSWER, True)])
    return {name: one[0] for name, one in found.items()}, failed


def test_models_beside_one_another_predict_what_each_does_alone(demo_base, adapters):
    start = Start(demo_base)
    sides = {
        "x.one": Side(start, adapters / "one"),
        "base": Side(start),
        "two": Side(start, adapters / "two"),
        "two again": Side(start, adapters / "two", alone=True),
        "as saved": Side(start, as_saved=True),
    }
    found, failed = asked(sides)
    assert failed == {}
    alone = {
        "x.one": PeftModel.from_pretrained(plain_base(demo_base), adapters / "one"),
        "base": plain_base(demo_base),
        "two": PeftModel.from_pretrained(plain_base(demo_base), adapters / "two"),
        "as saved": AutoModelForCausalLM.from_pretrained(demo_base, dtype="auto"),
    }
    alone["two again"] = alone["two"]
    for name, model in alone.items():
        logits, states = logits_of(model.eval())
        assert found[name].logits.equal(logits), name
        assert found[name].states.equal(states), name
    distinct = {found[name].logits.double().sum().item() for name in sides}
    assert len(distinct) == 4


def test_models_of_different_experts_predict_what_each_does_alone(tmp_path):
    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        vocab_size=300, hidden_size=32, intermediate_size=48, moe_intermediate_size=24,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
        num_experts=4, num_experts_per_tok=2,
    )  # fmt: skip
    Qwen3MoeForCausalLM(config).save_pretrained(tmp_path / "base")
    for name in ("gate_up_proj", "down_proj"):
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
        lora = LoraConfig(r=2, target_modules=[], target_parameters=[f"mlp.experts.{name}"])
        model = get_peft_model(model, lora)
        for parameter in model.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.3)
        model.save_pretrained(tmp_path / name)
    start = Start(tmp_path / "base")
    sides = {name: trained_side(start, tmp_path / name) for name in ("gate_up_proj", "down_proj")}
    found, failed = asked({**sides, "base": Side(start)}, quantization=NOT_QUANTIZED)
    assert failed == {}
    for name in ("gate_up_proj", "down_proj", "base"):
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
        if name != "base":
            model = PeftModel.from_pretrained(model, tmp_path / name)
        assert found[name].logits.equal(logits_of(model.eval())[0]), name
    assert len({one.logits.double().sum().item() for one in found.values()}) == 3


def test_model_on_a_stacked_parent_predicts_what_both_adapters_in_use_do(demo_base, adapters):
    side = Side(Start(demo_base, (adapters / "one",)), adapters / "two")
    found, _ = asked({"child": side, "base": Side(Start(demo_base))})
    both = PeftModel.from_pretrained(plain_base(demo_base), adapters / "one", adapter_name="a")
    both.load_adapter(str(adapters / "two"), adapter_name="b")
    both.base_model.set_adapter(["a", "b"])
    logits, _ = logits_of(both.eval())
    torch.testing.assert_close(found["child"].logits, logits, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found["base"].logits, logits, atol=0.1)


def rename_tensors(folder):
    """Give the adapter's tensors names that no module has."""
    file = folder / "adapter_model.safetensors"
    save_file({f"other.{name}": value for name, value in load_file(file).items()}, file)


@pytest.mark.parametrize("what", ["no weights", "other shapes", "other names", "no checkpoint"])
@pytest.mark.parametrize("order", [1, -1])
def test_model_that_cannot_be_loaded_leaves_the_others(demo_base, adapters, tmp_path, what, order):
    start, broken = Start(demo_base), tmp_path / "broken"
    shutil.copytree(adapters / "one", broken)
    if what == "no weights":
        (broken / "adapter_model.safetensors").unlink()
    elif what == "other shapes":
        config = broken / "adapter_config.json"
        config.write_text(config.read_text().replace('"r": 4', '"r": 3'))
    elif what == "other names":
        rename_tensors(broken)
    wrong = Side(Start(tmp_path), as_saved=True) if what == "no checkpoint" else Side(start, broken)
    sides = {"wrong": wrong, "two": Side(start, adapters / "two"), "base": Side(start)}
    found, failed = asked(dict(list(sides.items())[::order]))
    assert list(failed) == ["wrong"] and failed["wrong"]
    alone, _ = asked({name: sides[name] for name in ("two", "base")})
    for name, one in alone.items():
        assert found[name].logits.equal(one.logits)


def test_models_that_are_asked_for_alone_are_loaded(demo_base, adapters):
    sides = {
        "one": Side(Start(demo_base), adapters / "one"),
        "nowhere": Side(Start(adapters / "nowhere"), as_saved=True),
    }
    found, failed = asked(sides, ["one"])
    assert (list(found), failed) == (["one"], {})


def test_asking_moves_no_random_state_and_no_threads(demo_base, adapters):
    torch.manual_seed(3)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    with asking(1):
        assert (torch.get_num_threads(), torch.is_grad_enabled()) == (1, False)
        torch.rand(3)
    assert torch.get_rng_state().equal(before)
    assert (torch.get_num_threads(), torch.is_grad_enabled()) == (threads, True)


def test_prediction_without_states_has_none(demo_base):
    model = plain_base(demo_base)
    with asking(1):
        found = predict(model, ANSWER, False)
    assert found.states is None
    assert found.logits.shape == (4, model.config.vocab_size)
