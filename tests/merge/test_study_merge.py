"""One merge from its models to its record: weights, answers, attempts, what is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from raylab.cluster.study_context import prepare
from raylab.errors import NonFiniteError
from raylab.merge import study_merge
from raylab.merge.study_merge import MergeTask, run_merge
from raylab.plan.merges import plan_merges
from raylab.plan.trials import plan_trials, read_inputs
from raylab.results.table_rows import likelihood_rows, read_results, trial_rows
from raylab.spec.data.held_out import held_out_prompts
from raylab.spec.data.rows import Row
from raylab.spec.study_file import parse_study
from raylab.store.filesystem import Store
from raylab.store.records import read_attempts, read_records
from raylab.store.references import ModelLocation, find_model
from raylab.train.attempts import quiet_libraries
from raylab.train.evaluate import asked_model
from raylab.train.evaluate.evaluate import ModelEvaluation
from tests.oracles import matrix_merging as oracle

STUDY = """
recipes:
  a: {method: sft, data: D0}
  b: {method: sft, data: D1}
  c: {method: dpo, chosen: D1, rejected: D0, parent: b}
merges:
  added: {method: task_arithmetic, models: [a, c, whole, part], weights: [0.5, 2, 1, 3], lambda: 2}
  dropped: {method: dare_linear, models: [a, b], density: 0.3, seed: 7}
  mean: {method: linear, models: [whole, part]}
  small: {method: task_arithmetic, models: [a, c], weights: [2, 1], as: adapter}
  cut: {method: ties, models: [a, b], as: adapter, rank: 3}
  spectral: {method: tsv, models: [a, b], weights: [1, 0.5], parameters: {k: 3}, as: adapter}
models:
  whole: {path: WHOLE, base_model: demo}
  part: {path: PART, base_model: demo}
