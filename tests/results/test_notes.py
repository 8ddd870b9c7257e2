"""Notes: a row has one if its model, or an ancestor of it, ran out of memory."""

from __future__ import annotations

from raylab.plan.trials import plan_trials
from raylab.results.notes import notes_of, with_notes
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


def test_rows_of_either_side_are_noted_once():
    notes = {"x": "x: small", "y": "x: small"}
    rows = [{"comparison": "x~y"}, {"comparison": "z~w"}, {"a": "z", "b": "y"}]
    sides = {"x~y": ("x", "y"), "z~w": ("z", "w")}
    assert [row["note"] for row in with_notes(rows, sides, notes)] == ["x: small", None, "x: small"]
