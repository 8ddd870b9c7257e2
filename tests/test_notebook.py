"""A study in a notebook: frames equal the tables, figures show what was asked."""

from __future__ import annotations

import io

import pytest
from ruamel.yaml import YAML

import raylab
from raylab.errors import InputError, ModelError
from raylab.notebook import in_words
from raylab.report.figures import FIGURES
from raylab.report.findings.every_finding import find_all
from raylab.report.study_tables import Tables
from raylab.report.words import translator
from raylab.store.schemas import SCHEMAS
from tests.report.conftest import make_study, name_of, write_study


@pytest.fixture
def results(tmp_path):
    from raylab.store.filesystem import Store

    store, stream = Store(str(tmp_path)), io.StringIO()
    tables = write_study(store)
    dumped = make_study().model_dump(mode="json", exclude_none=True)
    # The hand-made trials know recipes that this study does not ask for; they are still read.
    YAML(typ="safe", pure=True).dump(dumped, stream)
    store.write("study.yaml", stream.getvalue().encode())
    return raylab.open(str(tmp_path)), tables


def test_open_tables_are_frames_of_all_rows(results):
    opened, tables = results
    assert len(opened.trials) == len(tables["trials"])
    assert list(opened.norms.columns) == SCHEMAS["norms"].names
    row = opened.trials.set_index("name").loc[name_of("dpo-d0", 42)]
    (expected,) = (t for t in tables["trials"] if t["name"] == name_of("dpo-d0", 42))
    assert row["l2"] == expected["l2"]
    assert len(opened.spectra) == 0
    assert {"trials", "norms"} <= set(dir(opened))


def test_open_a_frame_that_was_changed_leaves_the_next_one_alone(results):
    opened, _ = results
    mine = opened.trials
    mine["l2"] = 0.0
    assert (opened.trials["l2"].dropna() > 0).all()


def test_open_unknown_table_is_an_attribute_error_that_lists_them(results):
    with pytest.raises(AttributeError, match="trials, attempts, samples"):
        results[0].nothing  # noqa: B018


def test_findings_have_sentences_and_frames(results):
    found = results[0].findings()
    assert "factor of 2.72" in str(found["seeds"])
    assert found["seeds"].frames["seeds_like"]["l2_s42"].iloc[0] == 2.20031771804024
    assert results[0].findings("ja")["seeds"].title == "シードを変えてもノルムは安定しているか"


def test_findings_printed_say_which_factor_each_sentence_is_about():
    """Two recipes that differ in data, at two seeds; nothing else is known of them."""
    trials = [
        {"name": f"m.{data}.s{seed}", "model": "m", "recipe": data, "label": data, "method": "sft",
         "data": data, "seed": seed, "learning_rate": 1e-5, "status": "done", "l2": l2 + seed}
        for data, l2 in (("a", 10.0), ("b", 90.0)) for seed in (1, 2)
    ]  # fmt: skip
    found = find_all(Tables.of({"trials": trials}))["effects"]
    assert "factor-data" in {sentence.head for sentence in found.sentences}
    for language, subject in (("en", "  Data: "), ("ja", "  データセット：")):
        lines = str(in_words(translator(language), found)).splitlines()
        assert len([line for line in lines if line.startswith(subject)]) == 1
        assert sum(translator(language)("section-effects") in line for line in lines) == 1


@pytest.mark.parametrize(
    "recipe", ["sft-d0.learning_rate=0.00001~sft-d1.learning_rate=.00001", "sft-d0~sft-d1"]
)
def test_figure_of_a_swept_recipe_takes_any_spelling_and_the_recipe_itself(results, recipe):
    def first(name):
        spec = results[0].figure("heatmap", recipe=name).to_dict()
        return [p["value"] for p in spec["params"] if p["name"] == "chosen"]

    assert first(recipe) == first("sft-d0.learning_rate=1e-5~sft-d1.learning_rate=1e-5")
    with pytest.raises(InputError, match=r"expected: elyza\.sft-d0\.learning_rate=1e-4~"):
        first("sft-d0.learning_rate=2e-4~sft-d1.learning_rate=2e-4")


def test_figure_heatmap_shows_the_recipe_asked_for(results):
    opened, tables = results
    pair = "dpo-d0~dpo-d1"
    spec = opened.figure("heatmap", recipe=pair).to_dict()
    (chosen,) = (p["value"] for p in spec["params"] if p["name"] == "chosen")
    assert chosen == "DPO(D0) vs DPO(D1)"
    values = next(iter(spec.get("datasets", {}).values()), None) or spec["data"]["values"]
    cells = [row for row in values if row["of"] == chosen]
    assert len(cells) == 32 * 7
    tensor = "model.layers.3.mlp.up_proj.weight"
    mine = [
        row["relative_l2"]
        for row in tables["norms"]
        if row["level"] == "tensor" and row["key"] == tensor
        and row["a"].startswith("elyza.dpo-d0.s")
    ]  # fmt: skip
    (cell,) = (row for row in cells if (row["layer"], row["kind"]) == (3, "up"))
    assert cell["value"] == pytest.approx(sum(mine) / len(mine), rel=1e-3)


def test_figure_that_is_not_there_says_which_are(results):
    for name, choice, expected in (
        ("nothing", {}, ", ".join(FIGURES)),
        ("heatmap", {"recipe": "nix"}, "dpo-d0"),
        ("chains", {}, "measured"),
        ("curve", {"model": "nix"}, "base model"),
    ):
        with pytest.raises(InputError, match=expected.replace("(", r"\(")):
            results[0].figure(name, **choice)


def test_open_where_no_study_is_says_so(tmp_path):
    with pytest.raises(ModelError, match="no study is there"):
        raylab.open(str(tmp_path))


def test_study_that_ran_before_is_opened_by_its_name(results, tmp_path):
    from raylab.store.filesystem import Store
    from raylab.store.studies import make_room

    _, tables = results
    store = Store(str(tmp_path))
    make_room(store, "another")
    opened = raylab.open(str(tmp_path), study=make_study().name)
    assert len(opened.trials) == len(tables["trials"])
    with pytest.raises(ModelError, match="no study is there"):
        raylab.open(str(tmp_path / "nothing"), study="never")
    store.write(
        "study.yaml", make_study(name="another").model_dump_json(exclude_none=True).encode()
    )
    with pytest.raises(ModelError, match="never"):
        raylab.open(str(tmp_path), study="never")
