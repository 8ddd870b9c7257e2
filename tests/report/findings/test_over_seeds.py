"""The tables of norms by pair and seed against numbers worked by hand."""

from __future__ import annotations

import math

import pytest

from raylab.report.findings import over_seeds
from raylab.report.findings.over_seeds import SeedTables, seed_tables
from raylab.report.study_tables import Tables
from raylab.spec.seeds import Seeds
from tests.report.conftest import MODEL, comparison_of, make_norms, make_trials
from tests.report.conftest import name_of as full_name_of
from tests.report.findings.vectors import BASE, name_of, norm, trial, values_of


def tables_of(values, **of_pair):
    """One data pair, x of D0 and y of D1, with an L2 by seed; None where it was not compared."""
    trials = [
        trial(recipe, seed, data=data, **of_pair)
        for seed in values
        for recipe, data in (("x", "D0"), ("y", "D1"))
    ]
    norms = [
        norm(name_of("x", seed), name_of("y", seed), l2, l1=10 * l2)
        for seed, l2 in values.items()
        if l2 is not None
    ]
    return {"trials": trials, "norms": norms}


def only_row(values):
    (row,) = over_seeds.find(Tables.of(tables_of(values))).frames["seeds_like"]
    return row


@pytest.mark.parametrize(
    ("l2", "verdict", "grade"),
    [
        (4.0, "stable", "good"),
        (5.0, "stable", "good"),
        (5.001, "varies", "fair"),
        (8.0, "varies", "fair"),
        (8.001, "seed", "bad"),
        (3.19, "varies", "fair"),
    ],
)
def test_over_seeds_verdict_follows_the_larger_over_the_smaller(l2, verdict, grade):
    found = over_seeds.find(Tables.of(tables_of({1: 4.0, 2: l2})))
    (row,) = found.frames["seeds_like"]
    assert row["verdict"] == verdict
    assert row["ratio"] == pytest.approx(max(l2 / 4, 4 / l2), rel=1e-12)
    assert [(s.key, s.grade) for s in found.details] == [(f"seeds-{verdict}", grade)]


def test_over_seeds_answer_counts_verdicts_and_names_the_pair_that_varies_most():
    found = tables_of({1: 4.0, 2: 4.1})
    found["trials"] += [trial(r, s, data=d) for r, d in (("p", "D0"), ("q", "D1")) for s in (1, 2)]
    found["norms"] += [norm(name_of("p", s), name_of("q", s), x) for s, x in ((1, 1.0), (2, 7.0))]
    (answer,) = over_seeds.find(Tables.of(found)).answer
    assert (answer.key, answer.grade) == ("seeds-summary", "bad")
    values = answer.values
    counts = [values[name] for name in ("total", "stable", "varies", "seed")]
    assert (counts, values["ratio"]) == ([2, 1, 0, 1], 7.0)
    assert values["pair"].startswith("P vs Q")


def test_over_seeds_three_have_mean_deviation_and_interval():
    row = only_row({1: 2.0, 2: 4.0, 3: 9.0})
    assert row["mean"] == 5.0
    assert row["deviation"] == pytest.approx(math.sqrt((9 + 1 + 16) / 2), rel=1e-12)
    assert (row["low"], row["high"]) == pytest.approx((2.0, 9.0), rel=1e-12)
    assert (row["ratio"], row["verdict"]) == (4.5, "seed")
    assert [row[f"l2_s{seed}"] for seed in (1, 2, 3)] == [2.0, 4.0, 9.0]
    assert [row[f"l1_s{seed}"] for seed in (1, 2, 3)] == [20.0, 40.0, 90.0]


def test_over_seeds_two_have_a_ratio_and_no_mean():
    row = only_row({1: 2.0, 2: 3.0})
    assert row["mean"] is row["deviation"] is row["low"] is row["high"] is None
    assert row["ratio"] == 1.5


