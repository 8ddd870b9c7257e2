"""Two studies side by side, each number against what was put in."""

from __future__ import annotations

import io
import math

from rich.console import Console

from raylab.report.compare import compare
from raylab.report.study_tables import Tables
from raylab.report.terminal.comparison import print_comparison
from tests.report.conftest import comparison_of, make_norms, make_study, make_trials, name_of


def tables(**changes):
    trials = make_trials()
    for row in trials:
        row.update(l2=10.0 if row["seed"] == 42 else 12.0, eval_loss=1.0, train_loss=None)
        row.update(changes.get(row["name"], {}))
    return Tables.of({"trials": trials, "norms": make_norms()})


def found(study=None, other=None, **changes):
    mine = make_study()
    return compare((mine, tables()), (study or mine, other or tables(**changes)))


def number(result, name, metric):
    (row,) = (row for row in result.numbers if (row.name, row.metric) == (name, metric))
    return row


def test_compare_of_a_study_with_itself_finds_nothing():
    result = found()
    assert result.asked == ()
    assert {row.verdict for row in result.numbers} == {"same"}


def test_compare_fields_that_differ_are_named_with_both_values():
    result = found(study=make_study(held_out=0.3, seeds=[42, 100, 7]))
    assert {row.field: (row.one, row.other) for row in result.asked} == {
        "held_out": (0.1, 0.3),
        "seeds": ([42, 100], [42, 100, 7]),
    }


def test_compare_change_is_read_against_the_spread_over_seeds():
    # Seeds of the first study spread by 2; of the second by 2, 2.5 and 1.
    for value, times, verdict in ((12.0, 1.0, "within"), (9.5, 0.2, "within"), (13.0, 1.5, "near")):
        name = name_of("dpo-d0", 42)
        row = number(found(**{name: {"l2": value}}), name, "l2")
        assert (row.one, row.other, row.verdict) == (10.0, value, verdict)
        assert math.isclose(row.times, times)
    row = number(found(**{name: {"l2": 20.0}}), name, "l2")
    assert row.times == 10 / 8
    both = {name_of("dpo-d0", seed): {"l2": 30.0 + seed / 100} for seed in (42, 100)}
    assert number(found(**both), name, "l2").verdict == "beyond"


def test_compare_number_without_any_spread_changed_is_beyond():
    name = name_of("dpo-d0", 42)
    both = {name_of("dpo-d0", seed): {"eval_loss": 1.5} for seed in (42, 100)}
    row = number(found(**both), name, "eval_loss")
    assert (row.spread, row.times, row.verdict) == (0.0, None, "beyond")


def test_compare_numbers_of_one_study_alone_keep_their_rows():
    fewer = Tables.of({"trials": make_trials((42,)), "norms": make_norms((42,))})
    result = found(other=fewer)
    assert number(result, name_of("dpo-d0", 100), "l2").verdict == "only_one"
    assert number(result, comparison_of(5, 6, 100), "l1").verdict == "only_one"
    assert number(result, comparison_of(5, 6, 42), "l1").verdict == "same"


def test_print_comparison_counts_what_is_the_same_and_lists_what_is_not():
    name, stream = name_of("dpo-d0", 42), io.StringIO()
    result = found(study=make_study(held_out=0.3), **{name: {"l2": 13.0}})
    print_comparison(result, ("one", "two"), Console(file=stream, width=120, color_system=None))
    text = stream.getvalue()
    assert "held_out" in text and "0.3" in text
    (line,) = (line for line in text.splitlines() if line.startswith(f"l2 of {name}"))
    assert "10.00" in line and "13.00" in line and "1.5" in line and line.split()[-1] == "weak"
    assert f"{len(result.numbers)} numbers; --json has each of them" in text
    assert f"  {len(result.numbers) - 1} the same" in text.splitlines()


def printed(result):
    stream = io.StringIO()
    print_comparison(result, ("one", "two"), Console(file=stream, width=120, color_system=None))
    return stream.getvalue()


def test_print_comparison_with_a_seed_added_names_its_trials_and_no_number_of_them():
    trials = make_trials((42, 100, 7))
    more = Tables.of({"trials": trials, "norms": make_norms()})
    two = [row for row in trials if row["seed"] != 7]
    fewer = Tables.of({"trials": two, "norms": make_norms()})
    mine, wider = make_study(), make_study(seeds=[42, 100, 7])
    result = compare((mine, fewer), (wider, more))
    added = [row for row in result.numbers if row.verdict == "only_other"]
    text = printed(result)
    assert len(added) > 20 and all(row.name.endswith(".s7") for row in added)
    (line,) = (line for line in text.splitlines() if ".s7" in line)
    first = name_of("sft-d0.learning_rate=1e-5", 7)
    assert line.startswith(f"  {len(added)} in the second only (of {first}, ")
    assert line.endswith(" and 5 more trials)")
    (asked,) = (line for line in text.splitlines() if line.startswith("seeds"))
    assert asked.split() == ["seeds", "42,", "100", "42,", "100,", "7"]
    assert "no number changed by more than seed noise" in text and len(text.splitlines()) < 12


def test_print_comparison_of_a_recipe_in_one_study_alone_is_one_row_without_empty_fields():
    mine = make_study()
    recipe = {"method": "sft", "data": "D0", "sweep": {"learning_rate": [3e-4, 3e-3]}}
    recipes = {name: item.model_dump(exclude_none=True) for name, item in mine.recipes.items()}
    other = make_study(recipes={**recipes, "new": recipe})
    result = compare((mine, tables()), (other, tables()))
    assert [(row.field, row.one) for row in result.asked] == [("recipes.new", None)]
    text = " ".join(printed(result).split())
    assert "{}" not in text
    assert (
        "recipes.new – method: sft, data: D0, chain: merge, "
        "sweep: {learning_rate: [3e-4, 0.003]}" in text
    )


def test_compare_spelling_of_a_swept_value_is_no_difference():
    def spelled(text):
        trials = make_trials()
        for row in trials:
            row["name"] = row["name"].replace("learning_rate=1e-5", f"learning_rate={text}")
        return Tables.of({"trials": trials, "norms": []})

    mine = make_study()
    result = compare((mine, spelled("1e-5")), (mine, spelled("0.00001")))
    assert {row.verdict for row in result.numbers} == {"same"}
    assert len(result.numbers) > 20


def test_compare_takes_crossed_seeds_for_seeds_of_one_recipe():
    def tables(*norms):
        rows = [dict(make_trials()[0], l2=l2) for l2 in norms]
        for row, seed in zip(rows, ("42", "42o100", "42d9", "42o7d9"), strict=True):
            row["name"] = name_of("sft-d0", seed)
        return Tables.of({"trials": rows})

    study = make_study()
    one, other = tables(10.0, 11.0, 12.0, 12.0), tables(16.0, 11.0, 12.0, 12.0)
    found = [row for row in compare((study, one), (study, other)).numbers if row.metric == "l2"]
    assert [row.verdict for row in found] == ["within", "same", "same", "same"]
    assert (found[0].spread, found[0].times) == (5.0, 1.2)
