"""A whole study over Ray with two logical GPUs: rows, ids, pins, caches, failures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from raylab.cluster import stages
from raylab.cluster.tune import train_trials
from raylab.plan.cache import EVALUATE_AGAIN
from raylab.reduce.passes import InProcess, reduce_pairs
from raylab.spec.study_file import parse_study
from raylab.store.filesystem import Store
from raylab.store.schemas import VOLATILE
from raylab.store.tables import read_table
from tests.cluster.whole import prepared_of, quiet, run

pytestmark = pytest.mark.cluster

NAMES = ["sft-d0", "sft-d1", "bad", "child", "orphan"]


def stable(store, name):
    table = read_table(store, name)
    return table.drop_columns([c for c in VOLATILE if c in table.column_names]).to_pylist()


def unnoted(rows, comparison):
    """The rows of a comparison without what is said beside them."""
    mine = [row for row in rows if row["comparison"] == comparison]
    return [{key: value for key, value in row.items() if key != "note"} for row in mine]


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished store, with the study's text."""
    text, prepared, _ = finished
    shutil.copytree(prepared.store.root, tmp_path / "copy")
    return text, tmp_path / "copy"


def test_trials_table_holds_every_planned_trial(finished):
    _, prepared, complete = finished
    rows = {row["recipe"]: row for row in read_table(prepared.store, "trials").to_pylist()}
    assert not complete
    assert list(rows) == NAMES
    assert [rows[name]["status"] for name in NAMES] == ["done", "done", "failed", "done", "blocked"]
    assert rows["bad"]["cause"] == "non_finite"
    assert "not finite" in rows["bad"]["message"]
    assert "demo.bad.s42" in rows["orphan"]["message"]
    assert rows["child"]["l2"] > 0


def test_attempts_of_trials_got_distinct_gpus(finished):
    _, prepared, _ = finished
    rows = {row["name"]: row for row in read_table(prepared.store, "attempts").to_pylist()}
    first_two = {rows[f"demo.{name}.s42"]["gpus"] for name in ("sft-d1", "bad")}
    assert first_two == {"0", "1"}
    assert all(row["gpus"] in ("0", "1") for row in rows.values())


def test_reduction_on_actors_equals_one_in_this_process(finished):
    _, prepared, _ = finished
    records, _ = stages.read_records(prepared.store)
    places = {
        name: place
        for name, place in prepared.places(records).items()
        if "bad" not in name and "orphan" not in name
    }
    pair = stages.Pair("demo.sft-d0.s42~demo.sft-d1.s42", "demo.sft-d0.s42", "demo.sft-d1.s42")
    base = prepared.inputs.base_models["demo"].directory
    tables = reduce_pairs(stages.Job(places, (pair,), base), prepared.study.densities, InProcess())
    stored = read_table(prepared.store, "norms").to_pylist()
    assert unnoted(stored, pair.name) == tables.norms
    densities = read_table(prepared.store, "densities").to_pylist()
    assert unnoted(densities, pair.name) == tables.densities


def test_comparison_with_a_failed_side_is_left_out_and_the_rest_is_there(finished):
    _, prepared, _ = finished
    compared = {row["comparison"] for row in read_table(prepared.store, "norms").to_pylist()}
    assert compared == {"demo.sft-d0.s42~demo.sft-d1.s42", "demo.child.s42~demo"}


def test_every_planned_comparison_has_a_row_that_says_what_became_of_it(finished):
    _, prepared, _ = finished
    rows = read_table(prepared.store, "comparisons").to_pylist()
    assert [(row["comparison"], row["status"], row["message"]) for row in rows] == [
        ("demo.sft-d0.s42~demo.sft-d1.s42", "done", None),
        ("demo.child.s42~demo.orphan.s42", "blocked", "demo.orphan.s42 is not done"),
        ("demo.child.s42~demo", "done", None),
    ]


def test_marked_trial_is_noted_and_left_out_where_the_study_says_so(two_gpus, copy):
    text, out = copy
    store = Store(str(out))
    file = next(out.glob("trials/demo.sft-d0.s42-*/record.json"))
    record = json.loads(file.read_text())
    record["metrics"]["japanese_rate"] = 0.0
    file.write_text(json.dumps(record))
    limits = "limits: {stopped_rate: null, repetition_rate: null, distinct_rate: null}"
    for left_out in (False, True):
        asked = f"evaluation: {{{limits}, leave_out_marked: {str(left_out).lower()}, "
        prepared = prepared_of(text.replace("evaluation: {", asked), out)
        assert all(item.why != EVALUATE_AGAIN for item in stages.trial_states(prepared, quiet))
        stages.write_trial_tables(prepared)
        stages.reduce(prepared, None, quiet)
        (first, *_) = read_table(store, "comparisons").to_pylist()
        notes = {r["comparison"]: r["note"] for r in read_table(store, "norms").to_pylist()}
        assert first["status"] == ("blocked" if left_out else "done")
        assert ("demo.sft-d0.s42~demo.sft-d1.s42" in notes) is not left_out
        assert "demo.sft-d0.s42 is marked: answers in Japanese: 0 %" in first["note"]
        assert notes["demo.child.s42~demo"] is None
        if not left_out:
            assert notes[first["comparison"]] == first["note"]
    assert first["message"].startswith("left out: demo.sft-d0.s42 is marked (answers in Japanese")
    (marked,) = [r for r in read_table(store, "trials").to_pylist() if r["marked"]]
    assert marked["name"] == "demo.sft-d0.s42" and "at least 50 % asked" in marked["marks"]


