"""One trial from start to record: what the libraries break silently, each held by a test."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from pyarrow import parquet
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM

from raylab.errors import DataError, NonFiniteError
from raylab.reduce.passes import task_vector_norms
from raylab.spec.data.rows import Row
from raylab.spec.study import Merge, Quantization
from raylab.store.records import damaged_files, read_attempts, read_records
from raylab.train.base_checkpoint import merged_directory, start_of
from raylab.train.model import attach_frozen, load_base
from raylab.train.random_state import preserved_random_state
from raylab.train.trial import run_trial
from tests.train.conftest import STUDY_TEXT, study_of

ROOT = Path(__file__).parents[2]
NF4 = Quantization(compute_dtype="float32")


def initial(trainer):
    return {n: p.detach().clone() for n, p in trainer.model.named_parameters() if p.requires_grad}


def samples_of(folder):
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]


def test_record_after_training_names_every_file(trained):
    record = trained.record("sft-d1")
    records, damaged = read_records(trained.store)
    assert not damaged
    assert records[record.id] == record
    assert {"adapter/adapter_model.safetensors", "samples.jsonl", "history.parquet"} <= {
        *record.files
    }
    assert not {"log.txt", "running.json", "progress.json"} & {*record.files}
    assert damaged_files(trained.store, trained.task("sft-d1").trial.folder, record) == []
    assert record.metrics["l2"] > 0
    assert 0 < record.metrics["first_step_seconds"] < record.metrics["seconds"]


@pytest.mark.parametrize("recipe", ["sft-d1", "dpo-d0"])
def test_adapter_with_and_without_evaluation_same_bytes(bench, trained, recipe):
    made = bench()
    record = made.run(recipe)
    assert made.adapter_bytes(recipe) == trained.adapter_bytes(recipe)
    assert record.metrics["eval_loss"] == trained.record(recipe).metrics["eval_loss"]


def test_adapter_in_fresh_process_and_other_order_same_bytes(bench, trained, tmp_path):
    script = (
        "import sys; from pathlib import Path; from tests.train.conftest import Bench;"
        "made = Bench(Path(sys.argv[1]).read_text(), Path(sys.argv[2]));"
        "made.run('dpo-d0'); made.run('sft-d1')"
    )
    (tmp_path / "study.yaml").write_text(study_of(STUDY_TEXT))
    arguments = [tmp_path / "study.yaml", tmp_path / "fresh"]
    command = [sys.executable, "-c", script, *map(str, arguments)]
    subprocess.run(command, check=True, cwd=ROOT)
    fresh = bench("fresh")
    for recipe in ("dpo-d0", "sft-d1"):
        assert fresh.adapter_bytes(recipe) == trained.adapter_bytes(recipe)


@pytest.mark.parametrize("recipe", ["sft-d1", "dpo-d0"])
def test_adapter_entries_at_1e_5_nearly_all_move(bench, recipe, tmp_path):
    made = bench(rate="learning_rate: 1e-3->learning_rate: 1e-5")
    trainer = made.trainer(recipe, tmp_path / "t")
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
    trainer = bench().trainer(recipe, tmp_path / "t")
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


@pytest.mark.parametrize("recipe", ["dpo-d0", "merged", "stacked"])
def test_dpo_of_every_chain_starts_at_log_2_and_falls_and_its_reference_does_not_move(
    bench, recipe, tmp_path
):
    trainer = bench(after=("sft-d1",)).trainer(recipe, tmp_path / "t")
    batch = next(iter(trainer.get_train_dataloader()))
    before = trainer.compute_ref_log_probs(trainer.model, batch)
    trainer.train()
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    assert losses[0] == pytest.approx(np.log(2), abs=1e-4)
    assert np.mean(losses[-5:]) < 0.5 * losses[0]
    trainer.model.train()
    after = trainer.compute_ref_log_probs(trainer.model, batch)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_dpo_reference_of_stacked_child_is_base_plus_parent(bench, trained, tmp_path, demo_base):
    trainer = bench(after=("sft-d1",)).trainer("stacked", tmp_path / "t")
    plain = load_base(demo_base, NF4)
    parent = PeftModel.from_pretrained(plain, trained.adapter("sft-d1")).eval()
    ids = torch.arange(5, 25).reshape(1, -1)
    with torch.no_grad(), trainer.model.disable_adapter():
        ours = trainer.model.train()(ids).logits
        theirs = parent(ids).logits
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_stacked_result_with_plain_peft_is_base_plus_parent_plus_child(trained, demo_base):
    ids = torch.arange(5, 25).reshape(1, -1)
    model = PeftModel.from_pretrained(
        load_base(demo_base, NF4), trained.adapter("sft-d1"), adapter_name="parent"
    )
    model.load_adapter(trained.adapter("stacked"), adapter_name="child")
    model.base_model.set_adapter(["parent", "child"])
    hooked = load_base(demo_base, NF4)
    for recipe in ("sft-d1", "stacked"):
        attach_frozen(hooked, trained.adapter(recipe))
    with torch.no_grad():
        both, ours = model.eval()(ids).logits, hooked.eval()(ids).logits
        model.base_model.set_adapter("child")
        child_alone = model(ids).logits
    assert torch.allclose(both, ours, atol=1e-4)
    assert not torch.allclose(child_alone, ours, atol=1e-2)


def test_merged_parent_is_shared_and_rebuilt_with_the_same_bytes(bench):
    made = bench(after=("sft-d1",))
    task = made.task("merged")
    first = start_of(task.trial, task.adapters).checkpoint
    assert first == merged_directory(made.store, made.task("sft-d1").trial.id)
    content = (first / "model.safetensors").read_bytes()
    for file in first.iterdir():
        file.unlink()
    first.rmdir()
    again = start_of(task.trial, task.adapters).checkpoint
    assert (again / "model.safetensors").read_bytes() == content


def test_merged_parent_equals_peft_merge_and_unload(bench, demo_base):
    made = bench(after=("sft-d1",))
    task = made.task("merged")
    start = start_of(task.trial, task.adapters)
    base = AutoModelForCausalLM.from_pretrained(demo_base, dtype="auto")
    expected = PeftModel.from_pretrained(base, made.adapter("sft-d1")).merge_and_unload()
    ours = AutoModelForCausalLM.from_pretrained(start.checkpoint, dtype="auto").state_dict()
    for name, value in expected.state_dict().items():
        assert torch.equal(ours[name], value), name


def test_task_vector_norm_of_chained_trial_is_the_whole_way(trained):
    root, record = trained.record("sft-d1"), trained.record("merged")
    parent, child = (
        load_file(trained.adapter(recipe) / "adapter_model.safetensors")
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
    assert read_records(made.store)[0] == {}
    attempts = read_attempts(made.store, made.task("sft-d1").trial.folder)
    assert [a.cause for a in attempts] == ["non_finite"]
    assert "not finite" in attempts[0].message


def test_trial_with_everything_held_out_is_bad_data(bench):
    made = bench(share="held_out: 0.2->held_out: 0.999999")
    with pytest.raises(DataError, match="left to train on"):
        made.run("sft-d1")


def test_adapter_config_holds_no_local_path(trained):
    for recipe in ("sft-d1", "merged"):
        config = json.loads((trained.adapter(recipe) / "adapter_config.json").read_text())
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


def test_trial_with_another_evaluation_is_evaluated_without_training_again(
    bench, trained, monkeypatch
):
    made = bench(after=("sft-d1",), evaluation="prompts: 3")
    monkeypatch.setattr("raylab.train.trial.build_trainer", None)
    first, second = trained.record("sft-d1"), made.run("sft-d1")
    assert second.id == first.id
    assert second.evaluation != first.evaluation
    assert made.adapter_bytes("sft-d1") == trained.adapter_bytes("sft-d1")
    assert len(samples_of(made.folder("sft-d1"))) == 3
    greedy = [sample for sample in samples_of(trained.folder("sft-d1")) if sample["draw"] == 0]
    assert samples_of(made.folder("sft-d1")) == greedy[:3]
    assert {key: second.metrics[key] for key in ("l2", "train_loss", "steps")} == {
        key: first.metrics[key] for key in ("l2", "train_loss", "steps")
    }


def test_trial_that_joins_a_merge_answers_the_prompts_of_its_partners_and_is_not_trained_again(
    bench, trained, monkeypatch
):
    made = bench(after=("sft-d1",), evaluation="prompts: 3, likelihoods: false")
    monkeypatch.setattr("raylab.train.trial.build_trainer", None)
    task = made.task("sft-d1")
    other = [Row.of(f"では、{row.prompt}", row.completion) for row in task.rows["D0"]]
    rows = {**task.rows, "D0": other}
    merges = {"both": Merge(method="ties", models=("dpo-d0", "sft-d1"))}
    study = task.study.model_copy(update={"merges": merges})
    trial = replace(task.trial, partners=("D0", "D1"))
    asked = replace(task, study=study, trial=trial, rows=rows)
    record = run_trial(asked, task_vector_norms, lambda progress: None)
    (asked,) = record.metrics["asked"].values()
    assert asked["greedy"]["count"] == 3
    lines = (made.folder("sft-d1") / "beside.jsonl").read_text().splitlines()
    assert all(json.loads(line)["prompt"].startswith("では、") for line in lines)
    assert made.adapter_bytes("sft-d1") == trained.adapter_bytes("sft-d1")


def test_record_keeps_rates_by_kind_and_likelihoods_of_every_data_set(trained):
    record = trained.record("sft-d1")
    counts = {kind: found["count"] for kind, found in record.metrics["answers"].items()}
    assert counts == {"greedy": 4, "sampled": 8, "expected": 4}
    likely = record.metrics["likelihoods"]
    assert list(likely) == ["D0", "D1"]
    assert all(found["answers"] == 4 and found["log_probability"] < 0 for found in likely.values())
    samples = samples_of(trained.folder("sft-d1"))
    assert [sample["draw"] for sample in samples] == [0] * 4 + [1] * 4 + [2] * 4
    for sample in samples:
        assert sample["reason"] == ("eos" if sample["stopped"] else "length")
        assert len(sample["token_ids"]) == sample["tokens"]


def test_held_out_loss_after_the_last_step_is_computed_once_and_is_in_history_and_record(
    bench, trained
):
    def held_out_losses(made):
        history = parquet.read_table(made.folder("sft-d1") / "history.parquet").to_pylist()
        return {row["step"]: row["eval_loss"] for row in history if row["eval_loss"]}, history

    losses, history = held_out_losses(trained)
    assert list(losses) == [2, 4, 6, 8, 10]
    assert sum(row["eval_loss"] is not None for row in history) == 5
    assert losses[10] == trained.record("sft-d1").metrics["eval_loss"]
    made = bench(evaluation="prompts: 0, likelihoods: false, every_epochs: 0.3")
    record = made.run("sft-d1")
    losses_of_three, _ = held_out_losses(made)
    assert list(losses_of_three) == [3, 6, 9, 10]
    assert losses_of_three[10] == record.metrics["eval_loss"] == losses[10]
    assert losses_of_three[6] == losses[6]
