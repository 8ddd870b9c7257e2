"""A whole study over Ray with two logical GPUs: rows, ids, pins, caches, failures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from raylab.cluster import stages, whole_study
from raylab.cluster.tune import result_grid
from raylab.plan.cache import EVALUATE_AGAIN
from raylab.reduce.job import InProcess, Job
from raylab.reduce.passes import reduce_pairs
from raylab.reduce.row_block import Pair
from raylab.spec.study_file import parse_study
from raylab.store.columns import VOLATILE
from raylab.store.filesystem import Store
from raylab.store.tables import read_table
from tests.cluster.whole import context_of, quiet

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
    text, context, _ = finished
    shutil.copytree(context.store.root, tmp_path / "copy")
    return text, tmp_path / "copy"


def test_trials_table_holds_every_planned_trial(finished):
    _, context, complete = finished
    rows = {row["recipe"]: row for row in read_table(context.store, "trials").to_pylist()}
    assert not complete
    assert list(rows) == NAMES
    assert [rows[name]["status"] for name in NAMES] == ["done", "done", "failed", "done", "blocked"]
    assert rows["bad"]["cause"] == "non_finite"
    assert "not finite" in rows["bad"]["message"]
    assert "demo.bad.s42" in rows["orphan"]["message"]
    assert rows["child"]["l2"] > 0


def test_attempts_of_trials_got_distinct_gpus(finished):
    _, context, _ = finished
    rows = {row["name"]: row for row in read_table(context.store, "attempts").to_pylist()}
    first_two = {rows[f"demo.{name}.s42"]["gpus"] for name in ("sft-d0", "sft-d1")}
    assert first_two == {"0", "1"}
    assert all(row["gpus"] in ("0", "1") for row in rows.values())


def test_reduction_on_actors_equals_one_in_this_process(finished):
    _, context, _ = finished
    places = {
        name: place
        for name, place in context.places(context.records()).items()
        if "bad" not in name and "orphan" not in name
    }
    pair = Pair("demo.sft-d0.s42~demo.sft-d1.s42", "demo.sft-d0.s42", "demo.sft-d1.s42")
    base = context.inputs.base_models["demo"].directory
    tables = reduce_pairs(Job(places, (pair,), base), context.study.densities, InProcess())
    stored = read_table(context.store, "norms").to_pylist()
    assert unnoted(stored, pair.name) == tables.norms
    densities = read_table(context.store, "densities").to_pylist()
    assert unnoted(densities, pair.name) == tables.densities


def test_comparison_with_a_failed_side_is_left_out_and_the_rest_is_there(finished):
    _, context, _ = finished
    compared = {row["comparison"] for row in read_table(context.store, "norms").to_pylist()}
    assert compared == {"demo.sft-d0.s42~demo.sft-d1.s42", "demo.child.s42~demo"}


def test_every_planned_comparison_has_a_row_that_says_what_became_of_it(finished):
    _, context, _ = finished
    rows = read_table(context.store, "comparisons").to_pylist()
    assert [(row["comparison"], row["status"], row["message"]) for row in rows] == [
        ("demo.sft-d0.s42~demo.sft-d1.s42", "done", None),
        ("demo.child.s42~demo.orphan.s42", "blocked", "demo.orphan.s42 is not done"),
        ("demo.child.s42~demo", "done", None),
    ]


def test_marked_trial_is_noted_and_left_out_where_the_study_says_so(
    two_gpus, reduced_in_process, copy
):
    text, out = copy
    store = Store(str(out))
    file = next(out.glob("trials/demo.sft-d0.s42-*/record.json"))
    record = json.loads(file.read_text())
    record["metrics"]["japanese_rate"] = 0.0
    file.write_text(json.dumps(record))
    limits = "limits: {stopped_rate: null, repetition_rate: null, distinct_rate: null}"
    for left_out in (False, True):
        asked = f"evaluation: {{{limits}, leave_out_marked: {str(left_out).lower()}, "
        context = context_of(text.replace("evaluation: {", asked), out)
        assert all(
            item.why != EVALUATE_AGAIN for item in whole_study.checked_states(context, quiet)
        )
        stages.write_trial_tables(context)
        stages.reduce(context, None, quiet)
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
    _, context, _ = finished
    trials = {row["name"]: row for row in read_table(context.store, "trials").to_pylist()}
    for row in read_table(context.store, "norms").to_pylist():
        if row["b"] == "demo" and row["level"] == "all":
            assert row["l1"] == trials[row["a"]]["l1"]
            assert row["l2"] == trials[row["a"]]["l2"]


def test_result_grid_of_tune_agrees_with_the_table_by_trial_id(finished):
    _, context, _ = finished
    rows = {row["trial_id"]: row for row in read_table(context.store, "trials").to_pylist()}
    grid = {found.metrics["trial_id"]: found for found in result_grid(context.store)}
    done = [key for key, row in rows.items() if row["status"] == "done"]
    assert len(done) == 3
    for key in done:
        for metric in ("l1", "l2", "train_loss", "eval_loss", "style_rate", "steps"):
            assert grid[key].metrics[metric] == rows[key][metric]
    assert list(Path(context.store.root).glob("tune/*/events.out.tfevents*"))


def test_second_run_trains_what_failed_is_gone_or_damaged_and_nothing_else(two_gpus, copy):
    """A trial that failed, one whose record was deleted, and one whose adapter was damaged."""
    text, out = copy
    store = Store(str(out))
    names = ("trials", "norms", "densities")
    tables = [stable(store, name) for name in names]
    records = {path.parent.name.split(".")[1]: path for path in out.glob("trials/*/record.json")}
    before = {name: path.stat().st_mtime_ns for name, path in records.items()}
    assert set(before) == {"sft-d0", "sft-d1", "child"}
    records["sft-d1"].unlink()
    adapter = records["sft-d0"].parent / "adapter" / "adapter_model.safetensors"
    content = adapter.read_bytes()
    adapter.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    said: list[str] = []
    context = context_of(text, out)
    stages.train(context, None, said.append)
    stages.reduce(context, None, quiet)
    assert said[0].startswith("damaged, and made again: demo.sft-d0.s42: adapter/adapter_model")
    assert "4 of 5 trials to train" in said
    after = {name: path.stat().st_mtime_ns for name, path in records.items()}
    assert {name for name in before if before[name] == after[name]} == {"child"}
    assert adapter.read_bytes() == content
    assert [stable(store, name) for name in names] == tables


def test_merged_parents_after_the_run_are_deleted(finished):
    from raylab.store.filesystem import study_scratch

    _, context, _ = finished
    merged = study_scratch(context.store) / "merged"
    assert not [path for path in merged.glob("*") if path.is_dir()]


def test_record_names_versions_and_no_token(finished):
    _, context, _ = finished
    for path in Path(context.store.root).glob("trials/*/record.json"):
        record = json.loads(path.read_text())
        assert record["versions"]["torch"]
        assert record["files"]


def test_finished_models_join_comparisons_and_are_never_trained(
    two_gpus, reduced_in_process, finished, tmp_path
):
    _, context, _ = finished
    root = Path(context.store.root)
    adapter = next(root.glob("trials/demo.sft-d1*/adapter"))
    base = context.study.base_models["demo"].path
    text = (
        head_of(finished[0])
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
    again = stages.prepare(study, str(tmp_path / "out"))
    assert whole_study.run(again, None, said.append)
    rows = {
        row["comparison"]: row
        for row in read_table(again.store, "norms").to_pylist()
        if row["level"] == "all"
    }
    trained = next(
        row for row in read_table(context.store, "trials").to_pylist() if row["recipe"] == "sft-d1"
    )
    assert rows["published~demo"]["l2"] == trained["l2"]
    assert rows["published~original"]["l2"] == trained["l2"]
    assert rows["original~demo"]["l2"] == 0
    assert not (tmp_path / "out" / "trials").exists()


def head_of(text):
    return text[: text.index("recipes:")]