"""
SCALE = 16 / 4
Q, DOWN = "model.layers.1.self_attn.q_proj.weight", "model.layers.3.mlp.down_proj.weight"


def write_adapter(directory, seed, base):
    """A LoRA adapter of two layers; {tensor: delta in float64}."""
    draws, tensors, deltas = torch.Generator().manual_seed(seed), {}, {}
    for name in (Q, DOWN):
        rows, columns = base[name].shape
        a, b = (torch.randn(s, generator=draws) * 0.02 for s in ((4, columns), (rows, 4)))
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        tensors |= {f"{stem}.lora_A.weight": a, f"{stem}.lora_B.weight": b}
        deltas[name] = SCALE * (b.double() @ a.double())
    directory.mkdir(parents=True)
    save_file(tensors, directory / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 16}
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return deltas


class Bench:
    """The study, with adapters in the places of its trials, and its merges by name."""

    def __init__(self, text, copied_base, folder):
        self.weights = load_file(copied_base / "model.safetensors")
        self.deltas = {"part": write_adapter(folder / "part", 9, self.weights)}
        text = text.replace("WHOLE", str(copied_base)).replace("PART", str(folder / "part"))
        self.study = parse_study(text, Path("study.yaml"))
        self.inputs = read_inputs(self.study)
        self.trials = {t.name: t for t in plan_trials(self.study, self.inputs)}
        planned = plan_merges(self.study, self.inputs, list(self.trials.values()))
        self.merges = {merge.merge: merge for merge in planned}
        self.store = Store(str(folder / "out"))
        for seed, trial in enumerate(self.trials.values()):
            place = folder / "out" / "trials" / trial.folder / "adapter"
            self.deltas[trial.variant.name] = write_adapter(place, seed, self.weights)

    def task(self, merge):
        finished = {n: found.directory for n, found in self.inputs.models.items()}
        base = self.inputs.base_models["demo"].directory
        rows, out = self.inputs.rows, self.store.uri
        return MergeTask(self.study, self.merges[merge], self.trials, finished, rows, base, out)

    def run(self, merge):
        with quiet_libraries():
            return run_merge(self.task(merge))

    def folder(self, merge):
        return Path(self.store.root) / "trials" / self.merges[merge].folder

    def weights_of(self, merge):
        return load_file(self.folder(merge) / "merged" / "model.safetensors")


@pytest.fixture
def bench(study_text, copied_base, tmp_path, scratch):
    return Bench(study_text + STUDY, copied_base, tmp_path)


def test_merge_adds_the_task_vectors_of_trials_with_their_ancestors_and_of_finished_models(bench):
    record = bench.run("added")
    found, deltas = bench.weights_of("added"), bench.deltas
    moved = {}
    for name in (Q, DOWN):
        chain = deltas["b"][name] + deltas["c"][name]
        moved[name] = 2 * (0.5 * deltas["a"][name] + 2 * chain + 3 * deltas["part"][name])
    for name, start in bench.weights.items():
        exact = start.double() + moved.get(name, 0)
        assert torch.allclose(found[name].double(), exact, rtol=2**-7, atol=1e-6), name
    assert all(not torch.equal(found[name], bench.weights[name]) for name in (Q, DOWN))
    change = {name: found[name].double() - bench.weights[name].double() for name in (Q, DOWN)}
    l1 = sum(float(values.abs().sum()) for values in change.values())
    l2 = sum(float((values**2).sum()) for values in change.values()) ** 0.5
    assert record.metrics["l1"] == pytest.approx(l1, rel=1e-6)
    assert record.metrics["l2"] == pytest.approx(l2, rel=1e-6)


def test_merge_made_twice_has_the_same_bytes_and_its_seed_decides_what_dare_drops(bench):
    bench.run("dropped")
    content = (bench.folder("dropped") / "merged" / "model.safetensors").read_bytes()
    (bench.folder("dropped") / "record.json").unlink()
    bench.run("dropped")
    assert (bench.folder("dropped") / "merged" / "model.safetensors").read_bytes() == content
    merge = bench.merges["dropped"]
    bench.merges["dropped"] = replace(merge, id="f" * 16, request=replace(merge.request, seed=8))
    bench.run("dropped")
    other = (bench.folder("dropped") / "merged" / "model.safetensors").read_bytes()
    assert len(other) == len(content) and other != content


def test_merge_of_finished_models_is_made_once_without_a_seed(bench):
    record = bench.run("mean")
    assert (record.name, bench.merges["mean"].needs) == ("demo.mean", ())
    found = bench.weights_of("mean")
    exact = bench.weights[Q].double() + bench.deltas["part"][Q] / 2
    assert torch.allclose(found[Q].double(), exact, rtol=2**-7, atol=1e-6)
    assert len((bench.folder("mean") / "samples.jsonl").read_text().splitlines()) == 4
    results = read_results([bench.merges["mean"]], bench.store)
    (row,) = trial_rows(results)
    assert row["marked"] in (True, False) and row["marked"] is bool(row["marks"])
    found = {r["data"] for r in likelihood_rows(results)}
    assert found == {"D0", "D1"}


def test_merged_model_is_asked_as_it_is_saved(bench, monkeypatch):
    asked = []
    said = ModelEvaluation([], {})
    monkeypatch.setattr(
        asked_model,
        "evaluate_model",
        lambda *words, beside, tell: asked.append(words) or said,
    )
    bench.run("dropped")
    ((model, _, study, rows, questions, seed),) = asked
    kinds = {type(module).__name__ for module in model.modules()}
    assert "Linear" in kinds and not any("4bit" in kind for kind in kinds)
    saved = bench.weights_of("dropped")
    state = model.state_dict()
    assert all(torch.equal(state[name], saved[name]) for name in saved)
    assert {state[name].dtype for name in saved} == {saved[name].dtype for name in saved}
    assert questions == held_out_prompts(rows["D0"], study.held_out, 4)
    assert (len(questions), study.evaluation.max_new_tokens, seed) == (4, 16, 42)


def test_merge_as_an_adapter_is_stored_as_one_and_answers_on_the_base_model(bench):
    record = bench.run("small")
    files = {name for name in record.files if "/" in name}
    assert "adapter/adapter_model.safetensors" in files and "adapter/merge.json" in files
    assert not any(name.startswith("merged/") for name in files)
    factors, squares = load_file(bench.folder("small") / "adapter/adapter_model.safetensors"), 0.0
    for name in (Q, DOWN):
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        found = (
            factors[f"{stem}.lora_B.weight"].double() @ factors[f"{stem}.lora_A.weight"].double()
        )
        moved = 2 * bench.deltas["a"][name] + bench.deltas["b"][name] + bench.deltas["c"][name]
        assert torch.allclose(found, moved, rtol=1e-5, atol=1e-8), name
        squares += float((moved**2).sum())
    assert record.metrics["l2"] == pytest.approx(squares**0.5, rel=1e-6)
    assert len((bench.folder("small") / "samples.jsonl").read_text().splitlines()) == 4


def test_merge_by_singular_vectors_is_stored_as_an_exact_adapter(bench):
    record = bench.run("spectral")
    factors, squares = (
        load_file(bench.folder("spectral") / "adapter/adapter_model.safetensors"),
        0.0,
    )
    for name in (Q, DOWN):
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        up, down = (factors[f"{stem}.lora_{side}.weight"].double().numpy() for side in "BA")
        moved = oracle.tsv([bench.deltas[m][name].numpy() for m in "ab"], [1, 0.5], 3)
        assert np.linalg.norm(up @ down - moved) <= 1e-6 * np.linalg.norm(moved), name
        squares += (moved**2).sum()
    assert record.metrics["l2"] == pytest.approx(squares**0.5, rel=1e-5)
    made = json.loads((bench.folder("spectral") / "adapter/merge.json").read_text())
    assert made["adapter"]["exact"] and made["parameters"] == {"k": 3}


def test_merge_as_an_adapter_is_found_and_compared_as_an_adapter(bench):
    bench.run("cut")
    context = prepare(bench.study, bench.store.uri)
    context.write_study()
    name, adapter = bench.merges["cut"].name, bench.folder("cut") / "adapter"
    assert context.places(read_records(bench.store)[0])[name] == ModelLocation(adapters=(adapter,))
    assert find_model(f"{bench.store.uri}#{name}").location.adapters == (adapter,)
    rows = trial_rows(read_results(list(bench.merges.values()), bench.store))
    places = {row["name"]: row["adapter"] for row in rows}
    assert places[name].endswith("/adapter") and places[bench.merges["dropped"].name] is None


def test_merge_as_an_adapter_is_asked_on_the_base_model_as_trials_hold_it(bench, monkeypatch):
    asked = []
    said = ModelEvaluation([], {})
    monkeypatch.setattr(
        asked_model,
        "evaluate_model",
        lambda *words, beside, tell: asked.append(words) or said,
    )
    bench.run("cut")
    ((model, *_),) = asked
    adapters = [m for m in model.modules() if "default" in getattr(m, "lora_A", {})]
    assert {m.lora_A["default"].out_features for m in adapters} == {3}
    quantised = bench.study.quantization.bits == 4
    assert quantised == any("4bit" in type(m).__name__.lower() for m in model.modules())


def test_form_of_a_merge_is_of_its_identity_only_where_it_is_an_adapter(bench):
    merges = bench.merges
    assert not any("adapter" in key for key in merges["added"].identity)
    assert merges["cut"].identity["merge.as_adapter.rank"] == 3
    # Adapters with a rank for each layer had none of this, and are made again.
    assert merges["cut"].identity["merge.as_adapter.one_rank"]


@pytest.mark.parametrize("local", [True, False])
def test_other_questions_are_asked_without_merging_again(bench, monkeypatch, local):
    first = bench.run("dropped")
    monkeypatch.setattr(study_merge, "merge_models", None)
    monkeypatch.setattr(Store, "is_local", local)
    other = bench.study.evaluation.model_copy(update={"prompts": 2})
    bench.study = bench.study.model_copy(update={"evaluation": other})
    second = bench.run("dropped")
    assert second.id == first.id and second.evaluation != first.evaluation
    assert len((bench.folder("dropped") / "samples.jsonl").read_text().splitlines()) == 2
    kept = ("l1", "l2", "seconds")
    assert [second.metrics[k] for k in kept] == [first.metrics[k] for k in kept]
    weights = "merged/model.safetensors"
    assert second.files[weights] == first.files[weights]


def test_merge_answers_prompts_of_all_data_of_its_models_until_it_is_asked_less(
    bench,
):
    other = [replace_prompt(row) for row in bench.inputs.rows["D1"]]
    bench.inputs.rows["D1"] = other
    record = bench.run("cut")
    (asked,) = record.metrics["asked"].values()
    lines = (bench.folder("cut") / "beside.jsonl").read_text().splitlines()
    prompts = [json.loads(line)["prompt"] for line in lines]
    questions = held_out_prompts(other, bench.study.held_out, bench.study.evaluation.prompts)
    assert prompts == [row.prompt for row in questions] and asked["greedy"]["count"] == len(prompts)
    assert {"samples.jsonl", "beside.jsonl"} <= set(record.files)
    bench.inputs.rows["D1"] = bench.inputs.rows["D0"]
    again = bench.run("cut")
    assert "asked" not in again.metrics and "beside.jsonl" not in again.files


def replace_prompt(row):
    return Row.of(f"では、{row.prompt}", row.completion)


def test_merge_that_fails_leaves_an_attempt_with_its_cause_and_no_record(bench):
    trial = bench.trials["demo.b.s42"]
    file = Path(bench.store.root) / "trials" / trial.folder / "adapter/adapter_model.safetensors"
    tensors = load_file(file)
    next(iter(tensors.values()))[0, 0] = float("nan")
    save_file(tensors, file)
    with pytest.raises(NonFiniteError, match=r"demo\.b\.s42"):
        bench.run("dropped")
    folder = bench.merges["dropped"].folder
    assert read_records(bench.store)[0] == {}
    assert [attempt.cause for attempt in read_attempts(bench.store, folder)] == ["non_finite"]
    assert "Traceback" in (bench.folder("dropped") / "log.txt").read_text()
    assert {path.name for path in bench.folder("dropped").iterdir()} == {"attempts", "log.txt"}


def test_status_of_a_merge_while_it_is_made_is_running(bench, monkeypatch):
    made, merge, seen = study_merge.merge_models, bench.merges["dropped"], []

    def watched(*words, **options):
        seen.extend(trial_rows(read_results([merge], bench.store)))
        return made(*words, **options)

    monkeypatch.setattr(study_merge, "merge_models", watched)
    bench.run("dropped")
    assert [(row["status"], row["message"]) for row in seen] == [("running", "has begun")]
    (row,) = trial_rows(read_results([merge], bench.store))
    assert (row["status"], row["attempts"], row["adapter"]) == ("done", 1, None)


def test_scratch_after_a_merge_is_empty(bench, scratch):
    bench.run("mean")
    assert [path for path in scratch.rglob("*") if path.is_file()] == []