def test_over_seeds_one_that_was_not_compared_is_none_and_counted():
    found = over_seeds.find(Tables.of(tables_of({1: 2.0, 2: None, 3: 3.0})))
    (row,) = found.frames["seeds_like"]
    assert (row["l2_s2"], row["l1_s2"], row["mean"], row["ratio"]) == (None, None, None, 1.5)
    (values,) = values_of(found.sentences, "seeds-varies")
    assert (values["measured"], values["seeds"]) == (2, 3)
    assert values["l2"] == ((1, 2.0), (2, None), (3, 3.0))


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ({1: 2.0}, "one_seed"),
        ({1: 2.0, 2: None}, "some_seeds"),
        ({1: 0.0, 2: 1.0}, "zero"),
        ({1: 2.0, 2: math.nan}, "some_seeds"),
    ],
)
def test_over_seeds_without_a_ratio_say_why(values, verdict):
    row = only_row(values)
    assert (row["ratio"], row["verdict"]) == (None, verdict)


def test_over_seeds_learning_rate_of_one_method_is_a_group_of_its_own():
    shared = tables_of({1: 1.0, 2: 1.1})
    for method, rate, recipes in (("dpo", 1e-5, "pq"), ("sft", 1e-4, "vw")):
        for seed in (1, 2):
            shared["trials"] += [
                trial(r, seed, data=d, method=method, learning_rate=rate)
                for r, d in zip(recipes, ("D0", "D1"), strict=True)
            ]
            shared["norms"].append(norm(*(name_of(r, seed) for r in recipes), 3.0))
    frames = over_seeds.find(Tables.of(shared)).frames
    assert [row["pair"] for row in frames["seeds_like"]] == ["X vs Y", "P vs Q"]
    unlike = [(row["group"], row["pair"], row["learning_rate"]) for row in frames["seeds_unlike"]]
    assert unlike == [(1, "V vs W", 1e-4), (1, "P vs Q", 1e-5)]


def test_over_seeds_comparisons_that_are_no_data_pairs_are_counted():
    found = tables_of({1: 1.0, 2: 1.1})
    found["norms"] += [norm(name_of("x", seed), BASE, 1.0) for seed in (1, 2)]
    found["norms"].append(norm(name_of("x", 1), name_of("y", 2), 1.0))
    assert values_of(over_seeds.find(Tables.of(found)).sentences, "seeds-others") == [{"count": 3}]


def test_over_seeds_of_no_comparison_say_nothing():
    (sentence,) = over_seeds.find(Tables.of({"trials": [trial("x")]})).sentences
    assert sentence.key == "seeds-nothing"


def tables_by_seed(trials, norms) -> SeedTables:
    return seed_tables(Tables.of({"trials": trials, "norms": norms}))


def _roots(rows):
    return [row for row in rows if row.label in ("SFT(D0) vs SFT(D1)", "DPO(D0) vs DPO(D1)")]


def test_seed_tables_original_study_puts_equal_learning_rates_in_the_first_table():
    found = tables_by_seed(make_trials(), make_norms())

    assert [(row.method, row.learning_rate) for row in _roots(found.shared_rate)] == [
        ("sft", 1e-5),
        ("dpo", 1e-5),
    ]
    assert [row.verdict for row in _roots(found.shared_rate)] == ["stable"] * 2
    sft = found.shared_rate[0]
    assert sft.l2 == {42: 2.20031771804024, 100: 2.217655637326153}
    assert sft.l1 == {42: 277361.125, 100: 278791.25}


def test_seed_tables_original_study_puts_sft_at_1e4_beside_dpo():
    (group,) = tables_by_seed(make_trials(), make_norms()).other_rates

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
    other |= {"a": full_name_of("sft-d0.learning_rate=1e-5", 100)}
    other |= {"b": full_name_of("sft-d1.learning_rate=1e-5", 100)}
    norms = [row | {"l2": 4.0} for row in norms] + [
        row | other | {"l2": 4.0 * factor} for row in norms
    ]

    (row,) = tables_by_seed(make_trials(), norms).rows

    assert row.verdict == verdict


def test_seed_tables_one_seed_has_no_ratio():
    found = tables_by_seed(make_trials((42,)), make_norms((42,)))

    assert len(found.rows) == 5
    assert {row.ratio for row in found.rows} == {None}
    assert found.rows[0].verdict == "one_seed"


