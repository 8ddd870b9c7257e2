"""What trials share: made once, found by the others, and never a reason for other bits."""

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
from raylab.store.filesystem import Store, study_scratch
from raylab.train.attempts import quiet_libraries
from raylab.train.base_checkpoint import StudyAdapters, start_of
from raylab.train.dataset_cache import TrialCache, cache_of, tokenised
from raylab.train.examples import examples_of
from raylab.train.methods import TrainerSettings, build_trainer
from raylab.train.model import attach_frozen, load_base, load_tokenizer
from raylab.train.reference_logprobs import with_reference

PAIRS = 24

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


@pytest.fixture(autouse=True)
def _quiet():
    # As a trial of these studies does; products of two threads have other bits.
    torch.set_num_threads(1)
    with quiet_libraries():
        yield


@pytest.fixture
def small(bench, demo_base, tmp_path):
    """Makes a Bench over the first pairs of the demo's data; `options` as those of `bench`."""
    whole, cut = demo_base.parent / "data", tmp_path / "data"
    cut.mkdir()
    for file in whole.iterdir():
        lines = file.read_text().splitlines(keepends=True)
        (cut / file.name).write_text("".join(lines[:PAIRS]))

    def make(**options):
        return bench(
            recipes=RECIPES,
            data=f"{whole}/d0->{cut}/d0",
            other_data=f"{whole}/d1->{cut}/d1",
            share="held_out: 0.9->held_out: 0.3",
            **options,
        )

    return make


@pytest.fixture
def made(small):
    return small()


def family_of(made, recipe):
    work = made.work(recipe)
    return StudyAdapters(work.trials, work.base, Store(work.out))


def shared(made, recipe):
    return cache_of(made.work(recipe).trial, family_of(made, recipe))


def trainer_of(made, recipe, prepared, tmp_path, seed=42):
    work = made.work(recipe)
    variant, study = work.trial.variant, work.study
    start = start_of(work.trial, family_of(made, recipe))
    torch.manual_seed(seed)
    model = load_base(start.checkpoint, study.quantization)
    for adapter in start.frozen:
        attach_frozen(model, adapter)
    examples = examples_of(variant, work.rows, study.held_out)
    settings = TrainerSettings(
        variant, seed, study.quantization, study.evaluation, tmp_path / "t", prepared
    )
    return build_trainer(model, load_tokenizer(work.base), examples, settings, [])


def trained(trainer):
    trainer.train()
    return {n: p.detach().clone() for n, p in trainer.model.named_parameters() if p.requires_grad}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def log_probs(trainer):
    data = trainer.train_dataset
    return np.array([data["ref_chosen_logps"][:], data["ref_rejected_logps"][:]])


def score_again(trainer, prepared):
    added = ["ref_chosen_logps", "ref_rejected_logps"]
    trainer.train_dataset = trainer.train_dataset.remove_columns(added)
    trainer.eval_dataset = trainer.eval_dataset.remove_columns(added)
    trainer.train_dataset, trainer.eval_dataset = with_reference(trainer, prepared)
    return log_probs(trainer)


def files(made):
    return sorted((made.out / "prepared").glob("*"))


def kept_data(made):
    directory = study_scratch(Store(str(made.out))) / "prepared"
    return sorted(path for path in directory.iterdir() if path.is_dir())


@pytest.mark.parametrize("recipe", ["sft-d1", "dpo-d0", "stacked"])
def test_adapter_of_prepared_found_or_made_in_the_process_same_bits(made, recipe, tmp_path):
    if recipe == "stacked":
        made.run("sft-d1")
    prepared = shared(made, recipe)
    in_process = trained(trainer_of(made, recipe, None, tmp_path))
    just_made = trained(trainer_of(made, recipe, prepared, tmp_path))
    before = {path: path.stat().st_mtime_ns for path in (*files(made), *kept_data(made))}
    found = trained(trainer_of(made, recipe, prepared, tmp_path))
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert same(in_process, just_made)
    assert same(in_process, found)


def test_adapter_of_sft_is_that_of_trl_alone(made, tmp_path, monkeypatch):
    ours = trained(trainer_of(made, "sft-d1", shared(made, "sft-d1"), tmp_path))
    own = SFTTrainer._prepare_dataset
    kind = type(trainer_of(made, "sft-d1", None, tmp_path))
    monkeypatch.setattr(kind, "_prepare_dataset", own)
    assert same(ours, trained(trainer_of(made, "sft-d1", None, tmp_path)))


def test_dpo_against_reference_taken_in_each_batch_differs_by_rounding(made, tmp_path):
    ours = trainer_of(made, "dpo-d0", None, tmp_path)
    one = trained(ours)
    live = trainer_of(made, "dpo-d0", None, tmp_path)
    live.precompute_ref_logps = False
    other = trained(live)
    losses = [
        np.array([log["loss"] for log in trainer.state.log_history if "loss" in log])
        for trainer in (ours, live)
    ]
    assert np.abs(losses[0] - losses[1]).max() < 1e-5
    for name, value in other.items():
        assert (one[name] - value).norm() < 1e-4 * value.norm(), name
    assert ours.evaluate()["eval_loss"] == pytest.approx(live.evaluate()["eval_loss"], abs=1e-4)


