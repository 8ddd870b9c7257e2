"""Notes: a row has one if its model, or an ancestor of it, ran out of memory."""

from __future__ import annotations

from raylab.plan.finished_parents import plan_finished_parents
from raylab.plan.merges import plan_merges
from raylab.plan.trials import plan_trials
from raylab.results.notes import notes_of, with_notes
from raylab.spec.models import ResolvedModel
from raylab.store.records import Record
from tests.studies import make_inputs, make_study


def records_of(trials, small):
    return {
        trial.id: Record(
            name=trial.name,
            id=trial.id,
            identity={},
            data={},
            evaluation="",
            versions={},
            metrics={
                "micro_batch": 1 if trial.name in small else trial.variant.training.batch_size
            },
        )
        for trial in trials
    }


def test_notes_of_a_small_micro_batch_pass_on_to_descendants_alone():
    study = make_study(seeds=[1])
    trials = plan_trials(study, make_inputs(study))
    parent = next(trial for trial in trials if any(trial.name in t.lineage for t in trials))
    notes = notes_of(trials, records_of(trials, {parent.name}))
    expected = {t.name for t in trials if t is parent or parent.name in t.lineage}
    assert set(notes) == expected
    assert all(f"{parent.name}: micro-batch 1 instead of 2" in note for note in notes.values())
    assert notes_of(trials, records_of(trials, set())) == {}


def test_note_of_a_marked_finished_model_passes_on_to_the_merges_that_take_it():
    given = {"path": "x", "base_model": "tiny", "method": "sft", "data": "D0"}
    merges = {
        "with": {"method": "linear", "models": ["alone", "mute"]},
        "without": {"method": "linear", "models": ["alone", "sound"]},
    }
    study = make_study(
        seeds=[1], held_out=0.5, models={"mute": given, "sound": given}, merges=merges
    )
    inputs = make_inputs(study)
    for name in study.models:
        inputs.models[name] = ResolvedModel(name, f"content:{name}", None, name)
    trials = plan_trials(study, inputs)
    finished = plan_finished_parents(study, inputs)
    planned = [*trials, *plan_merges(study, inputs, trials), *finished]
    records = records_of(trials, set())
    for model in finished:
        rate = 0.0 if model.name == "mute" else 1.0
        records[model.id] = Record(
            name=model.name, id=model.id, identity={}, data={}, evaluation="", versions={},
            metrics={"stopped_rate": rate},
        )  # fmt: skip
    note = "mute is marked: answers that end by themselves: 0 %, at least 50 % asked"
    assert notes_of(planned, records) == {"mute": note, "tiny.with.s1": note}


def test_rows_of_either_side_are_noted_once():
    notes = {"x": "x: small", "y": "x: small"}
    rows = [{"comparison": "x~y"}, {"comparison": "z~w"}, {"a": "z", "b": "y"}]
    sides = {"x~y": ("x", "y"), "z~w": ("z", "w")}
    assert [row["note"] for row in with_notes(rows, sides, notes)] == ["x: small", None, "x: small"]