def test_seed_tables_lost_seed_is_none_and_said():
    norms = [row for row in make_norms() if row["comparison"] != comparison_of(5, 6, 100)]

    rows = tables_by_seed(make_trials(), norms).rows
    row = next(row for row in rows if row.label.startswith("DPO(D0) "))

    assert row.l2 == {42: 2.7612353904133857, 100: None}
    assert row.ratio is None
    assert row.verdict == "some_seeds"


@pytest.mark.parametrize("value", [0.0, float("nan"), None])
def test_seed_tables_unusable_norm_has_no_ratio(value):
    norms = make_norms()
    for row in norms:
        if row["comparison"] == comparison_of(5, 6, 100):
            row["l2"] = value

    rows = tables_by_seed(make_trials(), norms).rows
    row = next(row for row in rows if row.label.startswith("DPO(D0) "))

    assert row.ratio is None
    assert row.verdict in ("zero", "some_seeds")


def test_seed_tables_other_comparisons_are_named_not_dropped():
    pair = comparison_of(0, 5, 42), comparison_of(5, 7, 42), f"{full_name_of('dpo-d0', 42)}~{MODEL}"
    template = next(row for row in make_norms() if row["level"] == "all")
    norms = [
        template | {"comparison": name, "a": name.split("~")[0], "b": name.split("~")[1]}
        for name in pair
    ]

    found = tables_by_seed(make_trials(), norms)

    assert found.rows == ()
    assert found.no_data_pairs == pair


def test_seed_tables_unequal_parents_are_not_compared():
    template = next(row for row in make_norms() if row["level"] == "all")
    name = comparison_of(7, 10, 42)
    norms = [template | {"comparison": name, "a": name.split("~")[0], "b": name.split("~")[1]}]

    assert tables_by_seed(make_trials(), norms).no_data_pairs == (name,)


def test_seed_tables_two_base_models_are_kept_apart():
    def rename(row):
        return {k: v.replace(MODEL, "qwen") if isinstance(v, str) else v for k, v in row.items()}

    trials, norms = make_trials(), make_norms()
    found = tables_by_seed(trials + [rename(t) for t in trials], norms + [rename(n) for n in norms])

    assert [row.model for row in found.rows].count("qwen") == 5
    assert len(found.other_rates) == 2
    assert all(len({row.model for row in group}) == 1 for group in found.other_rates)


def test_seed_tables_without_a_shared_rate_holds_all_rows_in_a_group():
    sft_low = {comparison_of(0, 2, seed) for seed in (42, 100)}
    norms = [row for row in make_norms() if row["comparison"] not in sft_low]

    found = tables_by_seed(make_trials(), norms)

    assert found.shared_rate == ()
    assert {row.method for row in found.other_rates[0]} == {"sft", "dpo"}


def test_seed_tables_same_label_twice_says_the_recipes():
    trials, norms = make_trials(), make_norms()
    for row in trials:
        row["learning_rate"] = 1e-5

    labels = [row.label for row in tables_by_seed(trials, norms).rows]

    assert len(set(labels)) == len(labels)


def test_seed_tables_have_the_seeds_that_both_recipes_of_a_pair_have():
    mixed = Seeds(1, 2, 1)
    rows = [trial("a", seed) for seed in (1, 2, mixed)]
    rows += [trial("b", seed, data="D1") for seed in (1, 2)]
    norms = [norm(name_of("a", seed), name_of("b", seed), 2.0 + seed) for seed in (1, 2)]
    (row,) = over_seeds.find(Tables.of({"trials": rows, "norms": norms})).frames["seeds_like"]
    assert {key for key in row if key.startswith("l2_")} == {"l2_s1", "l2_s2"}
    rows.append(trial("b", mixed, data="D1"))
    norms.append(norm(name_of("a", mixed), name_of("b", mixed), 3.5))
    found = over_seeds.find(Tables.of({"trials": rows, "norms": norms}))
    (row,) = found.frames["seeds_like"]
    assert row["l2_s1o2"] == 3.5
    assert [seed for seed, _ in found.details[0].values["l2"]] == [1, 2, "1o2"]
