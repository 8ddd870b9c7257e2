"""Mixtures of experts from the study to its tables: planned, trained in nf4, asked and reduced."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from raylab.cluster import reduction, stages
from raylab.errors import ModelError
from raylab.reduce.job import InProcess
from raylab.reduce.passes import task_vector_norms
from raylab.spec.study_file import parse_study
from raylab.store.attempt_state import clear_stop_request, request_stop
from raylab.store.tables import read_table, rows_of
from raylab.train.attempts import Stopped, quiet_libraries
from raylab.train.trial import TrialTask, run_trial
from tests.architectures import merged_by_peft
from tests.mixtures import save_chat_mixture
from tests.studies import D0, D1, write_jsonl

STUDY = """
name: mixtures
base_models: {BASES}
data:
  D0: {{path: d0.jsonl}}
  D1: {{path: d1.jsonl}}
held_out: 0.2
seeds: [42]
lora: {LORA}
training: {{learning_rate: 3e-3, batch_size: 4, epochs: 1, max_length: 256}}
evaluation: {{prompts: 3, max_new_tokens: 4}}
recipes:
  sft: {{method: sft, data: D0}}
  dpo: {{method: dpo, chosen: D1, rejected: D0, parent: sft{CHAIN}}}
comparisons: [{{base: all}}, {{pair: [sft, dpo]}}]
densities: [0.2, 1]
views: [delta, merged, dequantized]
"""
ATTENTION = [f"self_attn.{name}_proj" for name in "koqv"]
FUSED = ["mlp.experts.down_proj", "mlp.experts.gate_up_proj"]
REACHED = {
    "mixtral": [*ATTENTION, *FUSED, "mlp.gate.weight"],
    "qwen3_moe": [*ATTENTION, *FUSED, "mlp.gate.weight"],
    "gpt_oss": ATTENTION,
    "granitemoe": ATTENTION,
}


def study_over(folder, architectures, lora="{dropout: 0, r: 4}", chain=""):
    for name in architectures:
        save_chat_mixture(folder / name, name)
    for name, rows in (("d0", D0), ("d1", D1)):
        longer = [(question + "!" * (3 * at), answer) for at, (question, answer) in enumerate(rows)]
        write_jsonl(folder / f"{name}.jsonl", longer)
    bases = json.dumps({name: {"path": name} for name in architectures})
    return parse_study(STUDY.format(BASES=bases, LORA=lora, CHAIN=chain), folder / "study.yaml")


def train(prepared, name, listen=lambda progress: None):
    """Train, or evaluate again, the trial `name` in this process; its record."""
    trials = {trial.name: trial for trial in prepared.trials}
    study, rows, out = prepared.study, prepared.inputs.rows, prepared.store.uri
    base = prepared.base_directory(trials[name].base_model)
    with quiet_libraries():
        task = TrialTask(study, trials[name], trials, rows, base, out)
        return run_trial(task, task_vector_norms, listen)


class Trained:
    """A study over tiny mixtures, whose trials were trained in this process, and reduced."""

    def __init__(self, folder: Path, *architectures: str) -> None:
        self.folder = folder
        self.prepared = made = stages.prepare(study_over(folder, architectures), f"{folder}/out")
        self.trials = {trial.name: trial for trial in made.trials}
        for name in self.trials:
            train(made, name)
        stages.write_trial_tables(made)
        reduction.write_reduction(made, InProcess(), lambda text: None)

    def rows(self, table):
        return rows_of(read_table(self.prepared.store, table))

    def adapter(self, name):
        return Path(self.prepared.store.root) / "trials" / self.trials[name].folder / "adapter"

    def l2(self, name, view):
        (row,) = (
            row
            for row in self.rows("norms")
            if (row["a"], row["b"]) == (name, name.partition(".")[0])
            and (row["view"], row["level"]) == (view, "all")
        )
        return row["l2"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixtures")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYLAB_SCRATCH", str(folder / "scratch"))
        return Trained(folder, *REACHED)


def apart(after, before):
    """L2 of the difference of two state dicts, in float64."""
    squares = [float((after[n].double() - before[n].double()).square().sum()) for n in before]
    return math.sqrt(math.fsum(squares))


@pytest.mark.parametrize("architecture", REACHED)
def test_mixture_is_trained_asked_and_reduced_and_says_what_its_adapter_reached(
    trained, architecture
):
    rows = {row["name"]: row for row in trained.rows("trials") if row["model"] == architecture}
    assert {row["status"] for row in rows.values()} == {"done"} and len(rows) == 2
    base = trained.folder / architecture
    before = AutoModelForCausalLM.from_pretrained(base, dtype="auto").state_dict()
    sft, dpo = (f"{architecture}.{recipe}.s42" for recipe in ("sft", "dpo"))
    asked = [row["prompt"] for row in trained.rows("samples") if row["name"] == sft]
    assert len({len(prompt) for prompt in asked}) > 1, "a batch of several lengths is padded"
    for name in (sft, dpo):
        assert rows[name]["targets"].split(", ") == REACHED[architecture]
        assert rows[name]["stopped_rate"] is not None and rows[name]["l2"] > 0
        assert trained.l2(name, "delta") == pytest.approx(rows[name]["l2"])
    for name, chain in ((sft, [sft]), (dpo, [sft, dpo])):
        merged = merged_by_peft(base, *map(trained.adapter, chain))
        assert trained.l2(name, "merged") == pytest.approx(apart(merged, before), rel=1e-9)
        assert trained.l2(name, "dequantized") == pytest.approx(apart(merged, before), rel=0.2)
    assert rows[sft]["l2"] == pytest.approx(delta_by_peft(base, trained.adapter(sft)), rel=1e-5)


def delta_by_peft(base, adapter):
    """L2 of the deltas that PEFT computes in float32."""
    with quiet_libraries():
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        merged = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    return apart(merged.state_dict(), before)


@pytest.mark.parametrize("architecture", ["mixtral", "gpt_oss"])
def test_path_of_a_mixture_ends_at_the_norm_of_its_adapter(trained, architecture):
    name = f"{architecture}.sft.s42"
    rows = [row for row in trained.rows("paths") if row["name"] == name]
    last = [row["norm"] for row in rows if row["step"] == max(row["step"] for row in rows)]
    (trial,) = (row for row in trained.rows("trials") if row["name"] == name)
    assert math.hypot(*last) == pytest.approx(trial["l2"], rel=1e-6)


def test_first_loss_of_dpo_on_a_mixture_is_log_2_without_the_loss_of_its_router(trained):
    folder = Path(trained.prepared.store.root) / "trials" / trained.trials["mixtral.dpo.s42"].folder
    from pyarrow import parquet

    losses = [row["loss"] for row in parquet.read_table(folder / "history.parquet").to_pylist()]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-3)
    tensors = load_file(trained.adapter("mixtral.dpo.s42") / "adapter_model.safetensors")
    assert any("experts" in name for name in tensors)
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values())


@pytest.mark.parametrize("architecture", ["mixtral", "qwen3_moe"])
def test_dropout_on_experts_is_refused_before_anything_is_written(tmp_path, architecture):
    study = study_over(tmp_path, [architecture], lora="{dropout: 0.05}")
    with pytest.raises(ModelError, match="dropout 0") as caught:
        stages.prepare(study, f"{tmp_path}/out")
    assert "mlp.experts.gate_up_proj" in caught.value.message
    assert "target_modules: [k_proj, o_proj, q_proj, v_proj]" in caught.value.todo
    assert caught.value.exit_status == 2 and not (tmp_path / "out").exists()
    attention = "{dropout: 0.05, target_modules: [k_proj, o_proj, q_proj, v_proj]}"
    stages.prepare(study_over(tmp_path, [architecture], lora=attention), f"{tmp_path}/out")


def test_dropout_on_a_mixture_whose_attention_alone_is_reached_is_planned(tmp_path):
    study = study_over(tmp_path, ["granitemoe"], lora="{dropout: 0.05}")
    stages.prepare(study, f"{tmp_path}/out")


@pytest.mark.parametrize(
    ("lora", "chain", "words"),
    [
        ("{dropout: 0, target_modules: [q_proj, gate_proj]}", "", "without also targeting up_proj"),
        ("{dropout: 0, target_modules: [c_attn]}", "", "c_attn.*not found"),
        ("{dropout: 0}", ", chain: stack", "cannot stay beside a new one"),
    ],
)
def test_what_peft_cannot_do_with_experts_is_refused_by_the_plan(tmp_path, lora, chain, words):
    study = study_over(tmp_path, ["qwen3_moe"], lora=lora, chain=chain)
    with pytest.raises(ModelError, match=words):
        stages.prepare(study, f"{tmp_path}/out")
    assert not (tmp_path / "out").exists()


def test_mixture_that_was_stopped_goes_on_to_the_same_bytes_and_is_asked_again(
    trained, tmp_path, monkeypatch
):
    monkeypatch.setattr("raylab.train.resume._STOP_CHECK_SECONDS", 0.0)
    monkeypatch.setenv("RAYLAB_SCRATCH", str(tmp_path / "scratch"))
    name = "mixtral.sft.s42"
    study = trained.prepared.study
    often = study.resources.model_copy(update={"checkpoint_seconds": 0})
    made = stages.prepare(study.model_copy(update={"resources": often}), f"{tmp_path}/out")

    def stop(progress):
        if progress.get("checkpoint", 0) >= 1:
            request_stop(made.store)

    with pytest.raises(Stopped):
        train(made, name, stop)
    clear_stop_request(made.store)
    first = train(made, name)
    files = [
        Path(store.root) / "trials" / trained.trials[name].folder / "adapter"
        for store in (made.store, trained.prepared.store)
    ]
    one, two = (load_file(place / "adapter_model.safetensors") for place in files)
    assert set(one) == set(two) and all(torch.equal(one[key], two[key]) for key in one)
    asked = study.evaluation.model_copy(update={"prompts": 2})
    other = stages.prepare(study.model_copy(update={"evaluation": asked}), f"{tmp_path}/out")
    monkeypatch.setattr("raylab.train.trial.build_trainer", None)
    second = train(other, name)
    assert second.id == first.id and second.evaluation != first.evaluation
    assert second.metrics["targets"] == first.metrics["targets"]
    # Training computes under autocast, which rounds at other places; a router may then choose
    # another expert.
    for data, found in first.metrics["likelihoods"].items():
        again = second.metrics["likelihoods"][data]["log_probability"]
        assert again == pytest.approx(found["log_probability"], rel=1e-2)
