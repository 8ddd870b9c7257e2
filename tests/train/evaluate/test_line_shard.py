"""Points between trained models: chains add the adapters of their lineage, once where shared."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from peft import PeftModel
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from raylab.plan.functions import held_out_by_data
from raylab.train.chat import tokens_of
from raylab.train.evaluate.line_job import LineJob, LineTask
from raylab.train.model import load_tokenizer
from tests.conftest import DEMO

BASE = DEMO / "base"
PARENT, STACKED, MERGED = (f"demo.{name}.s42" for name in ("sft-d1", "stacked", "merged"))
NAMES = {PARENT: "sft-d1", STACKED: "stacked", MERGED: "merged"}


def losses_of(trained, *points):
    """(losses by answer, tokens by answer) of each point on the held-out answers of D0."""
    for recipe in NAMES.values():
        trained.record(recipe)
    held_out = held_out_by_data(trained.study, trained.inputs.rows)
    job = LineJob(
        study=trained.study,
        base=trained.inputs.base_models["demo"],
        trials=trained.trials,
        merges={},
        finished={},
        answers=held_out,
        tasks=tuple(LineTask(point, "D0") for point in points),
        uri=str(trained.out),
        id="",
    )
    found = job.open().losses(range(len(points)))
    assert [one["failed"] for one in found] == [""] * len(points)
    return [(one["losses"], one["tokens"]) for one in found], held_out["D0"]


def plain_losses(adapters, rows):
    """The losses of PEFT's model with several adapters in use, each scaled."""
    settings = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
    )
    model = AutoModelForCausalLM.from_pretrained(
        BASE, dtype=torch.float32, quantization_config=settings
    )
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
    slots = {}
    for number, (path, scale) in enumerate(adapters.items()):
        slot = slots[f"slot_{number}"] = scale
        if number == 0:
            model = PeftModel.from_pretrained(model, path, adapter_name="slot_0")
        else:
            model.load_adapter(str(path), adapter_name=f"slot_{number}")
        assert slot == scale
    model.base_model.set_adapter([*slots])
    for module in model.modules():
        for slot, scale in slots.items():
            if hasattr(module, "set_scale"):
                module.set_scale(slot, scale)
    tokenizer, found = load_tokenizer(BASE), []
    for row in rows:
        prompt = tokens_of(tokenizer, row.chat, True)
        ids = tokens_of(tokenizer, [*row.chat, row.turns[-1].message], False)
        with torch.no_grad():
            logits = model.eval()(torch.tensor([ids])).logits[0, len(prompt) - 1 : -1]
        wanted = torch.tensor(ids[len(prompt) :])
        loss = torch.nn.functional.cross_entropy(logits.double(), wanted, reduction="sum")
        found.append(loss.item())
    return found


@pytest.mark.parametrize("child", [STACKED, MERGED])
def test_chain_adds_its_parent_and_shares_it_with_the_parent_itself(trained, child):
    quarter = Fraction(1, 4)
    point = ((PARENT, 1 - quarter), (child, quarter))
    ((losses, tokens),), rows = losses_of(trained, point)
    parent, own = trained.adapter("sft-d1"), trained.adapter(NAMES[child])
    assert losses.tolist() == pytest.approx(plain_losses({parent: 1.0, own: 0.25}, rows), abs=1e-4)
    assert min(tokens) > 0


def test_end_of_a_line_is_the_model_as_it_was_scored_after_training(trained):
    whole = Fraction(1)
    points = [((name, whole),) for name in (PARENT, STACKED)]
    found, _ = losses_of(trained, *points)
    for name, (losses, tokens) in zip((PARENT, STACKED), found, strict=True):
        likelihood = trained.record(NAMES[name]).metrics["likelihoods"]["D0"]
        mean = math.fsum(losses) / sum(tokens)
        assert mean == pytest.approx(-likelihood["log_probability"], abs=1e-5)


def test_model_that_is_neither_a_trial_nor_an_adapter_has_the_reason(trained):
    trained.record("sft-d1")
    job = LineJob(
        study=trained.study,
        base=trained.inputs.base_models["demo"],
        trials=trained.trials,
        merges={},
        finished={"whole": trained.inputs.base_models["demo"]},
        answers=held_out_by_data(trained.study, trained.inputs.rows),
        tasks=(LineTask((("whole", Fraction(1)),), "D0"), LineTask(((PARENT, Fraction(1)),), "D0")),
        uri=str(trained.out),
        id="",
    )
    whole, parent = job.open().losses([0, 1])
    assert "whole is a checkpoint" in whole["failed"] and not len(whole["losses"])
    assert parent["failed"] == "" and all(parent["losses"] > 0)
