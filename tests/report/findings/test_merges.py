"""Merges beside their parents, out of rows whose losses, rates and signs are chosen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raylab.report.figures import FIGURES
from raylab.report.findings import merges
from raylab.report.page.grids import grids_of
from raylab.report.study_merges import merges_of
from raylab.report.study_tables import Tables
from raylab.report.words import translator
from raylab.spec.study_file import parse_study
from tests.report.conftest import MODEL
from tests.report.whole_merges import (
    OTHER,
    OWN,
    PARENTS,
    kept_at,
    rows_of_merges,
    with_merges,
)
from tests.report.whole_merges import merges as made_merges
from tests.spec.test_merge_variants import TEXT


def found_of(whole_tables, made=None):
    return merges.find(with_merges(whole_tables, made))


def texts(found, language="en"):
    return [translator(language).sentence(one) for one in found.sentences]


def test_rows_have_the_means_of_merge_parent_and_others_on_each_parents_data(whole_tables):
    rows = found_of(whole_tables).frames["merges"]
    assert len(rows) == 6 * 2
    by = {(row["merge"], row["data"]): row for row in rows}
    for (merge, data), row in by.items():
        kept = kept_at(float(merge.split()[-1]), data)
        assert (row["seeds"], row["model"], row["gain_spread"]) == (2, MODEL, 0)
        assert row["loss"] == pytest.approx(OTHER - kept * (OTHER - OWN))
        assert (row["loss_parent"], row["loss_others"]) == (OWN, OTHER)
        assert row["gain_kept"] == pytest.approx(kept)
        style = kept if data == "D1" else 1 - kept
        assert row["style_rate"] == pytest.approx(style)
        assert row["style_rate_parent"] == float(data == "D1") == 1 - row["style_rate_others"]
        assert row["style_kept"] == pytest.approx(kept)
        assert row["stopped_rate"] == pytest.approx(0.5 + kept / 2)
        assert row["stopped_rate_parent"] == 1.0
        assert (row["density"], row["zero_share"]) == (0.1, 0.1)
        assert row["survived_share"] == round(80 * kept) / 100
        assert row["cosine"] == pytest.approx(kept)
    assert by["mixed density 0.1", "D0"]["parent"] == "SFT(D0) 1e-5"


def test_gain_kept_is_a_mean_over_the_seeds_at_which_all_of_it_is_known(whole_tables):
    more = rows_of_merges()
    name, parent = made_merges()[0].name, made_merges()[0].parents[0].name
    losses = {(r["name"], r["data"]): r for r in more["likelihoods"]}
    losses[name, "D0"]["log_probability"] = -0.6
    losses[parent, "D0"]["log_probability"] = -0.2
    tables = {**whole_tables, **more, "trials": [*whole_tables["trials"], *more["trials"]]}
    row = merges.find(Tables.of(tables, merges=made_merges())).frames["merges"][0]
    first, second = (1.4 - 0.6) / (1.4 - 0.2), kept_at(0.1, "D0")
    assert row["gain_kept"] == pytest.approx((first + second) / 2)
    assert row["gain_spread"] == pytest.approx(second - first)
    losses[name, "D0"]["log_probability"] = None
    row = merges.find(Tables.of(tables, merges=made_merges())).frames["merges"][0]
    assert row["gain_kept"] == pytest.approx(second) and row["gain_spread"] is None
    assert row["loss_parent"] == OWN


def test_answer_names_the_merge_whose_least_share_is_the_largest(whole_tables):
    found = found_of(whole_tables)
    (answer,) = found.answer
    assert answer.grade == "good"
    assert texts(found)[0] == (
        f"{MODEL}: mixed density 0.5 does both best: it keeps 60 % of the gain of SFT(D0) 1e-5 on "
        "D0 (and 60 % of its style) and 60 % of the gain of SFT(D1) 1e-5 on D1 (and 60 % of its "
        "style). 2 of 6 merges keep at least half of what each parent gained on held-out data and "
        "of its style."
    )
    assert "mixed density 0.5" in texts(found, "ja")[0]


def test_answer_of_merges_that_do_not_do_both_says_so(whole_tables):
    made = [merge for merge in made_merges() if 0.5 not in merge.point.values()]
    found = found_of(whole_tables, made)
    assert found.answer[0].grade == "fair"
    assert texts(found)[0] == (
        f"{MODEL}: No merge keeps half of what each parent gained on held-out data and of its "
        "style; of 4 merges mixed density 0.1 comes closest, with 84 % of the gain of SFT(D0) 1e-5 "
        "on D0 (and 84 % of its style) and 36 % of the gain of SFT(D1) 1e-5 on D1 (and 36 % of its "
        "style)."
    )


def test_style_that_is_lost_keeps_a_merge_from_doing_both(whole_tables):
    more = rows_of_merges()
    for row in more["rates_by_data"]:
        if "mixed" in row["name"] and row["data"] == "D1":
            row["style_rate"] = 0.2
    made = [merge for merge in made_merges() if merge.merge == "mixed"]
    tables = {**whole_tables, **more, "trials": [*whole_tables["trials"], *more["trials"]]}
    found = merges.find(Tables.of(tables, merges=made))
    assert found.answer[0].key == "merges-neither"
    assert "20 % of its style" in texts(found)[0]


def test_details_say_each_merge_and_what_it_keeps_of_the_parameters(whole_tables):
    said = texts(found_of(whole_tables))
    assert said[1] == (
        f"{MODEL}: Of the largest 10 % of a parent's entries the merges keep the sign of 24 % to "
        "72 %; their cosines with the parents are 0.3 to 0.9."
    )
    assert said[2] == (
        "SFT(D0) 1e-5 on D0: loss 0.56 (its own 0.4, other parents 1.4), style 16 % (its own 0 %) "
        "and SFT(D1) 1e-5 on D1: loss 1.04 (its own 0.4, other parents 1.4), style 36 % (its own "
        "100 %)."
    )


def test_few_prompts_are_a_caution_with_the_width_of_their_interval(whole_tables):
    (caution,) = found_of(whole_tables).cautions
    assert translator().sentence(caution) == (
        "The rates of merges rest on 32 prompts: a rate near 50 % is known within ± 17.3 %."
    )


def test_store_without_rates_and_signs_still_reports_and_says_what_was_not_measured(whole_tables):
    more = {key: rows_of_merges()[key] for key in ("trials", "likelihoods")}
    tables = {**whole_tables, **more, "trials": [*whole_tables["trials"], *more["trials"]]}
    found = merges.find(Tables.of(tables, merges=made_merges()))
    rows = {(row["merge"], row["data"]): row for row in found.frames["merges"]}
    row = rows["mixed density 0.1", "D1"]
    assert row["gain_kept"] == pytest.approx(0.36)
    assert (row["stopped_rate"], row["cosine"], row["survived_share"]) == (None, None, None)
    assert rows["mixed density 0.1", "D0"]["stopped_rate"] == 1.0  # Of the trials table.
    assert found.frames["merge_signs"] == [] and found.cautions == ()
    assert texts(found)[0].endswith("at least half of what each parent gained on held-out data.")
    said = texts(found)[-1]
    assert "not measured for 6 pairs of a merge and a parent: mixed density 0.1 (SFT(D1)" in said


def test_parents_that_learned_no_more_than_each_other_have_no_gain(whole_tables):
    more = rows_of_merges()
    for row in more["likelihoods"]:
        row["log_probability"] = -1.0
    tables = {**whole_tables, **more, "trials": [*whole_tables["trials"], *more["trials"]]}
    found = merges.find(Tables.of(tables, merges=made_merges()))
    assert {row["gain_kept"] for row in found.frames["merges"]} == {None}
    assert texts(found)[0].startswith(f"{MODEL}: What 6 merges keep of the gain of each parent")


def test_finished_parent_without_data_of_the_study_has_no_loss(whole_tables):
    made = [
        replace(m, parents=(m.parents[0], replace(m.parents[1], data="else", parts=())))
        for m in made_merges()[:1]
    ]
    rows = found_of(whole_tables, made).frames["merges"]
    assert [row["loss"] is None for row in rows] == [False, True]
    assert rows[1]["style_rate"] is None and rows[1]["cosine"] is not None


def test_parent_of_joined_data_is_measured_on_all_parts_by_tokens(whole_tables):
    more = rows_of_merges()
    merge = made_merges()[0]
    for row in more["likelihoods"]:
        row["tokens"] = 10 if row["data"] == "D0" else 30
    joined = replace(merge.parents[0], data="D2", parts=("D0", "D1"))
    tables = {**whole_tables, **more, "trials": [*whole_tables["trials"], *more["trials"]]}
    made = [replace(merge, parents=(joined, merge.parents[1]))]
    row = merges.find(Tables.of(tables, merges=made)).frames["merges"][0]
    first, second = (OTHER - kept_at(0.1, data) * (OTHER - OWN) for data in PARENTS)
    assert row["loss"] == pytest.approx((10 * first + 30 * second) / 40)


def test_curve_has_every_point_of_a_sweep_in_order_with_the_levels_of_the_parents(whole_tables):
    made = list(reversed(made_merges()))
    curves = found_of(whole_tables, made).frames["merge_curves"]
    points = [(r["sweep"], r["setting"], r["value"]) for r in curves if r["data"] == "D0"]
    assert points == [
        *(("between", "weight", value) for value in (0.0, 0.5, 1.0)),
        *(("mixed", "density", value) for value in (0.1, 0.5, 1.0)),
    ]
    assert {row["curve"] for row in curves} == {"between", "mixed"}


def test_sweep_of_two_settings_has_a_curve_over_each_at_every_value_of_the_other(whole_tables):
    made = [
        replace(merge, point={"density": merge.point["density"], "lambda": value})
        for merge in made_merges()
        for value in (0.5, 1)
        if merge.merge == "mixed"
    ]
    curves = found_of(whole_tables, made).frames["merge_curves"]
    found = {(row["setting"], row["curve"]) for row in curves}
    assert found == {
        ("density", "mixed lambda 0.5"), ("density", "mixed lambda 1"),
        *(("lambda", f"mixed density {value:g}") for value in (0.1, 0.5, 1.0)),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["merges", "merge_rates"])
def test_figure_has_the_points_of_the_frame_and_the_levels_of_the_parents(whole_tables, name):
    frames = found_of(whole_tables).frames
    draw, translate = FIGURES[name].draw, translator()
    figure = draw(translate, frames, MODEL, sweep="between.weight")
    assert "Shown: between: weight." in figure.caption
    values = figure.chart.spec["data"]["values"]
    rows = [v for v in values if v["of"] == "between: weight" and v["data"].startswith("D1")]
    rows = [v for v in rows if v.get("rate", "style") == "style"]
    merge = [(v["at"], v["y"]) for v in rows if v["is_merge"]]
    own = {v["y"] for v in rows if v["kind"] == translate("merge-line_own")}
    others = {v["y"] for v in rows if v["kind"] == translate("merge-line_others")}
    if name == "merges":
        assert merge == [(x, round(OTHER - kept_at(x, "D1"), 6)) for x in (0.0, 0.5, 1.0)]
        assert (own, others) == ({OWN}, {OTHER})
    else:
        assert merge == [(x, round(kept_at(x, "D1"), 6)) for x in (0.0, 0.5, 1.0)]
        assert (own, others) == ({1.0}, {0.0})
    assert draw(translate, {**frames, "merge_curves": []}, MODEL) is None


@pytest.mark.parametrize("language", ["en", "ja"])
def test_table_shows_merge_and_parent_in_one_cell_and_stands_open(whole_tables, language):
    table, curves, signs = grids_of(translator(language), "merges", found_of(whole_tables).frames)
    assert (table.is_open, curves.is_open, signs.is_open) == (True, False, False)
    assert table.rows[0][3] == "0.5600 / 0.4000 / 1.400"
    assert "16 % / 0 % / 100 %" in table.rows[0]
    assert len(curves.rows) == len(table.rows) == 12 and len(signs.rows) == 24


def test_study_without_merges_and_with_none_done_say_so(whole_tables):
    assert texts(merges.find(Tables.of(whole_tables))) == ["The study has no merge."]
    undone = merges.find(Tables.of(whole_tables, merges=made_merges()))
    assert texts(undone) == ["No merge of the study is done."]


def test_merges_of_a_study_have_their_points_parents_and_data(tmp_path):
    text = TEXT.replace("data: {D0:", "data: {D2: {concat: [D0, D1]}, D0:")
    text = text.replace("two: {method: sft, data: D1}", "two: {method: sft, data: D2}")
    made = merges_of(parse_study(text, tmp_path / "study.yaml"))
    assert len(made) == 14
    first = made[1]
    assert (first.name, first.merge) == ("tiny.mixed.density=0.1.lambda=1.s2", "mixed")
    assert first.label == "mixed density 0.1, lambda 1"
    assert first.label_without("density") == "mixed lambda 1"
    one, two = first.parents
    assert (one.name, one.recipe, one.data, one.parts) == ("tiny.one.s2", "tiny.one", "D0", ("D0",))
    assert (two.data, two.parts, first.prompts_of) == ("D2", ("D0", "D1"), "D0")
