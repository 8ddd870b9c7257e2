"""Five architectures and a model with code of its own, from the study to its report, in nf4."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from raylab.cluster import reduction, stages
from raylab.errors import ModelError
from raylab.merge.study_merge import MergeTask, run_merge
from raylab.plan.trials import plan_trials, read_inputs
from raylab.reduce.job import InProcess
from raylab.reduce.passes import task_vector_norms
from raylab.spec.study import Lora, Quantization
from raylab.spec.study_file import parse_study
from raylab.store.tables import read_table, rows_of
from raylab.train.attempts import quiet_libraries
from raylab.train.base_checkpoint import merged_directory
from raylab.train.model import load_base, load_tokenizer
from raylab.train.targets import lora_config
from raylab.train.trial import TrialTask, run_trial
from tests.architectures import ARCHITECTURES, tiny_model
from tests.chats import save_base
from tests.custom_code import LINEAR, save_parrot
from tests.studies import D0, D1, write_jsonl

STUDY = """
name: tiny
base_models: BASES
data:
  D0: {path: d0.jsonl}
  D1: {path: d1.jsonl}
held_out: 0.2
seeds: [42]
training: {learning_rate: 3e-3, batch_size: 4, epochs: 1, max_length: 256}
evaluation: {prompts: 2, max_new_tokens: 4}
recipes:
  sft: {method: sft, data: D0}
  merged: {method: dpo, chosen: D1, rejected: D0, parent: sft}
  stacked: {method: dpo, chosen: D1, rejected: D0, parent: sft, chain: stack}
merges:
  ties: {method: ties, models: [sft, merged], density: 0.5}
comparisons: [{pair: [sft, merged]}, {base: all}]
densities: [0.2, 1]
views: [delta, merged, dequantized]
"""

LLAMA = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
MODULES = {
    "gpt_neox": (
        "attention.query_key_value",
        "attention.dense",
        "mlp.dense_h_to_4h",
        "mlp.dense_4h_to_h",
    ),
    "parrot": LINEAR,
}
MODULES |= dict.fromkeys(("llama", "qwen2", "mistral", "gemma2"), LLAMA)
STEMS = {"gpt_neox": "gpt_neox.layers", "parrot": "transformer.layers"}
WHOLE = (*ARCHITECTURES, "parrot")


def save(directory, architecture, variant="plain"):
    if architecture == "parrot":
        return save_parrot(directory, variant)
    return save_base(directory, architecture)


def expected_modules(architecture):
    stem = STEMS.get(architecture, "model.layers")
    return [f"{stem}.{layer}.{name}" for layer in (0, 1) for name in MODULES[architecture]]


def study_over(folder, trust=None, **bases):
    """The study over base models in `folder`; without `trust`, parrot's code alone is trusted."""
    write_jsonl(folder / "d0.jsonl", D0)
    write_jsonl(folder / "d1.jsonl", D1)
    known = {
        name: {"path": path, "trust_remote_code": name == "parrot" if trust is None else trust}
        for name, path in bases.items()
    }
    return parse_study(STUDY.replace("BASES", json.dumps(known)), folder / "study.yaml")


