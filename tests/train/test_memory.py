"""Estimates of memory against allocations counted on the CPU, through raylab's own trainers."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest
import torch
import trl.trainer.utils
from bitsandbytes.nn import Linear4bit
from datasets import Dataset
from transformers import AutoConfig, AutoModelForCausalLM

from jobs.gpu_checks.allocations import peak_of
from raylab.plan.activation_memory import KERNELS, Pass, scoring_bytes
from raylab.plan.memory import Workload, estimate_memory
from raylab.plan.model_shapes import published, shape_of
from raylab.spec.recipes import Variant
from raylab.spec.seeds import Seeds
from raylab.spec.study import Evaluation, Lora, Quantization, Training
from raylab.train.attempts import quiet_libraries
from raylab.train.examples import Examples
from raylab.train.methods import TrainerSettings, build_trainer
from raylab.train.model import load_base, load_tokenizer
from tests.architectures import ARCHITECTURES, tiny_model

LENGTH, TILE = 256, 64
OWN_TILE = 32768
"""That of trl."""
SIZES = {
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_attention_heads": 8,
    "vocab_size": 3072,
}
LONG, SHORT = "今日はとてもよい天気です。" * 200, "今日はよい天気です。"
IN_TRANSFORMERS = [name for name, config in published().items() if "model_type" in config]


def small_model(architecture, **changes):
    """Large enough for activations to outweigh what is not counted."""
    sizes = {**SIZES, **changes}
    if architecture != "gpt_neox":
        sizes |= {"num_key_value_heads": 2, "head_dim": 64 if architecture == "gemma2" else 32}
    return tiny_model(architecture, **sizes)


def message(role, text):
    return [{"role": role, "content": text}]


def examples(method):
    """Four examples: long ones are cut, so that every batch has padding; eight answers in all."""
    rows = []
    for number in range(4):
        row = {"prompt": message("user", f"質問{number}")}
        text = LONG if number % 2 else SHORT
        answers = {"completion": text} if method == "sft" else {"chosen": LONG, "rejected": SHORT}
        rows.append(row | {key: message("assistant", value) for key, value in answers.items()})
    return Examples(Dataset.from_list(rows), None)


class Measured:
    """One small model, trained a step; its shape, and what was counted."""

    def __init__(self, folder, base, architecture, method, dtype="bfloat16", **options):
        small_model(architecture).save_pretrained(folder / "base")
        shape = shape_of(json.loads((folder / "base" / "config.json").read_text()))
        self.need = Workload(
            shape=shape,
            method=method,
            quantization=Quantization(compute_dtype=dtype, **options.pop("quantization", {})),
            lora=Lora(),
            training=Training(epochs=1, max_length=LENGTH, **options),
            evaluation=Evaluation(prompts=0),
        )
        variant = Variant(
            "x", "x", method, {}, None, "merge", self.need.training, self.need.lora, {}, "x"
        )
        asked = Evaluation(every_epochs=None)
        setting = TrainerSettings(
            variant, Seeds.of(42), self.need.quantization, asked, folder / "out"
        )
        with quiet_libraries():
            model = load_base(folder / "base", self.need.quantization)
            tokenizer = load_tokenizer(base)
            make = lambda: build_trainer(model, tokenizer, examples(method), setting, [])  # noqa: E731
            self.trainer, self.building = peak_of(make)
            self.batch = next(iter(self.trainer.get_train_dataloader()))
            _, self.training = peak_of(self.trainer.train)

    def score(self):
        """The loss of one batch, as in an evaluation."""
        self.trainer.model.eval()
        with torch.no_grad(), self.trainer.accelerator.autocast():
            self.trainer.compute_loss(self.trainer.model, dict(self.batch))

    def estimate(self, **kernels):
        return estimate_memory(self.need, KERNELS["cpu"]._replace(**kernels))


# (architecture, method, gradient checkpointing, tile of logits): every value with every other
# that changes the estimate. The last two have trl's own tile; with the small one, layers outweigh
# logits.
STEPS = [
    ("llama", "sft", False, TILE),
    ("llama", "dpo", True, TILE),
    ("qwen2", "dpo", False, TILE),
    ("mistral", "sft", True, TILE),
    ("gpt_neox", "sft", False, TILE),
    ("gpt_neox", "dpo", True, TILE),
    ("gemma2", "sft", True, TILE),
    ("gemma2", "dpo", False, TILE),
    ("llama", "dpo", False, OWN_TILE),
    ("gemma2", "dpo", True, OWN_TILE),
]


# torch 2.13 on a processor without instructions for bf16 makes one copy more in the head: seen to
# take 20 to 24 % more than counted there.
HEAD = 0.15 if "bf16" in Path("/proc/cpuinfo").read_text() else 0.25


@pytest.fixture(scope="module")
def measured(demo_base, tmp_path_factory):
    """Makes a Measured, once for the same arguments."""

    @functools.cache
    def make(architecture, method, checkpointing=False, tile=TILE, dtype="bfloat16", double=False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trl.trainer.utils, "_CHUNKED_LOGPROB_CHUNK_SIZE", tile)
            return Measured(
                tmp_path_factory.mktemp("measured"),
                demo_base,
                architecture,
                method,
                dtype,
                gradient_checkpointing=checkpointing,
                quantization={"double": double},
            )

    return make


@pytest.mark.parametrize(("architecture", "method", "checkpointing", "tile"), STEPS)
def test_peak_of_a_training_step_is_within_15_percent_of_counted(
    architecture, method, checkpointing, tile, measured, monkeypatch
):
    found = measured(architecture, method, checkpointing, tile)
    memory = found.estimate(tile=tile)
    # What is static was there before, but for gradients and Adam's moments.
    assert memory.phases["training"] == pytest.approx(found.training, rel=0.15)
    sequences, length = found.batch["input_ids"].shape
    kernels = KERNELS["cpu"]._replace(tile=tile)
    scored = Pass(found.need.shape, sequences, length, 2, kernels=kernels)
    monkeypatch.setattr(trl.trainer.utils, "_CHUNKED_LOGPROB_CHUNK_SIZE", tile)
    _, counted = peak_of(found.score)
    assert scoring_bytes(scored, adapted=True) == pytest.approx(counted, rel=HEAD)
    if method == "dpo":
        building = found.building - memory.gradients
        assert memory.phases["reference"] == pytest.approx(building, rel=HEAD)


def test_peak_of_a_step_in_float32_is_within_15_percent_of_counted(measured):
    found = measured("gemma2", "sft", tile=OWN_TILE, dtype="float32")
    assert found.estimate().phases["training"] == pytest.approx(found.training, rel=0.15)


def tensors_bytes(tensors):
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


STATIC = [*({step[0]: step for step in reversed(STEPS)}.values()), None]
"""A step of each architecture, and one with double quantisation."""


@pytest.mark.parametrize("step", STATIC, ids=lambda step: step[0] if step else "double")
def test_static_parts_are_within_1_percent_of_what_is_there(step, measured):
    found = measured(*step) if step else measured("llama", "sft", double=True)
    double = step is None
    memory, model = found.estimate(), found.trainer.model
    quantised = [module for module in model.modules() if isinstance(module, Linear4bit)]
    states = [module.weight.quant_state for module in quantised]
    constants = [state.absmax for state in states] + [s.state2.absmax for s in states if double]
    weights = {id(module.weight) for module in quantised}
    trained = [p for p in model.parameters() if p.requires_grad]
    rest = [p for p in model.parameters() if id(p) not in weights and not p.requires_grad]
    moments = [
        value
        for state in found.trainer.optimizer.state.values()
        for value in state.values()
        if value.numel() > 1
    ]
    there = {
        "weights": tensors_bytes(module.weight for module in quantised),
        "constants": tensors_bytes(constants),
        "unquantised": tensors_bytes(rest),
        "adapters": tensors_bytes(trained),
        "gradients": tensors_bytes(trained),
        "optimizer": tensors_bytes(moments),
    }
    assert {name: getattr(memory, name) for name in there} == pytest.approx(there, rel=0.01)


@pytest.mark.parametrize("hub", IN_TRANSFORMERS)
def test_published_shape_is_what_transformers_builds(hub):
    config = published()[hub]
    shape = shape_of(config)
    known = {k: v for k, v in config.items() if k not in ("parameters", "unverified")}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**known))
    head = model.get_output_embeddings()
    layers = {
        name.partition(".layers.")[2]: (*module.weight.shape, module.bias is not None)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    }
    assert layers == {
        f"{layer}.{linear.name}": linear[1:]
        for layer in range(shape.layers)
        for linear in shape.linears
    }
    assert shape.parameters == sum(p.numel() for p in model.parameters()) == config["parameters"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_shape_of_a_config_as_saved_counts_the_parameters_of_its_model(architecture, tmp_path):
    model = small_model(architecture)
    model.save_pretrained(tmp_path)
    shape = shape_of(json.loads((tmp_path / "config.json").read_text()))
    assert shape.parameters == sum(p.numel() for p in model.parameters())
