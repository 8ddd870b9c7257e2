"""The cache of what trials share: made once, found by the others, without a change of any bit."""

from __future__ import annotations

import multiprocessing
import os
import signal

import numpy as np
import pytest
import torch
from trl import DPOTrainer, SFTTrainer

from raylab.errors import DataError, NonFiniteError
from raylab.spec.study import Quantization
from raylab.store.filesystem import study_scratch
from raylab.train.dataset_cache import TrialCache, cache_of, tokenised
from raylab.train.examples import examples_of
from raylab.train.model import load_base, load_tokenizer
from raylab.train.reference_logprobs import with_reference

RECIPES = """
recipes:
  sft-d1: {method: sft, data: D1}
  sft-fast: {method: sft, data: D1, training: {learning_rate: 3e-3}}
  dpo-d0: {method: dpo, chosen: D0, rejected: D1}
  dpo-d1: {method: dpo, chosen: D1, rejected: D0}
  dpo-other: {method: dpo, chosen: D0, rejected: D1, training: {beta: 0.7, batch_size: 3}}
  merged: {method: dpo, chosen: D0, rejected: D1, parent: sft-d1}
  stacked: {method: dpo, chosen: D0, rejected: D1, parent: sft-d1, chain: stack}
"""


@pytest.fixture
def made(bench):
    return bench(recipes=RECIPES)


@pytest.fixture
def child(bench):
    """The same study with its parent trained."""
    return bench(recipes=RECIPES, after=("sft-d1",))


def cache(made, recipe):
    task = made.task(recipe)
    return cache_of(task.trial, task.adapters)


def parameters_of(trainer):
    trainer.train()
    return {n: p.detach().clone() for n, p in trainer.model.named_parameters() if p.requires_grad}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def log_probs(trainer):
    data = trainer.train_dataset
    return np.array([data["ref_chosen_logps"][:], data["ref_rejected_logps"][:]])


def score_again(trainer, cache):
    added = ["ref_chosen_logps", "ref_rejected_logps"]
    trainer.train_dataset = trainer.train_dataset.remove_columns(added)
    trainer.eval_dataset = trainer.eval_dataset.remove_columns(added)
    trainer.train_dataset, trainer.eval_dataset = with_reference(trainer, cache)
    return log_probs(trainer)


def files(made):
    return sorted((made.out / "prepared").glob("*"))


def kept_data(made):
    directory = study_scratch(made.store) / "prepared"
    return sorted(path for path in directory.iterdir() if path.is_dir())


@pytest.mark.parametrize("recipe", ["sft-d1", "stacked"])
def test_adapter_with_cache_found_made_or_none_same_bits(child, recipe, tmp_path):
    made = child
    in_process = parameters_of(made.trainer(recipe, tmp_path))
    just_made = parameters_of(made.trainer(recipe, tmp_path, cached=True))
    before = {path: path.stat().st_mtime_ns for path in (*files(made), *kept_data(made))}
    found = parameters_of(made.trainer(recipe, tmp_path, cached=True))
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert same(in_process, just_made)
    assert same(in_process, found)


def test_adapter_of_sft_is_that_of_trl_alone(made, tmp_path, monkeypatch):
    ours = parameters_of(made.trainer("sft-d1", tmp_path, cached=True))
    own = SFTTrainer._prepare_dataset
    kind = type(made.trainer("sft-d1", tmp_path))
    monkeypatch.setattr(kind, "_prepare_dataset", own)
    assert same(ours, parameters_of(made.trainer("sft-d1", tmp_path)))


def test_dpo_against_reference_taken_in_each_batch_differs_by_rounding(made, tmp_path):
    ours = made.trainer("dpo-d0", tmp_path)
    one = parameters_of(ours)
    live = made.trainer("dpo-d0", tmp_path)
    live.precompute_ref_logps = False
    other = parameters_of(live)
    losses = [
        np.array([log["loss"] for log in trainer.state.log_history if "loss" in log])
        for trainer in (ours, live)
    ]
    assert np.abs(losses[0] - losses[1]).max() < 1e-5
    for name, value in other.items():
        assert (one[name] - value).norm() < 1e-4 * value.norm(), name
    assert ours.evaluate()["eval_loss"] == pytest.approx(live.evaluate()["eval_loss"], abs=1e-4)


@pytest.mark.parametrize("length", ["64", "20"])
def test_log_probabilities_are_those_of_a_plain_model_without_padding(bench, length, tmp_path):
    made = bench(recipes=RECIPES, length=f"max_length: 64->max_length: {length}")
    trainer = made.trainer("dpo-d0", tmp_path)
    plain = load_base(made.task("dpo-d0").base, Quantization(compute_dtype="float32")).eval()

    def score(prompt, answer):
        ids = torch.tensor([(prompt + answer)[: int(length)]])
        with torch.no_grad():
            logs = torch.log_softmax(plain(ids).logits.double(), -1)[0, :-1]
        taken = logs.gather(1, ids[0, 1:, None])[:, 0]
        return float(taken[len(prompt) - 1 :].sum())

    for row in trainer.train_dataset:
        for side in ("chosen", "rejected"):
            expected = score(row["prompt_ids"], row[f"{side}_ids"])
            assert row[f"ref_{side}_logps"] == pytest.approx(expected, rel=1e-5, abs=1e-4)


def test_log_probabilities_other_seed_beta_batch_and_turned_pairs_are_shared(made, tmp_path):
    first = log_probs(made.trainer("dpo-d0", tmp_path, cached=True))
    kept = files(made)
    content = kept[0].read_bytes()
    other = made.trainer("dpo-other", tmp_path, cached=True, seed=7)
    turned = made.trainer("dpo-d1", tmp_path, cached=True)
    assert files(made) == kept
    assert len(kept) == 1
    assert kept[0].read_bytes() == content
    assert np.array_equal(log_probs(other), first)
    assert np.array_equal(log_probs(turned), first[::-1])