class Whole:
    """A study over tiny base models, trained, merged, reduced and reported in this process."""

    def __init__(self, folder: Path, *architectures: str, variant: str = "plain") -> None:
        self.bases = {name: save(folder / name, name, variant) for name in architectures}
        study = study_over(folder, **{name: name for name in architectures})
        self.prepared = stages.prepare(study, str(folder / "out"))

    @property
    def trials(self):
        return {trial.name: trial for trial in self.prepared.trials}

    def train(self, name, *recipes):
        made, trials = self.prepared, self.trials
        for recipe in recipes:
            trial, rows = trials[f"{name}.{recipe}.s42"], made.inputs.rows
            task = TrialTask(made.study, trial, trials, rows, self.bases[name], made.store.uri)
            with quiet_libraries():
                run_trial(task, task_vector_norms, lambda progress: None)

    def run(self):
        made = self.prepared
        for name in self.bases:
            self.train(name, "sft", "merged", "stacked")
        for merge in made.merges:
            rows, base = made.inputs.rows, self.bases[merge.base_model]
            with quiet_libraries():
                run_merge(MergeTask(made.study, merge, self.trials, {}, rows, base, made.store.uri))
        stages.write_trial_tables(made)
        reduction.write_reduction(made, InProcess(), lambda text: None)
        stages.report(made)

    def adapter(self, name, recipe):
        folder = self.trials[f"{name}.{recipe}.s42"].folder
        return Path(self.prepared.store.root) / "trials" / folder / "adapter"

    def rows(self, table):
        return rows_of(read_table(self.prepared.store, table))

    def norm(self, name, recipe, view):
        found = [
            row
            for row in self.rows("norms")
            if (row["a"], row["b"]) == (f"{name}.{recipe}.s42", name)
            and (row["view"], row["level"]) == (view, "all")
        ]
        (row,) = found
        return row


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One study over all architectures, which ran whole."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYLAB_SCRATCH", str(folder / "scratch"))
        made = Whole(folder, *WHOLE)
        made.run()
    return made


def moved_by_peft(base, adapters):
    """L2 of what PEFT's merges change in the weights, in float64."""
    start = AutoModelForCausalLM.from_pretrained(base, dtype="auto", trust_remote_code=True)
    before = {name: p.detach().double().clone() for name, p in start.named_parameters()}
    model = start
    for adapter in adapters:
        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    changes = [p.detach().double() - before[name] for name, p in model.named_parameters()]
    return sum(float((change**2).sum()) for change in changes) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize("architecture", WHOLE)
def test_study_of_every_architecture_is_trained_merged_reduced_and_reported(architecture, whole):
    mine = [row for row in whole.rows("trials") if row["model"] == architecture]
    rows = {row["recipe"] or row["name"]: row for row in mine}
    assert {row["status"] for row in rows.values()} == {"done"}
    assert len(rows) == 4
    for recipe in ("sft", "merged", "stacked"):
        tensors = load_file(whole.adapter(architecture, recipe) / "adapter_model.safetensors")
        trained = {
            name.partition(".lora_")[0].removeprefix("base_model.model.") for name in tensors
        }
        assert trained == set(expected_modules(architecture)), recipe
        assert all(tensor.dtype == torch.float32 for tensor in tensors.values())
        norm = whole.norm(architecture, recipe, "delta")
        assert rows[recipe]["l2"] == pytest.approx(norm["l2"])
        assert rows[recipe]["dropped"] == rows[recipe]["cut"] == 0
        assert rows[recipe]["examples"] > 4
    sft, merged = (whole.adapter(architecture, recipe) for recipe in ("sft", "merged"))
    for recipe, adapters in (("sft", [sft]), ("merged", [sft, merged])):
        truth = moved_by_peft(whole.bases[architecture], adapters)
        assert whole.norm(architecture, recipe, "merged")["l2"] == pytest.approx(truth, rel=1e-9)
        dequantized = whole.norm(architecture, recipe, "dequantized")
        assert dequantized["l2"] == pytest.approx(truth, rel=0.2)
    page = (Path(whole.prepared.store.root) / "report" / "report.html").read_text()
    names = [f"{architecture}.{recipe}.s42" for recipe in ("sft", "merged", "stacked", "ties")]
    assert all(name in page for name in names)


@pytest.mark.parametrize("bits", [4, 16])
@pytest.mark.parametrize("architecture", WHOLE)
def test_all_linear_layers_are_all_but_the_head(architecture, bits, tmp_path):
    base = save(tmp_path / "base", architecture)
    quantization = Quantization(bits=bits, compute_dtype="float32")
    model = load_base(base, quantization, trust_remote_code=True)
    adapted = get_peft_model(model, lora_config(Lora()))
    assert adapted.targeted_module_names == expected_modules(architecture)
    kinds = {
        type(adapted.base_model.model.get_submodule(n).base_layer).__name__
        for n in adapted.targeted_module_names
    }
    assert kinds == {"Linear4bit" if bits == 4 else "Linear"}
    head = model.get_output_embeddings()
    assert type(head).__name__ == "Linear"
    assert not head.weight.requires_grad


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_all_linear_layers_are_the_same_with_a_tied_head(architecture, tied):
    model = tiny_model(architecture, tie_word_embeddings=tied)
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied
    adapted = get_peft_model(model, lora_config(Lora()))
    assert adapted.targeted_module_names == expected_modules(architecture)


