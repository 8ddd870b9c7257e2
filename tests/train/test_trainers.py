"""Losses and updates that no batch size changes, against plain transformers in float64."""

from __future__ import annotations

import math

import pytest
import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy, logsigmoid
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer

from raylab.spec.recipes import Variant
from raylab.spec.seeds import Seeds
from raylab.spec.study import Evaluation, Lora, Quantization, Training
from raylab.train.examples import Examples
from raylab.train.methods import TrainerSettings, build_trainer, held_out_loss
from raylab.train.model import load_base, load_tokenizer
from tests.chats import save_base

PLAIN = Quantization(bits=16, compute_dtype="float32")
BETA = 0.3


def message(role, text):
    return [{"role": role, "content": text}]


def rows_of(method, count, start=0):
    """Examples whose answers have from 1 to 31 letters, in no order of length."""
    rows = []
    for number in range(start, start + count):
        row = {"prompt": message("user", f"question {number}")}
        texts = {"completion": "a" * (1 + 7 * number % 31)}
        if method == "dpo":
            texts = {
                "chosen": "b" * (1 + 5 * number % 17),
                "rejected": "c" * (1 + 11 * number % 23),
            }
        rows.append(row | {key: message("assistant", text) for key, text in texts.items()})
    return rows


def examples_of_both(method):
    """7 rows to train on and 11 that are held out."""
    return Examples(*(Dataset.from_list(rows_of(method, *n)) for n in ((7,), (11, 7))))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_base(tmp_path_factory.mktemp("model") / "base", "llama")


@pytest.fixture
def trainer_of(base, tmp_path):
    """Makes a trainer over 7 rows in one update an epoch, and 11 held-out rows."""

    def make(method, batch=2, accumulation=4, every=None, **training):
        settings = Training(
            batch_size=batch,
            gradient_accumulation=accumulation,
            beta=BETA,
            max_length=128,
            **{"epochs": 1, "learning_rate": 1e-3, "max_grad_norm": 1e9, **training},
        )
        lora = Lora(r=4, alpha=16, dropout=0)
        variant = Variant("x", "x", method, {}, None, "merge", settings, lora, {}, "x")
        asked = Evaluation(every_epochs=every)
        torch.manual_seed(5)
        return build_trainer(
            load_base(base, PLAIN),
            load_tokenizer(base),
            examples_of_both(method),
            TrainerSettings(variant, Seeds.of(42), PLAIN, asked, tmp_path / "trainer"),
            [],
        )

    return make


def moved(trainer, seed=3):
    """The trainer with every adapter weight moved at random, so that it is not the reference."""
    draws = torch.Generator().manual_seed(seed)
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=draws)
    return trainer


def answer_loss(model, tokenizer, prompt, answer):
    """(sum of cross-entropies of the answer's tokens in float64, their number)."""
    start = tokenizer.apply_chat_template(prompt, add_generation_prompt=True)["input_ids"]
    ids = tokenizer.apply_chat_template(prompt + answer)["input_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].double()
    taken = torch.tensor(ids[len(start) :])
    return cross_entropy(logits[len(start) - 1 : -1], taken, reduction="sum"), len(taken)


def expected_loss(method, trainer, base):
    """The loss of the held-out rows by the trainer's model, merged, and the plain base model."""
    model = trainer.model.eval()
    tokenizer = AutoTokenizer.from_pretrained(base)
    reference = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    losses, weights = [], []
    for row in rows_of(method, 11, 7):
        if method == "sft":
            loss, tokens = answer_loss(model, tokenizer, row["prompt"], row["completion"])
        else:
            margin, tokens = 0, 1
            for sign, side in ((1, "chosen"), (-1, "rejected")):
                for of, kind in ((1, model), (-1, reference)):
                    margin -= sign * of * answer_loss(kind, tokenizer, row["prompt"], row[side])[0]
            loss = -logsigmoid(BETA * margin)
        losses.append(float(loss))
        weights.append(tokens)
    return math.fsum(losses) / sum(weights)


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_held_out_loss_of_every_batch_size_is_that_of_tokens_and_of_pairs(trainer_of, base, method):
    trainer = moved(trainer_of(method))
    expected = expected_loss(method, trainer, base)
    for size in (1, 2, 3, 8, 11):
        trainer.args.per_device_eval_batch_size = size
        assert held_out_loss(trainer) == pytest.approx(expected, rel=2e-6), size


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_held_out_loss_in_mid_training_is_that_of_tokens_and_of_pairs(trainer_of, base, method):
    trainer = trainer_of(method, batch=7, accumulation=1, every=1.0, epochs=2)
    trainer.train()
    logged = [log["eval_loss"] for log in trainer.state.log_history if "eval_loss" in log]
    assert len(logged) == 2
    assert logged[1] == pytest.approx(expected_loss(method, trainer, base), rel=2e-6)
    assert held_out_loss(trainer) == logged[1]


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_update_of_every_micro_batch_with_an_odd_last_group_is_that_of_one_batch(
    trainer_of, method
):
    def trained(batch, accumulation):
        trainer = trainer_of(method, batch, accumulation, epochs=3)
        trainer.train()
        losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
        weights = [p.detach() for p in trainer.model.parameters() if p.requires_grad]
        return torch.cat([w.flatten() for w in weights]), losses

    whole, expected = trained(8, 1)
    assert len(expected) == 3
    for batch, accumulation in ((4, 2), (2, 4), (1, 8)):
        weights, losses = trained(batch, accumulation)
        assert losses == pytest.approx(expected, rel=1e-5), batch
        # Adam's first step is a sign: entries without a gradient take that of rounding.
        assert (weights - whole).norm() < 1e-4 * whole.norm(), batch


def test_update_of_sft_whose_model_takes_no_other_arguments_is_that_of_one_batch(
    trainer_of, monkeypatch
):
    def gradients(batch, accumulation):
        trainer = trainer_of("sft", batch, accumulation)
        # transformers then counts no tokens.
        trainer.model_accepts_loss_kwargs = False
        found = []
        step = trainer.training_step
        trainer.training_step = lambda *args: (step(*args), found.append(1))[0]
        trainer.train()
        assert len(found) == -(-7 // batch)
        return [log["grad_norm"] for log in trainer.state.log_history if "grad_norm" in log]

    assert gradients(2, 4) == pytest.approx(gradients(7, 1), rel=1e-5)


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_operations_of_a_batch_are_those_that_transformers_counts(trainer_of, method):
    trainer = trainer_of(method)
    for batch in trainer.get_train_dataloader():
        counted = Trainer.floating_point_ops(trainer, batch)
        assert trainer.floating_point_ops(batch) == counted > 0
