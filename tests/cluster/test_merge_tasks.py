"""Merges of a study over Ray with two logical GPUs: rows, comparisons, caches, failures."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
import torch
from ray.exceptions import WorkerCrashedError
from safetensors.torch import load_file, save_file

from raylab.cluster import stages, whole_study
from raylab.cluster.merge_tasks import make_merges, record_failure
from raylab.merge.merge import merge_models
from raylab.report.terminal.live_display import LineDisplay
from raylab.spec.merges import request_merge
from raylab.store.filesystem import Store
from raylab.store.phase import WORKERS
from raylab.store.records import PROGRESS, read_attempts, trial_key
from raylab.store.references import ModelLocation, find_model
from raylab.store.tables import read_table
from tests.cluster.whole import context_of, quiet

pytestmark = pytest.mark.cluster

MERGES = """
merges:
  both: {method: ties, models: [sft-d0, child], weights: [1, 0.5], density: 0.3, lambda: 0.7}
  odd: {method: ties, models: [sft-d0, other]}
models:
  other: {path: OTHER, base_model: demo}
"""
BOTH, ODD = "demo.both.s42", "demo.odd.s42"
FIRST, PARENT, CHILD = "demo.sft-d0.s42", "demo.sft-d1.s42", "demo.child.s42"


def sound(text):
    """The study without the recipe that fails and its child, and with a merge."""
    lines = [line for line in text.splitlines() if "bad" not in line and "orphan" not in line]
    lines += MERGES.splitlines()[:3]
    return "\n".join([*lines, ""]).replace("base: [child]", "pairs: all\n  - base: [both]")


def rows_of(store, table):
    return read_table(store, table).to_pylist()


def folder_of(out, name):
    (folder,) = Path(out).glob(f"trials/{name}-*")
    return folder


def times(out, part="record.json"):
    return {path: path.stat().st_mtime_ns for path in Path(out).glob(f"trials/*/{part}")}


@pytest.fixture(scope="module")
def merged(finished, tmp_path_factory):
    """(text, context, complete, said) of the finished study, run again with a merge."""
    out = tmp_path_factory.mktemp("merges") / "out"
    shutil.copytree(finished[1].store.root, out)
    said: list[str] = []
    context = context_of(sound(finished[0]), out)
    complete = whole_study.run(context, None, said.append)
    return sound(finished[0]), context, complete, said


def test_run_trains_nothing_again_and_makes_the_merge_that_is_new(merged):
    _, context, complete, said = merged
    assert complete
    assert "1 of 1 merge to make" in said
    rows = {row["name"]: row for row in rows_of(context.store, "trials")}
    assert list(rows) == [FIRST, PARENT, CHILD, BOTH]
    made = rows[BOTH]
    assert (made["status"], made["method"], made["recipe"]) == ("done", "ties", "both")
    assert (made["model"], made["data"], made["seed"]) == ("demo", "D0", 42)
    assert made["label"] == "TIES(SFT(D0), DPO(D0)(SFT D1))"
    assert (made["learning_rate"], made["parent"], made["train_loss"]) == (None, None, None)
    assert made["seconds"] > 0 and made["attempts"] == 1 and made["stopped_rate"] is not None
    attempts = [row for row in rows_of(context.store, "attempts") if row["name"] == BOTH]
    assert [(row["cause"], row["gpus"]) for row in attempts] == [(None, "0")]


def test_samples_of_a_merge_answer_what_trials_are_asked(merged):
    _, context, _, _ = merged
    asked: dict[str, list[str]] = {}
    for row in rows_of(context.store, "samples"):
        asked.setdefault(row["name"], []).append(row["prompt"])
    assert len(asked[BOTH]) == 4
    assert asked[BOTH] == asked[FIRST] == asked[CHILD]


def test_weights_of_a_merge_equal_a_merge_made_by_hand(merged, demo_base, tmp_path):
    _, context, _, _ = merged
    root, parameters = context.store.root, {"weights": [1, 0.5], "density": 0.3, "scaling": 0.7}
    request = request_merge("ties", ["one", "two"], base="demo", **parameters)
    first, parent, child = (folder_of(root, name) / "adapter" for name in (FIRST, PARENT, CHILD))
    places = [ModelLocation(adapters=(first,)), ModelLocation(adapters=(parent, child))]
    merge_models(request, places, demo_base, tmp_path / "by-hand")
    ours = load_file(folder_of(root, BOTH) / "merged" / "model.safetensors")
    theirs = load_file(tmp_path / "by-hand" / "model.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    start = load_file(demo_base / "model.safetensors")
    assert any(not torch.equal(ours[name], start[name]) for name in ours)


def test_comparisons_and_pairs_hold_merges(merged):
    _, context, _, _ = merged
    norms = {
        row["comparison"]: row for row in rows_of(context.store, "norms") if row["level"] == "all"
    }
    every = combinations([FIRST, PARENT, CHILD, BOTH], 2)
    assert set(norms) == {f"{BOTH}~demo", *(f"{a}~{b}" for a, b in every)}
    trials = {row["name"]: row for row in rows_of(context.store, "trials")}
    for key in ("l1", "l2"):
        assert norms[f"{BOTH}~demo"][key] == trials[BOTH][key] > 0
    related = {
        (row["a"], row["b"]): row["cosine"]
        for row in rows_of(context.store, "pairs")
        if row["level"] == "all"
    }
    assert 0.5 < related[FIRST, BOTH] < 1
    for table in ("spectra", "chains", "audit"):
        assert BOTH not in {row["model"] for row in rows_of(context.store, table)}


def test_what_a_merge_keeps_of_a_parent_is_that_of_the_saved_weights(merged, demo_base):
    root, start = merged[1].store.root, load_file(demo_base / "model.safetensors")
    ours = load_file(folder_of(root, BOTH) / "merged" / "model.safetensors")
    factors = load_file(folder_of(root, FIRST) / "adapter" / "adapter_model.safetensors")
    changes, others = [], []
    for name, value in ours.items():
        stem = "base_model.model." + name.removesuffix(".weight")
        change = torch.zeros_like(value).double()
        if f"{stem}.lora_A.weight" in factors:
            up, down = (factors[f"{stem}.lora_{side}.weight"].double() for side in "BA")
            change = 128 / 8 * (up @ down)
        changes.append(change.flatten())
        others.append((value.double() - start[name].double()).flatten())
    parent, merge = torch.cat(changes), torch.cat(others)
    (row,) = [
        row
        for row in rows_of(merged[1].store, "kept_of")
        if (row["parent"], row["level"], row["density"]) == (FIRST, "all", 0.2)
    ]
    cosine = (parent @ merge / (parent.norm() * merge.norm())).item()
    assert row["merge"] == BOTH and row["cosine"] == pytest.approx(cosine, abs=1e-6)
    # The thresholds of a vector over the tensors that a model changes.
    largest = parent.abs().argsort(descending=True)[: row["largest"]]
    survived = (parent[largest].sign() == merge[largest].sign()).sum().item()
    assert row["survived"] == pytest.approx(survived, abs=3)
    assert row["zero"] == pytest.approx((merge[largest] == 0).sum().item(), abs=3)
    assert 0 < row["survived_share"] < 1


def test_difference_of_a_merge_and_an_adapter_is_that_of_their_task_vectors(merged, demo_base):
    root = merged[1].store.root
    ours = load_file(folder_of(root, BOTH) / "merged" / "model.safetensors")
    factors = load_file(folder_of(root, FIRST) / "adapter" / "adapter_model.safetensors")
    start = load_file(demo_base / "model.safetensors")
    total = 0.0
    for name, value in ours.items():
        change = value.double() - start[name].double()
        stem = "base_model.model." + name.removesuffix(".weight")
        if f"{stem}.lora_A.weight" in factors:
            up, down = (factors[f"{stem}.lora_{side}.weight"].double() for side in "BA")
            change -= 128 / 8 * (up @ down)
        total += float((change**2).sum())
    (row,) = [
        row
        for row in rows_of(merged[1].store, "norms")
        if row["comparison"] == f"{FIRST}~{BOTH}" and row["level"] == "all"
    ]
    assert row["l2"] == pytest.approx(total**0.5, rel=1e-5)


def test_reference_to_a_merge_names_its_checkpoint(merged, demo_base):
    _, context, _, _ = merged
    folder = folder_of(context.store.root, BOTH)
    for name in (BOTH, folder.name.rpartition("-")[2]):
        found = find_model(f"{context.store.root}#{name}")
        assert found.location == ModelLocation(checkpoint=folder / "merged", base=demo_base)


def test_record_of_a_merge_names_every_file_and_no_path(merged):
    _, context, _, _ = merged
    folder = folder_of(context.store.root, BOTH)
    record = json.loads((folder / "record.json").read_text())
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert set(record["files"]) == files - {"record.json", "attempts/1.json", "log.txt"}
    assert {"merged/model.safetensors", "merged/tokenizer.json", "samples.jsonl", "log.txt"} < files
    assert record["identity"]["merge.lambda"] == 0.7
    assert "/" not in json.dumps(record["identity"])
    card = (folder / "merged" / "README.md").read_text()
    assert f"# {BOTH}" in card and f"`{FIRST}`" in card and str(folder.parent) not in card
    assert "density 0.3" in (folder / "log.txt").read_text()


@pytest.fixture
def copy(merged, tmp_path):
    """(text, OUT) of a copy of the finished study."""
    shutil.copytree(merged[1].store.root, tmp_path / "copy")
    return merged[0], tmp_path / "copy"


def test_train_and_run_of_a_finished_study_start_no_ray_and_change_nothing(merged, monkeypatch):
    text, context, _, _ = merged
    out, said = context.store.root, []
    monkeypatch.setattr(stages, "connected", lambda *address: pytest.fail("Ray was started"))
    before = times(out, "**/*")
    assert whole_study.run(context_of(text, out), None, said.append)
    assert times(out, "**/*") == before
    assert stages.train(context_of(text, out), None, said.append)
    assert said == ["nothing to train: all 3 trials and 1 merge are in the store"] * 2
    assert times(out, "**/*") == before


def test_redone_merge_has_the_same_bytes_and_one_that_fails_stops_no_other(
    two_gpus, copy, demo_base, tmp_path
):
    text, out = copy
    other = shutil.copytree(demo_base, tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    weights.pop("model.norm.weight")
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    folder = folder_of(out, BOTH)
    content = (folder / "merged" / "model.safetensors").read_bytes()
    (folder / "record.json").unlink()
    (folder / "merged" / "stale.safetensors").write_bytes(b"of a merge that was killed")
    before = times(out)
    merges = MERGES.replace("OTHER", str(other)).splitlines()
    text = text.replace(merges[2], "\n".join(merges[2:4])) + "\n".join([*merges[4:], ""])
    context = context_of(text, out)
    assert not stages.train(context, None, quiet)
    assert set(times(out)) - set(before) == {folder / "record.json"}
    assert {path: times(out)[path] for path in before} == before
    assert (folder / "merged" / "model.safetensors").read_bytes() == content
    assert not (folder / "merged" / "stale.safetensors").exists()
    odd = next(row for row in rows_of(context.store, "trials") if row["name"] == ODD)
    assert (odd["status"], odd["cause"], odd["attempts"]) == ("failed", "error", 1)
    assert "does not fit the base model" in odd["message"]
    (attempt,) = (row for row in rows_of(context.store, "attempts") if row["name"] == "other")
    assert attempt["cause"] == "error" and "lack a weight" in attempt["message"]


def test_finished_model_of_a_merge_is_asked_and_stands_beside_it_in_the_report(
    two_gpus, copy, tmp_path
):
    text, out = copy
    other = shutil.copytree(folder_of(out, PARENT) / "adapter", tmp_path / "other")
    merges = MERGES.replace("OTHER", str(other)).replace("demo}", "demo, data: D1}").splitlines()
    text = text.replace(merges[2], "\n".join(merges[2:4])) + "\n".join([*merges[4:], ""])
    said: list[str] = []
    assert whole_study.run(context_of(text, out), None, said.append)
    assert "1 finished model of merges to ask" in said
    assert any(line.startswith("other was asked in ") for line in said)
    store = Store(str(out))
    rows = {
        (row["name"], row["data"]): row["log_probability"] for row in rows_of(store, "likelihoods")
    }
    # The same adapter as that of a trial, on the same base model.
    for data in ("D0", "D1"):
        assert rows["other", data] == pytest.approx(rows[PARENT, data], rel=1e-6)
    found = {
        row["parent"]: row
        for row in csv.DictReader((Path(out) / "report/findings/merges.csv").open())
        if row["merge"] == "odd"
    }
    assert set(found) == {"SFT(D0)", "other"}
    loss = -rows["other", "D1"]
    assert float(found["other"]["loss_parent"]) == pytest.approx(loss, rel=1e-6)
    assert all(float(found["other"][f"{rate}_rate_parent"]) >= 0 for rate in ("style", "stopped"))
    said.clear()
    assert whole_study.run(context_of(text, out), None, said.append)
    assert said == ["nothing to train: all 3 trials and 2 merges are in the store"]


def test_merge_whose_worker_could_not_speak_leaves_an_attempt(two_gpus, merged, tmp_path):
    _, context, _, _ = merged
    store, stream = Store(str(tmp_path / "empty")), io.StringIO()
    nowhere = {"demo": replace(context.inputs.base_models["demo"], directory=None)}
    inputs = replace(context.inputs, base_models=nowhere)
    told = []
    make_merges(
        replace(context, inputs=inputs, store=store),
        context.merges,
        LineDisplay(stream),
        lambda *words: told.append(words),
    )
    (attempt,) = read_attempts(store, context.merges[0].folder)
    assert (attempt.attempt, attempt.cause) == (1, "error")
    assert "HF_HUB_OFFLINE" in attempt.message
    assert told[0] == (WORKERS,)
    last = stream.getvalue().splitlines()[-1]
    assert last == f"[0/4] {BOTH}  failed: error; the trial table says why"
    assert not store.exists(trial_key(context.merges[0].folder, PROGRESS))


def test_merge_whose_worker_was_lost_leaves_one_attempt_unless_it_spoke(merged, tmp_path):
    _, context, _, _ = merged
    store, merge = Store(str(tmp_path / "empty")), context.merges[0]
    for _ in range(2):
        record_failure(store, merge, 0, WorkerCrashedError())
    (attempt,) = read_attempts(store, merge.folder)
    assert (attempt.attempt, attempt.cause) == (1, "error")
    assert "worker was lost" in attempt.message
