"""One trial from start to record: what the libraries break silently, each held by a test."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM

from raylab.errors import DataError, NonFiniteError
from raylab.spec.study import Quantization
from raylab.store.filesystem import Store
from raylab.store.records import damaged_files, read_attempts, read_records
from raylab.train.attempts import quiet_libraries
from raylab.train.base_checkpoint import StudyAdapters, merged_directory, start_of
from raylab.train.examples import examples_of
from raylab.train.methods import TrainerSettings, build_trainer
from raylab.train.model import attach_frozen, load_base, load_tokenizer
from raylab.train.random_state import preserved_random_state

NF4 = Quantization(compute_dtype="float32")


@pytest.fixture(autouse=True)
def _quiet():
    with quiet_libraries():
        yield


def trainer_of(bench_, recipe, tmp_path):
    work = bench_.work(recipe)
    variant = work.trial.variant
    examples = examples_of(variant, work.rows, work.study.held_out)
    family = StudyAdapters(work.trials, work.base, Store(work.out))
    start = start_of(work.trial, family)
    torch.manual_seed(work.trial.seed)
    model = load_base(start.checkpoint, work.study.quantization)
    for adapter in start.frozen:
        attach_frozen(model, adapter)
    study = work.study
    settings = TrainerSettings(variant, 42, study.quantization, study.evaluation, tmp_path / "t")
    return build_trainer(model, load_tokenizer(work.base), examples, settings, [])


def initial(trainer):
    return {n: p.detach().clone() for n, p in trainer.model.named_parameters() if p.requires_grad}


def test_record_after_training_names_every_file(bench):
    made = bench()
    record = made.run("sft-d1")
    store = Store(str(made.out))
    records, damaged = read_records(store)
    assert not damaged
    assert records[record.id] == record
    assert {"adapter/adapter_model.safetensors", "samples.jsonl", "history.parquet"} <= {
        *record.files
    }
    assert not {"log.txt", "running.json", "progress.json"} & {*record.files}
    assert damaged_files(store, made.work("sft-d1").trial.folder, record) == []
    assert record.metrics["l2"] > 0
    assert 0 < record.metrics["first_step_seconds"] < record.metrics["seconds"]


def test_adapter_same_trial_twice_same_bytes(bench):
    first, second = bench("a"), bench("b")
    first.run("sft-d1")
    first.run("dpo-d0")
    second.run("dpo-d0")
    second.run("sft-d1")
    for recipe in ("sft-d1", "dpo-d0"):
        assert first.adapter_bytes(recipe) == second.adapter_bytes(recipe)


def test_adapter_in_fresh_process_same_bytes(bench, study_text, tmp_path):
    made = bench()
    made.run("sft-d1")
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]);"
        "from conftest import Bench, RECIPES;"
        "Bench(Path(sys.argv[2]).read_text() + RECIPES, Path(sys.argv[3])).run('sft-d1')"
    )
    (tmp_path / "head.yaml").write_text(study_text)
    arguments = [__file__.rpartition("/")[0], tmp_path / "head.yaml", tmp_path / "fresh"]
    subprocess.run([sys.executable, "-c", script, *map(str, arguments)], check=True)
    made_again = bench("fresh")
    assert made_again.adapter_bytes("sft-d1") == made.adapter_bytes("sft-d1")


@pytest.mark.parametrize("recipe", ["sft-d1", "dpo-d0"])
def test_adapter_with_and_without_evaluation_same_bytes(bench, recipe):
    often = bench("often", evaluation="evaluation: {->evaluation: {every_epochs: 0.25, ")
    never = bench("never", evaluation="evaluation: {->evaluation: {every_epochs: null, ")
    often.run(recipe)
    never.run(recipe)
    assert often.adapter_bytes(recipe) == never.adapter_bytes(recipe)


@pytest.mark.parametrize("recipe", ["sft-d1", "dpo-d0"])
def test_adapter_entries_at_1e_5_nearly_all_move(bench, recipe, tmp_path):
    made = bench(
        rate="learning_rate: 1e-3->learning_rate: 1e-5", share="held_out: 0.9->held_out: 0.5"
    )
    trainer = trainer_of(made, recipe, tmp_path)
    before = initial(trainer)
    assert all(value.dtype == torch.float32 for value in before.values())
    trainer.train()
    moved = total = 0
    for name, value in initial(trainer).items():
        moved += int((value != before[name]).sum())
        total += value.numel()
    assert moved / total >= 0.99
    states = [s for s in trainer.optimizer.state.values() if "exp_avg" in s]
    assert states
    assert all(state["exp_avg"].dtype == torch.float32 for state in states)


@pytest.mark.parametrize("recipe", ["sft-d1", "dpo-d0"])
def test_dropout_of_the_study_holds_for_every_method(bench, recipe, tmp_path):
    trainer = trainer_of(bench(), recipe, tmp_path)
    rates = [
        module.p
        for name, module in trainer.model.named_modules()
        if isinstance(module, torch.nn.Dropout) and "lora_dropout" in name
    ]
    assert rates
    assert set(rates) == {0.05}


def test_gradient_before_and_after_eval_pass_is_the_same(demo_base):
    model = load_base(demo_base, NF4)
    embed = model.get_input_embeddings()
    ids = torch.arange(5, 21).reshape(2, 8)

    def gradient():
        x = embed(ids).detach().requires_grad_()
        model(inputs_embeds=x, labels=ids).loss.backward()
        return x.grad

    model.train()
    before = gradient()
    model.eval()
    with torch.no_grad():
        model(ids)
    model.train()
    assert torch.equal(before, gradient())


def test_dpo_first_loss_is_log_2_then_falls_for_every_chain(bench, tmp_path):
    made = bench(share="held_out: 0.9->held_out: 0.5")
    made.run("sft-d1")
    for recipe in ("dpo-d0", "merged", "stacked"):
        trainer = trainer_of(made, recipe, tmp_path)
        trainer.train()
        losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
        assert losses[0] == pytest.approx(np.log(2), abs=1e-4), recipe
        assert np.mean(losses[-5:]) < 0.5 * losses[0], recipe


@pytest.mark.parametrize("recipe", ["merged", "stacked"])
def test_dpo_reference_while_training_does_not_move(bench, recipe, tmp_path):
    made = bench()
    made.run("sft-d1")
    trainer = trainer_of(made, recipe, tmp_path)
    batch = next(iter(trainer.get_train_dataloader()))
    before = trainer.compute_ref_log_probs(trainer.model, batch)
    trainer.train()
    trainer.model.train()
    after = trainer.compute_ref_log_probs(trainer.model, batch)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_dpo_reference_of_stacked_child_is_base_plus_parent(bench, tmp_path, demo_base):
    made = bench()
    made.run("sft-d1")
    trainer = trainer_of(made, "stacked", tmp_path)
    plain = load_base(demo_base, NF4)
    parent = PeftModel.from_pretrained(plain, made.adapter("sft-d1")).eval()
    ids = torch.arange(5, 25).reshape(1, -1)
    with torch.no_grad(), trainer.model.disable_adapter():
        ours = trainer.model.train()(ids).logits
        theirs = parent(ids).logits
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_stacked_result_with_plain_peft_is_base_plus_parent_plus_child(bench, tmp_path, demo_base):
    made = bench()
    made.run("sft-d1")
    made.run("stacked")
    ids = torch.arange(5, 25).reshape(1, -1)
    model = PeftModel.from_pretrained(
        load_base(demo_base, NF4), made.adapter("sft-d1"), adapter_name="parent"
    )
    model.load_adapter(made.adapter("stacked"), adapter_name="child")
    model.base_model.set_adapter(["parent", "child"])
    hooked = load_base(demo_base, NF4)
    for recipe in ("sft-d1", "stacked"):
        attach_frozen(hooked, made.adapter(recipe))
    with torch.no_grad():
        both, ours = model.eval()(ids).logits, hooked.eval()(ids).logits
        model.base_model.set_adapter("child")
        child_alone = model(ids).logits
    assert torch.allclose(both, ours, atol=1e-4)
    assert not torch.allclose(child_alone, ours, atol=1e-2)


def test_merged_parent_is_shared_and_rebuilt_with_the_same_bytes(bench):
    made = bench()
    made.run("sft-d1")
    work = made.work("merged")
    family = StudyAdapters(work.trials, work.base, Store(work.out))
    first = start_of(work.trial, family).checkpoint
    assert first == merged_directory(Store(work.out), made.work("sft-d1").trial.id)
    content = (first / "model.safetensors").read_bytes()
    (first / "model.safetensors").unlink()
    for file in first.iterdir():
        file.unlink()
    first.rmdir()
    again = start_of(work.trial, family).checkpoint
    assert (again / "model.safetensors").read_bytes() == content


def test_merged_parent_equals_peft_merge_and_unload(bench, demo_base):
    made = bench()
    made.run("sft-d1")
    work = made.work("merged")
    start = start_of(work.trial, StudyAdapters(work.trials, work.base, Store(work.out)))
    base = AutoModelForCausalLM.from_pretrained(demo_base, dtype="auto")
    expected = PeftModel.from_pretrained(base, made.adapter("sft-d1")).merge_and_unload()
    ours = AutoModelForCausalLM.from_pretrained(start.checkpoint, dtype="auto").state_dict()
    for name, value in expected.state_dict().items():
        assert torch.equal(ours[name], value), name


def test_task_vector_norm_of_chained_trial_is_the_whole_way(bench):
    made = bench()
    root = made.run("sft-d1")
    record = made.run("merged")
    parent, child = (
        load_file(made.adapter(recipe) / "adapter_model.safetensors")
        for recipe in ("sft-d1", "merged")
    )

    def l2(*adapters):
        total = 0.0
        for key in (key for key in parent if key.endswith("lora_A.weight")):
            up = key.replace("lora_A", "lora_B")
            parts = [m[up].astype(np.float64) @ m[key].astype(np.float64) for m in adapters]
            total += float(((128 / 8 * sum(parts)) ** 2).sum())
        return np.sqrt(total)

    assert record.metrics["l2"] == pytest.approx(l2(parent, child), rel=1e-5)
    assert record.metrics["l2_parent"] == pytest.approx(l2(parent), rel=1e-5)
    assert record.metrics["l2_child"] == pytest.approx(l2(child), rel=1e-5)
    assert record.metrics["l2_parent"] == root.metrics["l2"]
    assert "l2_parent" not in root.metrics


def test_trial_that_fails_leaves_an_attempt_with_its_cause_and_no_record(bench):
    made = bench(rate="learning_rate: 1e-3->learning_rate: 1e30")
    with pytest.raises(NonFiniteError):
        made.run("sft-d1")
    store = Store(str(made.out))
    assert read_records(store)[0] == {}
    attempts = read_attempts(store, made.work("sft-d1").trial.folder)
    assert [a.cause for a in attempts] == ["non_finite"]
    assert "not finite" in attempts[0].message


def test_trial_with_everything_held_out_is_bad_data(bench):
    made = bench(share="held_out: 0.9->held_out: 0.999999")
    with pytest.raises(DataError, match="left to train on"):
        made.run("sft-d1")


def test_adapter_config_holds_no_local_path(bench):
    made = bench()
    made.run("sft-d1")
    made.run("merged")
    for recipe in ("sft-d1", "merged"):
        config = json.loads((made.adapter(recipe) / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == "demo"
        assert config["target_modules"] == sorted(config["target_modules"])


def test_random_state_inside_preserved_block_is_restored():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with preserved_random_state():
        torch.rand(100)
        np.random.rand(5)
    assert torch.equal(torch.rand(3), expected)


def test_other_questions_are_asked_without_training_again(bench):
    made = bench()
    first = made.run("sft-d1")
    content = made.adapter_bytes("sft-d1")
    again = bench(asked="prompts: 4->prompts: 3")
    second = again.run("sft-d1")
    assert second.id == first.id
    assert second.evaluation != first.evaluation
    assert again.adapter_bytes("sft-d1") == content
    folder = made.out / "trials" / made.work("sft-d1").trial.folder
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert len(samples) == 3
    assert {key: second.metrics[key] for key in ("l2", "train_loss", "steps")} == {
        key: first.metrics[key] for key in ("l2", "train_loss", "steps")
    }


def test_record_keeps_rates_by_kind_and_likelihoods_of_every_data_set(bench):
    made = bench(asked="prompts: 4->prompts: 4, sampled: 2")
    plain = bench("plain")
    record = made.run("sft-d1")
    plain.run("sft-d1")
    assert made.adapter_bytes("sft-d1") == plain.adapter_bytes("sft-d1")
    counts = {kind: found["count"] for kind, found in record.metrics["answers"].items()}
    assert counts == {"greedy": 4, "sampled": 8, "expected": 4}
    likely = record.metrics["likelihoods"]
    assert list(likely) == ["D0", "D1"]
    assert all(found["answers"] == 4 and found["log_probability"] < 0 for found in likely.values())
    folder = made.out / "trials" / made.work("sft-d1").trial.folder
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert [sample["draw"] for sample in samples] == [0] * 4 + [1] * 4 + [2] * 4
    for sample in samples:
        assert sample["reason"] == ("eos" if sample["stopped"] else "length")
        assert len(sample["token_ids"]) == sample["tokens"]