def test_log_probabilities_other_start_is_kept_apart(child, tmp_path):
    made = child
    for recipe in ("dpo-d0", "merged", "stacked"):
        made.trainer(recipe, tmp_path, cached=True)
    assert len(files(made)) == 3


def test_start_after_parent_trained_to_other_bits_is_another(child):
    made = child
    before = cache(made, "merged").start
    file = made.adapter("sft-d1") / "adapter_model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert cache(made, "merged").start != before


def test_log_probabilities_damaged_are_made_again(made, tmp_path, capsys):
    own = cache(made, "dpo-d0")
    trainer = made.trainer("dpo-d0", tmp_path, cached=True)
    first = log_probs(trainer)
    (file,) = files(made)
    whole = file.read_bytes()
    score_again(trainer, TrialCache(own.store, {**own.start, "parent": "another"}))
    (alien,) = (path.read_bytes() for path in files(made) if path != file)
    assert alien != whole
    middle = whole.index(np.float32(first[0, 0]).tobytes())
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    for damaged in (flipped, whole[:-20], whole[100:], b"", alien):
        file.write_bytes(damaged)
        assert np.array_equal(score_again(trainer, own), first)
        assert file.read_bytes() == whole
        assert f"damaged, and made again: prepared/{file.name}" in capsys.readouterr().out


def test_log_probabilities_not_finite_are_refused_and_not_kept(made, tmp_path):
    trainer = made.trainer("dpo-d0", tmp_path)
    trainer.model.get_input_embeddings().weight.data[:] = float("nan")
    with pytest.raises(NonFiniteError, match="no finite log-probability"):
        with_reference(trainer, cache(made, "dpo-d0"))
    assert files(made) == []


def test_preparing_moves_no_random_state_and_keeps_the_mode(made, tmp_path):
    trainer = made.trainer("dpo-d0", tmp_path)
    trainer.model.train()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    score_again(trainer, cache(made, "dpo-d0"))
    assert torch.equal(torch.rand(3), expected)
    assert trainer.model.training
    assert any(parameter.requires_grad for parameter in trainer.model.parameters())


@pytest.mark.parametrize("recipe", ["sft-d1", "dpo-d0"])
def test_tokenised_data_found_is_what_trl_makes(made, recipe, tmp_path):
    made.trainer(recipe, tmp_path, cached=True)
    found = made.trainer(recipe, tmp_path, cached=True)
    task = made.task(recipe)
    raw = examples_of(task.trial.variant, task.rows, task.study.held_out)
    trl, rest = (SFTTrainer, (False, None)) if recipe == "sft-d1" else (DPOTrainer, ())
    for ours, dataset in ((found.train_dataset, raw.training), (found.eval_dataset, raw.held_out)):
        theirs = trl._prepare_dataset(
            found, dataset, found.processing_class, found.args, *rest, "train"
        )
        added = [name for name in theirs.column_names if name not in dataset.column_names]
        assert added == [name for name in ours.column_names if not name.startswith("ref_")]
        assert ours.select_columns(added).to_list() == theirs.select_columns(added).to_list()


def test_tokenised_data_other_seed_and_rate_is_shared_other_length_or_tokenizer_is_not(
    made, copied_base, tmp_path
):
    trainer = made.trainer("sft-d1", tmp_path, cached=True)
    assert len(kept_data(made)) == 2
    made.trainer("sft-fast", tmp_path, cached=True, seed=7)
    assert len(kept_data(made)) == 2
    raw = examples_of(made.task("sft-d1").trial.variant, made.inputs.rows, 0.2).training

    def keep(tokenizer):
        own = type(trainer).__mro__[2]._prepare_dataset
        arguments = (raw, tokenizer, trainer.args)
        make = lambda: own(trainer, *arguments, False, None, "train")  # noqa: E731
        return tokenised(*arguments, make, cache(made, "sft-d1"))

    template = copied_base / "chat_template.jinja"
    keep(load_tokenizer(copied_base))
    assert len(kept_data(made)) == 2
    template.write_text(template.read_text() + "{# another #}")
    keep(load_tokenizer(copied_base))
    assert len(kept_data(made)) == 3
    trainer.args.max_length = 63
    keep(load_tokenizer(copied_base))
    assert len(kept_data(made)) == 4


def test_tokenised_data_whose_making_fails_leaves_nothing(made):
    tokenizer = load_tokenizer(made.task("sft-d1").base)
    raw = examples_of(made.task("sft-d1").trial.variant, made.inputs.rows, 0.2).training

    def fail():
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        tokenised(raw, tokenizer, None, fail, cache(made, "sft-d1"))
    assert kept_data(made) == []


def test_examples_whose_prompts_fill_max_length_are_bad_data(bench, tmp_path):
    made = bench(recipes=RECIPES, length="max_length: 64->max_length: 8")
    for recipe in ("sft-d1", "dpo-d0"):
        with pytest.raises(DataError, match="short enough"):
            made.trainer(recipe, tmp_path)


def test_lock_whose_holder_is_killed_is_free(made):
    own = cache(made, "dpo-d0")
    context = multiprocessing.get_context("fork")
    held = context.Event()

    def hold():
        with own.locked("key"):
            held.set()
            signal.pause()

    holder = context.Process(target=hold)
    holder.start()
    assert held.wait(10)
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    with own.locked("key") as place:
        assert place.name == "key"
