from __future__ import annotations

import pytest

from raylab.report.findings.seed_tables import seed_tables
from raylab.report.page.answers import answers_side_by_side, titles
from tests.report.conftest import (
    MODEL,
    PROMPTS,
    comparison_of,
    fail,
    make_norms,
    make_samples,
    make_trials,
    name_of,
)


def _roots(rows):
    return [row for row in rows if row.label in ("SFT(D0) vs SFT(D1)", "DPO(D0) vs DPO(D1)")]


def test_seed_tables_original_study_puts_equal_learning_rates_in_like():
    found = seed_tables(make_trials(), make_norms())

    assert [(row.method, row.learning_rate) for row in _roots(found.like)] == [
        ("sft", 1e-5),
        ("dpo", 1e-5),
    ]
    assert [row.verdict for row in _roots(found.like)] == ["stable"] * 2
    sft = found.like[0]
    assert sft.l2 == {42: 2.20031771804024, 100: 2.217655637326153}
    assert sft.l1 == {42: 277361.125, 100: 278791.25}


def test_seed_tables_original_study_puts_sft_at_1e4_beside_dpo():
    (group,) = seed_tables(make_trials(), make_norms()).unlike

    assert [(row.method, row.learning_rate) for row in _roots(group)] == [
        ("sft", 1e-4),
        ("dpo", 1e-5),
    ]
    sft = group[0]
    assert sft.ratio == pytest.approx(45.28603753158914 / 16.658565739582745)
    assert f"{sft.ratio:.2f}" == "2.72"
    assert sft.verdict == "seed"


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [(1.25, "stable"), (1.26, "varies"), (2.0, "varies"), (2.01, "seed")],
)
def test_seed_tables_factor_at_a_bound_gets_the_milder_verdict(factor, verdict):
    norms = [row for row in make_norms() if row["comparison"] == comparison_of(0, 2, 42)]
    other = {"comparison": comparison_of(0, 2, 100)}
    other |= {"a": name_of("sft-d0.learning_rate=1e-05", 100)}
    other |= {"b": name_of("sft-d1.learning_rate=1e-05", 100)}
    norms = [row | {"l2": 4.0} for row in norms] + [
        row | other | {"l2": 4.0 * factor} for row in norms
    ]

    (row,) = seed_tables(make_trials(), norms).rows

    assert row.verdict == verdict


def test_seed_tables_one_seed_has_no_ratio():
    found = seed_tables(make_trials((42,)), make_norms((42,)))

    assert len(found.rows) == 5
    assert {row.ratio for row in found.rows} == {None}
    assert found.rows[0].verdict == "one_seed"


def test_seed_tables_lost_seed_is_none_and_said():
    norms = [row for row in make_norms() if row["comparison"] != comparison_of(5, 6, 100)]

    row = next(r for r in seed_tables(make_trials(), norms).rows if r.label.startswith("DPO(D0) "))

    assert row.l2 == {42: 2.7612353904133857, 100: None}
    assert row.ratio is None
    assert row.verdict == "some_seeds"


@pytest.mark.parametrize("value", [0.0, float("nan"), None])
def test_seed_tables_unusable_norm_has_no_ratio(value):
    norms = make_norms()
    for row in norms:
        if row["comparison"] == comparison_of(5, 6, 100):
            row["l2"] = value

    row = next(r for r in seed_tables(make_trials(), norms).rows if r.label.startswith("DPO(D0) "))

    assert row.ratio is None
    assert row.verdict in ("zero", "some_seeds")


def test_seed_tables_other_comparisons_are_named_not_dropped():
    pair = comparison_of(0, 5, 42), comparison_of(5, 7, 42), f"{name_of('dpo-d0', 42)}~{MODEL}"
    template = next(row for row in make_norms() if row["level"] == "all")
    norms = [
        template | {"comparison": name, "a": name.split("~")[0], "b": name.split("~")[1]}
        for name in pair
    ]

    found = seed_tables(make_trials(), norms)

    assert found.rows == ()
    assert found.others == pair


def test_seed_tables_unequal_parents_are_not_compared():
    template = next(row for row in make_norms() if row["level"] == "all")
    name = comparison_of(7, 10, 42)
    norms = [template | {"comparison": name, "a": name.split("~")[0], "b": name.split("~")[1]}]

    assert seed_tables(make_trials(), norms).others == (name,)


def test_seed_tables_two_base_models_are_kept_apart():
    def rename(row):
        return {k: v.replace(MODEL, "qwen") if isinstance(v, str) else v for k, v in row.items()}

    trials, norms = make_trials(), make_norms()
    found = seed_tables(trials + [rename(t) for t in trials], norms + [rename(n) for n in norms])

    assert [row.model for row in found.rows].count("qwen") == 5
    assert len(found.unlike) == 2
    assert all(len({row.model for row in group}) == 1 for group in found.unlike)


def test_seed_tables_without_a_shared_rate_holds_all_rows_as_unlike():
    sft_low = {comparison_of(0, 2, seed) for seed in (42, 100)}
    norms = [row for row in make_norms() if row["comparison"] not in sft_low]

    found = seed_tables(make_trials(), norms)

    assert found.like == ()
    assert {row.method for row in found.unlike[0]} == {"sft", "dpo"}


def test_seed_tables_same_label_twice_says_the_recipes():
    trials, norms = make_trials(), make_norms()
    for trial in trials:
        trial["learning_rate"] = 1e-5

    labels = [row.label for row in seed_tables(trials, norms).rows]

    assert len(set(labels)) == len(labels)


def test_answers_side_by_side_failed_trial_keeps_its_column():
    trials = make_trials()
    fail(trials, name_of("sft-d2", 42), "failed", "oom", "out of memory")

    found = answers_side_by_side(make_samples(trials), trials, MODEL)

    assert found is not None
    assert found.seed == 42
    assert [prompt for prompt, _ in found.rows] == list(PROMPTS[:4])
    assert found.prompts_in_all == 5
    place = found.columns.index("SFT(D2) at 1e-5")
    assert found.rows[0][1][place] is None
    assert found.statuses[place] == "failed"


def test_answers_side_by_side_without_samples_is_none():
    assert answers_side_by_side([], make_trials(), MODEL) is None


def test_titles_repeated_labels_get_their_learning_rate():
    trials = [trial for trial in make_trials((42,)) if trial["label"] == "SFT(D0)"]

    assert titles(trials) == ("SFT(D0) at 1e-5", "SFT(D0) at 1e-4")