def test_norm_of_chained_trial_against_base_is_its_task_vector(finished):
    _, prepared, _ = finished
    trials = {row["name"]: row for row in read_table(prepared.store, "trials").to_pylist()}
    for row in read_table(prepared.store, "norms").to_pylist():
        if row["b"] == "demo" and row["level"] == "all":
            assert row["l1"] == trials[row["a"]]["l1"]
            assert row["l2"] == trials[row["a"]]["l2"]


def test_result_grid_of_tune_agrees_with_the_table_by_trial_id(two_gpus, finished, tmp_path):
    text, _, _ = finished
    only = text[: text.index("recipes:")] + "recipes:\n  sft-d0: {method: sft, data: D0}\n"
    prepared = stages.prepare(parse_study(only, Path("study.yaml")), str(tmp_path / "grid"))
    grid = train_trials(
        prepared.study, prepared.inputs, prepared.trials, prepared.trials, prepared.store
    )
    stages.write_trial_tables(prepared)
    row = read_table(prepared.store, "trials").to_pylist()[0]
    metrics = grid[0].metrics
    assert metrics["trial_id"] == row["trial_id"]
    for key in ("l1", "l2", "train_loss", "eval_loss", "style_rate", "steps"):
        assert metrics[key] == row[key]
    assert list((tmp_path / "grid" / "tune").glob("*/events.out.tfevents*"))


def test_second_run_trains_the_failed_trial_alone(two_gpus, copy):
    text, out = copy
    before = {path: path.stat().st_mtime_ns for path in out.glob("trials/*/record.json")}
    store = Store(str(out))
    tables = [stable(store, name) for name in ("trials", "norms", "densities")]
    said: list[str] = []
    prepared = stages.prepare(parse_study(text, Path("study.yaml")), str(out))
    stages.train(prepared, None, said.append)
    stages.reduce(prepared, None, quiet)
    assert said == ["2 of 5 trials to train"]
    assert {path: path.stat().st_mtime_ns for path in out.glob("trials/*/record.json")} == before
    assert [stable(store, name) for name in ("trials", "norms", "densities")] == tables


def test_deleted_record_reruns_that_trial_alone_to_the_same_tables(two_gpus, copy):
    text, out = copy
    store = Store(str(out))
    norms = stable(store, "norms")
    kept = {path: path.stat().st_mtime_ns for path in out.glob("trials/*/record.json")}
    gone = next(path for path in kept if ".sft-d1." in str(path))
    gone.unlink()
    run(text, out)
    again = {path: path.stat().st_mtime_ns for path in out.glob("trials/*/record.json")}
    assert {path for path in kept if again[path] != kept[path]} == {gone}
    assert stable(store, "norms") == norms


def test_damaged_adapter_is_said_and_trained_again(two_gpus, copy):
    text, out = copy
    file = next(out.glob("trials/demo.sft-d0*/adapter/adapter_model.safetensors"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    said: list[str] = []
    prepared = stages.prepare(parse_study(text, Path("study.yaml")), str(out))
    stages.train(prepared, None, said.append)
    assert any("damaged" in words and "demo.sft-d0.s42" in words for words in said)
    content[-1] ^= 1
    assert file.read_bytes() == bytes(content)


def test_merged_parents_after_the_run_are_deleted(finished):
    from raylab.store.filesystem import study_scratch

    _, prepared, _ = finished
    merged = study_scratch(prepared.store) / "merged"
    assert not [path for path in merged.glob("*") if path.is_dir()]


def test_record_names_versions_and_no_token(finished):
    _, prepared, _ = finished
    for path in Path(prepared.store.root).glob("trials/*/record.json"):
        record = json.loads(path.read_text())
        assert record["versions"]["torch"]
        assert record["files"]


def test_finished_models_join_comparisons_and_are_never_trained(two_gpus, finished, tmp_path):
    _, prepared, _ = finished
    root = Path(prepared.store.root)
    adapter = next(root.glob("trials/demo.sft-d1*/adapter"))
    base = prepared.study.base_models["demo"].path
    text = (
        prepared_head(finished[0])
        + f"""
models:
  published: {{path: {adapter}, base_model: demo, method: sft, data: D1, seed: 42}}
  original: {{path: {base}, base_model: demo}}
comparisons:
  - pair: [published, original]
  - base: all
"""
    )
    study = parse_study(text, Path("study.yaml"))
    said: list[str] = []
    prepared_again = stages.prepare(study, str(tmp_path / "out"))
    assert stages.run(prepared_again, None, said.append)
    rows = {
        row["comparison"]: row
        for row in read_table(prepared_again.store, "norms").to_pylist()
        if row["level"] == "all"
    }
    trained = next(
        row for row in read_table(prepared.store, "trials").to_pylist() if row["recipe"] == "sft-d1"
    )
    assert rows["published~demo"]["l2"] == trained["l2"]
    assert rows["published~original"]["l2"] == trained["l2"]
    assert rows["original~demo"]["l2"] == 0
    assert not (tmp_path / "out" / "trials").exists()


def prepared_head(text):
    return text[: text.index("recipes:")]
