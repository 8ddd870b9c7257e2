"""Sweeps of merges: names, settings, references, mistakes with their lines."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from raylab.errors import StudyError
from raylab.plan.comparisons import plan_comparisons, plan_models
from raylab.plan.merges import plan_merges, sweep_counts
from raylab.plan.trials import plan_trials
from raylab.spec.merge_variants import expand_merges, merge_variants_of, result_names
from raylab.spec.study_file import parse_study, study_text
from tests.studies import make_inputs

TEXT = """\
name: demo
base_models: {tiny: {path: base}}
data: {D0: {path: a.jsonl}, D1: {path: b.jsonl}}
seeds: [1, 2]
recipes:
  one: {method: sft, data: D0}
  two: {method: sft, data: D1}
merges:
  mixed:
    method: breadcrumbs
    models: [one, two]
    sweep:
      density: [0.1, 2e-1]
      lambda: [1, 0.50]
  plain: {method: linear, models: [one, two], sweep: {weight: [0, 0.3, 1]}}
comparisons:
  - pair: [mixed, one]
  - pair: ["mixed.density=0.20.lambda=1", plain.weight=0.30]
  - base: [mixed]
"""
NAMES = [
    "mixed.density=0.1.lambda=1",
    "mixed.density=0.1.lambda=0.50",
    "mixed.density=2e-1.lambda=1",
    "mixed.density=2e-1.lambda=0.50",
    "plain.weight=0",
    "plain.weight=0.3",
    "plain.weight=1",
]


def study(text=TEXT):
    return parse_study(text, Path("study.yaml"))


def planned(found):
    inputs = make_inputs(found)
    trials = plan_trials(found, inputs)
    return [*trials, *plan_merges(found, inputs, trials)]


def test_sweep_makes_one_merge_for_every_combination_and_names_it_as_the_file_writes_it():
    found = expand_merges(study())
    assert list(found) == NAMES
    settings = found["mixed.density=2e-1.lambda=0.50"].settings
    assert (settings.density, getattr(settings, "lambda"), settings.sweep) == (0.2, 0.5, {})
    assert [found[name].settings.weights for name in NAMES[4:]] == [(0, 1), (0.3, 0.7), (1, 0)]
    assert {item.merge for item in found.values()} == {"mixed", "plain"}


def test_weight_of_three_models_leaves_the_rest_to_the_others_alike():
    text = TEXT.replace("linear, models: [one, two]", "linear, models: [one, two, one]")
    assert expand_merges(study(text))["plain.weight=0.3"].settings.weights == (0.3, 0.35, 0.35)


def test_parameters_of_a_method_are_swept_by_name():
    text = TEXT.replace("density: [0.1, 2e-1]", "gamma: [0, 0.05]")
    text = text.partition("comparisons:")[0]
    found = expand_merges(study(text))["mixed.gamma=0.05.lambda=1"].settings
    assert (found.parameters, found.density) == ({"gamma": 0.05}, None)


def test_plan_has_every_merge_at_every_seed_with_settings_and_label():
    found = {item.name: item for item in planned(study())}
    assert [name for name in found if "mixed" in name or "plain" in name] == [
        f"tiny.{name}.s{seed}" for name in NAMES for seed in (1, 2)
    ]
    assert list(found) == result_names(study())
    merge = found["tiny.mixed.density=2e-1.lambda=0.50.s2"]
    assert merge.label == "BREADCRUMBS(SFT(D0), SFT(D1)), density 2e-1, lambda 0.50"
    assert [item.density for item in merge.request.inputs] == [0.2, 0.2]
    assert (merge.request.scaling, merge.row["recipe"]) == (0.5, "mixed.density=2e-1.lambda=0.50")


def test_plan_counts_the_merges_of_each_sweep():
    mixed, plain = sweep_counts(study())
    assert mixed.line == "sweep of mixed: 8 merges (density 0.1, 2e-1; lambda 1, 0.50)"
    assert plain.document == {"merge": "plain", "values": {"weight": [0, 0.3, 1]}, "merges": 6}
    assert sweep_counts(study(re.sub(r"(?s), sweep: \{weight.*", "}", TEXT)))[1:] == []


def test_swept_merge_has_the_id_of_one_that_is_written_out():
    written = TEXT.replace("sweep: {weight: [0, 0.3, 1]}", "weights: [0.3, 0.7]")
    written = written.replace("plain.weight=0.30", "plain")
    one = next(item for item in planned(study()) if "weight=0.3" in item.name)
    other = next(item for item in planned(study(written)) if ".plain." in item.name)
    assert one.id == other.id and one.identity == other.identity


def test_comparisons_take_all_points_or_one_in_any_spelling():
    found = study()
    assert found.comparisons[1].pair == (NAMES[2], NAMES[5])
    made = plan_comparisons(found, plan_models(found, planned(found)))
    names = [c.name for c in made if ".s1" in c.name]
    assert names[:4] == [f"tiny.{name}.s1~tiny.one.s1" for name in NAMES[:4]]
    assert names[4] == f"tiny.{NAMES[2]}.s1~tiny.{NAMES[5]}.s1"
    assert len(names) == 4 + 1 + 4
    assert [v.name for v in merge_variants_of(found, "mixed.density=.1.lambda=1.0")] == NAMES[:1]


def test_study_written_and_read_again_has_the_same_sweeps():
    again = study(study_text(study()))
    assert again == study() and list(expand_merges(again)) == NAMES


SMALL = TEXT[: TEXT.index("  plain:")] + "  small: {method: ties, models: [one, two], FORM}\n"


@pytest.mark.parametrize(
    ("swept", "outputs"),
    [("rank: [2, 4]", [(2, None), (4, None)]), ("energy: [0.9, 1]", [(None, 0.9), (None, 1.0)])],
)
def test_sweep_sets_the_rank_or_the_energy_of_an_adapter(swept, outputs):
    found = study(SMALL.replace("FORM", f"as: adapter, sweep: {{{swept}}}"))
    made = [item for item in planned(found) if ".small." in item.name and item.seed.init == 1]
    assert [(one.request.output.rank, one.request.output.energy) for one in made] == outputs
    assert len({one.id for one in made}) == 2


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("sweep: {rank: [2, 4]}", "only an adapter has a rank"),
        ("as: adapter, rank: 3, sweep: {energy: [0.5, 1]}", "exclude each other"),
        ("as: adapter, rank: 3, sweep: {rank: [1, 2]}", "has rank beside the sweep"),
        ("as: adapter, sweep: {rank: [0, 2]}", "greater than or equal to 1"),
    ],
)
def test_sweep_of_a_rank_that_cannot_be_is_refused(form, said):
    with pytest.raises(StudyError, match=said):
        study(SMALL.replace("FORM", form))


MISTAKES = {
    "key": ("density:", "densty:", 13, "mixed.sweep.densty", "did you mean density?"),
    "values": ("2e-1]", "0.10]", 13, "mixed.sweep.density", "give distinct values"),
    "empty": ("[0, 0.3, 1]", "[]", 15, "plain.sweep.weight", "give distinct values"),
    "bounds": ("2e-1]", "1.5]", 12, "mixed.sweep", "less than or equal to 1 (found 1.5)"),
    "flag": ("[0.1, 2e-1]", "[0.1, true]", 12, "mixed.sweep", "(found True)"),
    "text": ("lambda: [1", "lambda: ['1'", 12, "mixed.sweep", "(found '1')"),
    "kind": ("[0, 0.3, 1]", "[x, 1]", 15, "plain.sweep.weight", "found 'x'"),
    "idle": ("{weight:", "{lambda:", 15, "plain.sweep.lambda", "linear has no lambda"),
    "twice": ("    sweep:\n", "    density: 0.1\n    sweep:\n", 14, "mixed.sweep.density",
              "the merge has density beside the sweep"),
    "alone": ("linear, models: [one, two]", "linear, models: [one]", 15, "plain.sweep.weight",
              "there are none"),
}  # fmt: skip


@pytest.mark.parametrize("kind", MISTAKES)
def test_mistake_in_a_sweep_names_line_and_field(kind):
    old, new, line, field, said = MISTAKES[kind]
    assert TEXT.count(old) == 1
    with pytest.raises(StudyError) as caught:
        study(TEXT.replace(old, new))
    (message,) = caught.value.message.splitlines()
    assert re.search(rf"line {line}: merges\.{re.escape(field)}: ", message), message
    assert said in message