@pytest.mark.parametrize("length", ["64", "20"])
def test_log_probabilities_are_those_of_a_plain_model_without_padding(small, length, tmp_path):
    made = small(length=f"max_length: 64->max_length: {length}")
    trainer = trainer_of(made, "dpo-d0", None, tmp_path)
    plain = load_base(made.work("dpo-d0").base, Quantization(compute_dtype="float32")).eval()

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
    first = log_probs(trainer_of(made, "dpo-d0", shared(made, "dpo-d0"), tmp_path))
    kept = files(made)
    content = kept[0].read_bytes()
    other = trainer_of(made, "dpo-other", shared(made, "dpo-other"), tmp_path, seed=7)
    turned = trainer_of(made, "dpo-d1", shared(made, "dpo-d1"), tmp_path)
    assert files(made) == kept
    assert len(kept) == 1
    assert kept[0].read_bytes() == content
    assert np.array_equal(log_probs(other), first)
    assert np.array_equal(log_probs(turned), first[::-1])


def test_log_probabilities_other_start_is_kept_apart(made, tmp_path):
    made.run("sft-d1")
    for recipe in ("dpo-d0", "merged", "stacked"):
        trainer_of(made, recipe, shared(made, recipe), tmp_path)
    assert len(files(made)) == 3


def test_start_after_parent_trained_to_other_bits_is_another(made):
    made.run("sft-d1")
    before = shared(made, "merged").start
    file = made.adapter("sft-d1") / "adapter_model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert shared(made, "merged").start != before


def test_log_probabilities_damaged_are_made_again(made, tmp_path, capsys):
    prepared = shared(made, "dpo-d0")
    trainer = trainer_of(made, "dpo-d0", prepared, tmp_path)
    first = log_probs(trainer)
    (file,) = files(made)
    whole = file.read_bytes()
    score_again(trainer, TrialCache(prepared.store, {**prepared.start, "parent": "another"}))
    (alien,) = (path.read_bytes() for path in files(made) if path != file)
    assert alien != whole
    middle = whole.index(np.float32(first[0, 0]).tobytes())
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    for damaged in (flipped, whole[:-20], whole[100:], b"", alien):
        file.write_bytes(damaged)
        assert np.array_equal(score_again(trainer, prepared), first)
        assert file.read_bytes() == whole
        assert f"damaged, and made again: prepared/{file.name}" in capsys.readouterr().out


def test_log_probabilities_not_finite_are_refused_and_not_kept(made, tmp_path):
    trainer = trainer_of(made, "dpo-d0", None, tmp_path)
    trainer.model.get_input_embeddings().weight.data[:] = float("nan")
    with pytest.raises(NonFiniteError, match="no finite log-probability"):
        with_reference(trainer, shared(made, "dpo-d0"))
    assert files(made) == []


def test_preparing_moves_no_random_state_and_keeps_the_mode(made, tmp_path):
    trainer = trainer_of(made, "dpo-d0", None, tmp_path)
    trainer.model.train()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    score_again(trainer, shared(made, "dpo-d0"))
    assert torch.equal(torch.rand(3), expected)
    assert trainer.model.training
    assert any(parameter.requires_grad for parameter in trainer.model.parameters())


@pytest.mark.parametrize("recipe", ["sft-d1", "dpo-d0"])
def test_tokenised_data_found_is_what_trl_makes(made, recipe, tmp_path):
    trainer_of(made, recipe, shared(made, recipe), tmp_path)
    found = trainer_of(made, recipe, shared(made, recipe), tmp_path)
    work = made.work(recipe)
    raw = examples_of(work.trial.variant, work.rows, work.study.held_out)
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
    trainer = trainer_of(made, "sft-d1", shared(made, "sft-d1"), tmp_path)
    assert len(kept_data(made)) == 2
    trainer_of(made, "sft-fast", shared(made, "sft-fast"), tmp_path, seed=7)
    assert len(kept_data(made)) == 2
    raw = examples_of(made.work("sft-d1").trial.variant, made.inputs.rows, 0.3, 4).training

    def keep(tokenizer):
        own = type(trainer).__mro__[2]._prepare_dataset
        arguments = (raw, tokenizer, trainer.args)
        make = lambda: own(trainer, *arguments, False, None, "train")  # noqa: E731
        return tokenised(*arguments, make, shared(made, "sft-d1"))

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
    tokenizer = load_tokenizer(made.work("sft-d1").base)
    raw = examples_of(made.work("sft-d1").trial.variant, made.inputs.rows, 0.3, 4).training

    def fail():
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        tokenised(raw, tokenizer, None, fail, shared(made, "sft-d1"))
    assert kept_data(made) == []


def test_examples_whose_prompts_fill_max_length_are_bad_data(small, tmp_path):
    made = small(length="max_length: 64->max_length: 8")
    for recipe in ("sft-d1", "dpo-d0"):
        with pytest.raises(DataError, match="short enough"):
            trainer_of(made, recipe, None, tmp_path)


def test_lock_whose_holder_is_killed_is_free(made):
    prepared = shared(made, "dpo-d0")
    context = multiprocessing.get_context("fork")
    held = context.Event()

    def hold():
        with prepared.locked("key"):
            held.set()
            signal.pause()

    holder = context.Process(target=hold)
    holder.start()
    assert held.wait(10)
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    with prepared.locked("key") as place:
        assert place.name == "key"