@pytest.mark.parametrize(
    ("variant", "words"),
    [
        ("hidden head", "get_output_embeddings` returns none"),
        ("no trunk", "base_model_prefix` names no part"),
        ("scaled logits", "makes its logits in another way"),
    ],
)
def test_code_on_which_trl_would_take_another_loss_is_refused(variant, words, tmp_path, scratch):
    whole = Whole(tmp_path, "parrot", variant=variant)
    with pytest.raises(ModelError, match=words):
        whole.train("parrot", "sft")


def test_model_with_code_is_refused_before_anything_is_written(tmp_path):
    base = save(tmp_path / "base", "parrot")
    study = study_over(tmp_path, trust=False, demo="base")
    with pytest.raises(ModelError, match="trust_remote_code: true") as error:
        stages.prepare(study, str(tmp_path / "out"))
    assert "modeling_parrot.ParrotForCausalLM" in str(error.value)
    assert error.value.exit_status == 2
    assert not (tmp_path / "out").exists()
    with pytest.raises(ModelError, match="does not allow to run"):
        load_base(base, Quantization())
    with pytest.raises(ModelError, match="does not allow to run"):
        load_tokenizer(base)


def test_model_that_transformers_knows_needs_no_trust_for_the_code_beside_it(tmp_path):
    base = save(tmp_path / "base", "llama")
    config = json.loads((base / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_old.OldForCausalLM"}
    (base / "config.json").write_text(json.dumps(config))
    (base / "modeling_old.py").write_text("raise SystemExit('this code was run')")
    assert type(load_base(base, Quantization())).__name__ == "LlamaForCausalLM"


def test_model_whose_code_lies_in_another_repository_is_refused_even_if_trusted(tmp_path):
    base = save(tmp_path / "base", "parrot")
    config = json.loads((base / "config.json").read_text())
    config["auto_map"]["AutoModelForCausalLM"] = "someone/else--modeling_parrot.ParrotForCausalLM"
    (base / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="another repository"):
        load_base(base, Quantization(), trust_remote_code=True)


def test_model_that_would_be_made_by_the_code_of_another_is_refused(tmp_path):
    one, other = (
        save_parrot(tmp_path / name / "base", variant)
        for name, variant in (("one", "plain"), ("other", "scaled logits"))
    )
    shutil.copy(one / "configuration_parrot.py", other)
    unquantised = Quantization(bits=16)
    load_base(one, unquantised, trust_remote_code=True)
    with pytest.raises(ModelError, match="code of another model"):
        load_base(other, unquantised, trust_remote_code=True)


def test_merged_parent_with_code_keeps_it_and_loads_elsewhere(tmp_path, scratch):
    whole = Whole(tmp_path, "parrot")
    whole.train("parrot", "sft", "merged")
    parent = merged_directory(whole.prepared.store, whole.trials["parrot.sft.s42"].id)
    names = {path.name for path in parent.iterdir()}
    assert {"configuration_parrot.py", "modeling_parrot.py"} <= names
    elsewhere = shutil.copytree(parent, tmp_path / "elsewhere")
    shutil.rmtree(whole.bases["parrot"])
    model = load_base(elsewhere, Quantization(compute_dtype="float32"), trust_remote_code=True)
    assert type(model).__name__ == "ParrotForCausalLM"


def test_trust_changes_no_trial_id(tmp_path):
    save(tmp_path / "base", "llama")
    ids = []
    for trust in (False, True):
        study = study_over(tmp_path, trust=trust, demo="base")
        ids.append([t.id for t in plan_trials(study, read_inputs(study))])
    assert ids[0] == ids[1]
