"""What a store holds of a plan: results are found by their ids, under whatever name.

The oracle is the set of ids: a study that only changes names has the ids that it had before, and
all that finished under them must be there, with nothing written.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raylab.plan.cache import EVALUATE_AGAIN, plan_states, questions_of
from raylab.plan.merges import plan_merges
from raylab.plan.schedule import schedule_study
from raylab.plan.stored import distinct, find_results
from raylab.plan.trials import Inputs, plan_trials
from raylab.results.table_rows import (
    attempt_rows,
    likelihood_rows,
    live_rows,
    read_results,
    sample_rows,
    trial_rows,
)
from raylab.spec.data.rows import Row
from raylab.spec.merge_variants import result_names
from raylab.spec.models import ResolvedModel
from raylab.spec.study import Study
from raylab.store.filesystem import Store
from raylab.store.records import (
    SAMPLES,
    Attempt,
    Record,
    read_record,
    trial_key,
    write_attempt,
    write_record,
)
from tests.studies import CHAIN, D0, D1, study_values

MERGES = {"m": {"method": "ties", "models": ["alone", "second"]}}
NEW_NAMES = {"D0": "plain", "D1": "noble", "D2": "all-of-it"}


def renamed(values, names):
    """A study with other names: every text in it that is a key of `names`."""
    if isinstance(values, dict):
        return {names.get(key, key): renamed(value, names) for key, value in values.items()}
    if isinstance(values, list):
        return [renamed(value, names) for value in values]
    return names.get(values, values) if isinstance(values, str) else values


def values(names=None, **changes):
    """A study of chains with a merge, under other names."""
    return renamed(study_values(merges=MERGES, seeds=[42, 100], **changes), names or {})


class Planned:
    """A study and its plan; the content of base models and data is the same under any name."""

    def __init__(self, given):
        self.study = Study.model_validate(given)
        parts = {"d0.jsonl": D0, "d1.jsonl": D1}
        rows = {
            name: [Row.of(*row) for row in parts[str(data.path)]]
            for name, data in self.study.data.items()
            if data.path
        }
        for name, data in self.study.data.items():
            if data.concat:
                rows[name] = [row for part in data.concat for row in rows[part]]
        models = {
            name: ResolvedModel(name, "content:aa", Path("/nowhere"), name)
            for name in self.study.base_models
        }
        self.inputs = Inputs(models, {}, rows)
        trials = plan_trials(self.study, self.inputs)
        self.items = [*trials, *plan_merges(self.study, self.inputs, trials)]
        self.questions = questions_of(self.study, self.inputs.rows)

    def named(self, recipe, seed=42):
        (item,) = (i for i in self.items if i.row["recipe"] == recipe and i.row["seed"] == seed)
        return item

    def finish(self, store, items=None):
        for item in items or self.items:
            store.write(trial_key(item.folder, SAMPLES), b'{"prompt": "p", "answer": "a"}\n')
            write_attempt(store, item.folder, Attempt(attempt=1))
            record = Record(
                name=item.name, id=item.id, identity=dict(item.identity), data={},
                evaluation=self.questions.id, held_out=dict(self.questions.held_out), versions={},
                metrics={"l2": 1.5, "likelihoods": {n: {"rows": len(n)} for n in self.held_out}},
            )  # fmt: skip
            write_record(store, item.folder, record)

    @property
    def held_out(self):
        return self.questions.held_out

    def found(self, store):
        return find_results(self.items, store, self.questions)

    def states(self, store):
        found = self.found(store)
        return plan_states(found.planned, found.records, self.questions.id)

    def results(self, store):
        return read_results(self.items, store, self.questions)


@pytest.fixture(params=["local", "remote"])
def store(request, tmp_path):
    """An empty store, on a disk and in an object store."""
    if request.param == "remote":
        return request.getfixturevalue("remote")
    return Store(str(tmp_path / "out"))


RENAMES = {
    "recipe": values({"second": "chained", "first": "begun"}),
    "data set": values(NEW_NAMES),
    "base model": values({"tiny": "small"}),
    "merge": values({"m": "blend"}),
    "seeds in another order": {**values(), "seeds": [100, 42]},
    "recipes in another order": {**values(), "recipes": dict(reversed(CHAIN.items()))},
    "everything": values({"second": "chained", "m": "blend", "tiny": "small", **NEW_NAMES}),
}


@pytest.mark.parametrize("change", RENAMES)
def test_study_with_other_names_is_done_in_the_plan_and_in_every_table(change, store):
    before, after = Planned(values()), Planned(RENAMES[change])
    assert before.held_out, "likelihoods are measured"
    before.finish(store)
    content = {name: store.read(f"trials/{name}") for name in store.files("trials")}
    folders = {item.id: item.folder for item in before.items}
    assert {item.id for item in after.items} == set(folders)

    assert {item.state for item in after.states(store)} == {"cached"}
    found = after.found(store)
    assert [item.name for item in found.planned] == [item.name for item in after.items]
    assert {item.id: item.folder for item in found.planned} == folders
    assert found.left_out == []
    results = after.results(store)
    for rows in (trial_rows(results), live_rows(results)):
        assert [row["name"] for row in rows] == [item.name for item in after.items]
        assert {(row["status"], row["attempts"], row["l2"]) for row in rows} == {("done", 1, 1.5)}
        for row in rows:
            assert row["log"] == f"trials/{folders[row['trial_id']]}/log.txt"
    names = [item.name for item in after.items]
    assert [row["name"] for row in sample_rows(results)] == names
    assert [row["name"] for row in attempt_rows(results)] == names
    measured = {(row["name"], row["data"]) for row in likelihood_rows(results)}
    assert measured == {(name, data) for name in names for data in after.held_out}
    assert {name: store.read(f"trials/{name}") for name in store.files("trials")} == content


def test_likelihoods_of_renamed_data_sets_are_those_of_the_same_rows(store):
    before, after = Planned(values()), Planned(values({"D0": "D1", "D1": "D0"}))
    before.finish(store)
    for id, record in after.found(store).records.items():
        old = before.found(store).records[id].metrics["likelihoods"]
        new = record.metrics["likelihoods"]
        assert {"D0": new["D1"], "D1": new["D0"]} == old


@pytest.mark.parametrize("change", ["other rows", "another question", "one set more"])
def test_questions_that_differ_in_more_than_names_are_asked_again(change, tmp_path):
    store, before = Store(str(tmp_path / "out")), Planned(values())
    before.finish(store)
    given = values(NEW_NAMES)
    if change == "other rows":
        given["data"]["noble"]["path"] = "d0.jsonl"
        given["recipes"] = {"alone": {"method": "sft", "data": "plain"}}
        given["merges"] = {}
    elif change == "another question":
        given["evaluation"] = {"max_new_tokens": 3}
    else:
        given["data"]["third"] = {"path": "d0.jsonl"}
    whys = {item.why for item in Planned(given).states(store) if item.trial.row["seed"] == 42}
    if change == "one set more":
        assert whys == {""}, "the rows of the new set are those of another that was asked"
    else:
        assert EVALUATE_AGAIN in whys


@pytest.mark.parametrize("folder", ["moved by hand", "a.b=1.s42", "日本語"])
def test_folder_that_was_renamed_by_hand_is_found_by_its_id(folder, tmp_path):
    store, plan = Store(str(tmp_path / "out")), Planned(values())
    plan.finish(store)
    item = plan.named("alone")
    trials = tmp_path / "out" / "trials"
    (trials / item.folder).rename(trials / f"{folder}-{item.id}")
    assert {state.state for state in plan.states(store)} == {"cached"}
    (found,) = (i for i in plan.found(store).planned if i.id == item.id)
    assert found.folder == f"{folder}-{item.id}"
    assert plan.found(store).damaged == ()


def test_trial_that_failed_or_was_begun_keeps_its_attempts_under_another_name(store):
    before, after = Planned(values()), Planned(values({"alone": "single"}))
    failed = Attempt(attempt=1, cause="error", message="it broke")
    write_attempt(store, before.named("alone").folder, failed)
    rows = {row["recipe"]: row for row in trial_rows(after.results(store)) if row["seed"] == 42}
    assert (rows["single"]["status"], rows["single"]["message"]) == ("failed", "it broke")
    assert rows["other"]["status"] == "blocked"
    (found,) = (item for item in after.found(store).planned if item.id == before.named("alone").id)
    assert found.folder == before.named("alone").folder


def test_folder_with_a_sound_record_counts_where_an_id_has_two(tmp_path):
    """As an earlier version left them: a result, and a training of the same beside it."""
    store, plan = Store(str(tmp_path / "out")), Planned(values())
    item = plan.named("alone")
    other = f"a-former-name-{item.id}"
    write_attempt(store, other, Attempt(attempt=1, cause="error"))
    plan.finish(store, [item])
    assert other < item.folder, "the order of names alone would choose the other"

    def folder():
        (found,) = (i for i in plan.found(store).planned if i.id == item.id)
        return found.folder

    assert folder() == item.folder
    record = json.loads(store.read(trial_key(item.folder, "record.json")))
    store.write(trial_key(other, SAMPLES), store.read(trial_key(item.folder, SAMPLES)))
    store.write(trial_key(other, "record.json"), json.dumps(record).encode())
    assert folder() == other
    store.write(trial_key(other, SAMPLES), b"")
    assert folder() == item.folder
    assert item.id in plan.found(store).records


def test_results_of_no_planned_trial_are_left_out_by_name(store):
    whole = Planned(values())
    whole.finish(store)
    small = values()
    small["merges"], small["seeds"] = {}, [42]
    del small["recipes"]["third"]
    found = Planned(small).found(store)
    kept = {item.id for item in found.planned}
    assert sorted(record.name for record in found.left_out) == sorted(
        item.name for item in whole.items if item.id not in kept
    )
    assert len(found.left_out) == 12 - 4


@pytest.mark.parametrize("change", [*RENAMES, "a sweep"])
def test_names_of_results_are_those_of_the_plan_without_any_input(change):
    swept = {**CHAIN["alone"], "sweep": {"epochs": [1, 2]}}
    more = {**values(), "merges": {}, "recipes": {**CHAIN, "swept": swept}}
    plan = Planned({**RENAMES, "a sweep": more}[change])
    assert result_names(plan.study) == [item.name for item in plan.items]


TWINS = {
    "a": {"method": "sft", "data": "D0"},
    "b": {"method": "sft", "data": "D0", "training": {"epochs": 3}},
    "after-a": {"method": "sft", "data": "D1", "parent": "a"},
    "after-b": {"method": "sft", "data": "D1", "parent": "b"},
    "other": {"method": "sft", "data": "D2", "parent": "b"},
}
TWIN_MERGES = {
    "m": {"method": "ties", "models": ["a", "other"]},
    "n": {"method": "ties", "models": ["b", "other"]},
}


@pytest.fixture
def twins():
    """Recipes, their children and merges that are the same under two names each."""
    return Planned(study_values(recipes=TWINS, merges=TWIN_MERGES, seeds=[42]))


def test_two_recipes_of_one_id_are_one_training(twins, tmp_path):
    store = Store(str(tmp_path / "out"))
    assert len({item.id for item in twins.items}) == 4 and len(twins.items) == 7
    made = distinct(twins.items)
    assert [item.name for item in made] == [
        "tiny.a.s42", "tiny.after-a.s42", "tiny.other.s42", "tiny.m.s42",
    ]  # fmt: skip
    other = next(item for item in made if item.row["recipe"] == "other")
    assert (other.parent, other.lineage) == ("tiny.a.s42", ("tiny.a.s42",))
    states = {item.trial.row["recipe"]: item for item in twins.states(store)}
    assert (states["a"].state, states["b"].state) == ("to run", "blocked")
    assert states["b"].why == "waits for tiny.a.s42: it is the same training"
    assert states["n"].why == "waits for tiny.m.s42: it is the same merge"
    schedule = schedule_study(twins.study, twins.inputs, list(states.values()), {}, 1)
    assert {row["name"] for row in schedule["trials"]} == {item.name for item in made[:3]}
    assert len(schedule["trials"]) == 3


def test_two_recipes_of_one_id_have_two_rows_with_one_result(twins, store):
    found = twins.found(store)
    folders = {item.row["recipe"]: item.folder for item in found.planned}
    assert folders["a"] == folders["b"] and folders["after-a"] == folders["after-b"]
    by_name = {item.name: item for item in found.planned}
    twins.finish(store, [by_name[item.name] for item in distinct(found.planned)])
    assert {item.state for item in twins.states(store)} == {"cached"}
    rows = {row["recipe"]: row for row in trial_rows(twins.results(store))}
    assert list(rows) == [*TWINS, "m", "n"]
    assert {row["status"] for row in rows.values()} == {"done"}
    same = ("trial_id", "l2", "attempts", "log", "adapter")
    assert [rows["a"][key] for key in same] == [rows["b"][key] for key in same]
    assert rows["b"]["note"] == "tiny.b.s42 is the same as tiny.a.s42"
    assert rows["a"]["note"] is None
    assert len(list(store.names("trials"))) == 4


def test_record_that_is_evaluated_again_stays_in_its_folder(tmp_path):
    store, before = Store(str(tmp_path / "out")), Planned(values())
    before.finish(store)
    after = Planned(values({"alone": "single"}))
    item = next(i for i in after.found(store).planned if i.row["recipe"] == "single")
    record = read_record(store, item.folder)
    assert record is not None and record.name == "tiny.alone.s42"
    again = write_record(store, item.folder, record.model_copy(update={"evaluation": "new"}))
    assert after.found(store).records[item.id] == again
