"""The page of a merge, against a record that is written by hand."""

from __future__ import annotations

import pytest

from raylab.report.page.merge_page import merge_page
from raylab.report.page.render import render_html
from raylab.report.page.trials import merge_text
from raylab.report.words import LANGUAGES, translator
from raylab.spec.adapter_output import AdapterOutput
from raylab.spec.merge_methods import METHODS
from raylab.spec.merges import request_merge

FILES = {"model.safetensors": {"size": 4_330_000, "sha256": "ab" * 32}}


def record(scope="global", **changes):
    models = [
        {"model": f"runs/x#{name}", "weight": weight, "density": 0.2, "numel": 1000, "kept": kept}
        for name, weight, kept in (("one", 1.0, 201), ("two", 0.5, 150))
    ]
    if scope == "global":
        models[0] |= {"num_keep": 200, "threshold": 0.25, "at_or_above": 201}
    if scope == "tensor":
        tensors = {"a.weight": {"num_keep": 20, "threshold": 0.5, "at_or_above": 21, "kept": 19}}
        models[0] |= {"num_keep": 20, "tensors": tensors}
    return {"base": "base", "numel": 5000, "tensors_merged": 1, "tensors_copied": 10,
            "models": models, "files": FILES} | changes  # fmt: skip


def page(language="en", **changes):
    request = request_merge(
        "ties", ["runs/x#one", "runs/x#two"], base="base", weights=[1.0, 0.5], density=0.2
    )
    return merge_page(translator(language), "merged", request, record(**changes))


def grid(found, name):
    return next(grid for grid in found.grids if grid.name == name)


def test_first_screen_says_how_it_was_made_with_its_paper():
    found = page()
    assert (found.title, found.studied) == ("merged", ("base model base",))
    made, counts = found.first.answers
    assert made.startswith("TIES-Merging (Yadav et al. 2023, arXiv:2306.01708) of runs/x#one (")
    assert "weight 0.5" in made
    assert counts == "The checkpoint has 5,000 entries; 1 tensor was merged, 10 copied."


def test_models_have_rows_with_all_that_the_record_has():
    rows = grid(page(), "models").rows
    assert rows == (
        ("runs/x#one", "1", "0.2", "200", "0.2500", "201", "1,000", "20.1 %"),
        ("runs/x#two", "0.5", "0.2", "–", "–", "150", "1,000", "15 %"),
    )


def test_columns_that_no_model_has_are_left_out():
    found = page(scope=None)
    assert len(grid(found, "models").columns) == 6


def test_tensors_and_files_have_rows():
    found = page(scope="tensor")
    assert grid(found, "tensors").rows == (("a.weight", "20", "0.5000", "21", "19"),)
    assert grid(found, "files").rows == (("model.safetensors", "4.33 MB", "ab" * 32),)


@pytest.mark.parametrize("language", LANGUAGES)
def test_slices_have_rows_with_the_layers_that_they_are_of(language):
    slices = [
        {"stack": "h", "layers": [0, 2], "from": [{"model": "one", "layers": [1, 3]}]},
        {
            "stack": "h",
            "layers": [3, 3],
            "from": [{"model": "two", "layers": [0, 0]}, {"model": "one", "layers": [3, 3]}],
        },
    ]
    found = page(language, slices=slices)
    assert grid(found, "slices").rows == (("h 0–2", "one 1–3"), ("h 3", "two 0, one 3"))
    assert "slices" in [section.key for section in found.sections]
    assert "slices" not in [section.key for section in page(language).sections]


def test_weights_that_are_tied_no_more_are_a_caution():
    (caution,) = page(untied=["lm_head.weight"]).first.cautions
    assert caution.text.startswith("lm_head.weight:")


TOKENS = {
    "source": "union", "tokens": 16, "rows": 24, "padding": 8, "in_all": 11, "literal": 1,
    "filled": {"asked": 0, "only": 3, "base": 0, "mean": 1, "zero": 1},
    "models": [{"model": "base", "rows": 16, "tokens": 12, "only": 1, "used": 12, "left_out": 4}],
}  # fmt: skip


def test_tokens_have_their_origin_and_what_is_unusual_is_a_caution():
    found = page(tokenizer=TOKENS)
    origins = grid(found, "origins").rows
    assert [cells[1] for cells in origins] == ["11", "0", "3", "0", "1", "1", "8"]
    assert origins[2][0] == "tokens of one model alone: its row"
    assert grid(found, "vocabularies").rows == (("base", "16", "12", "1", "12", "4"),)
    assert [caution.text.split(",")[0] for caution in found.first.cautions] == [
        "1 token has a row of zeros",
        "1 word of other tokenizers became added tokens",
    ]


@pytest.mark.parametrize("language", LANGUAGES)
def test_page_is_written_in_every_language_without_a_drawing_library(language):
    html = render_html(page(language, scope="tensor", base=None, tokenizer=TOKENS))
    assert "arXiv:2306.01708" in html and "vegaEmbed = " not in html and "{ $" not in html


@pytest.mark.parametrize("exact", [True, False])
def test_page_of_an_adapter_says_what_was_lost_in_each_tensor(exact):
    tensors = {"a.weight": {"rank": 4, "relative_error": 0.25}}
    adapter = {"exact": exact, "r": 4, "parameters": 1200, "relative_error": 0.25}
    found = page(scope=None, adapter={**adapter, "tensors": tensors})
    said = found.first.answers[1]
    assert said.startswith("The adapter has 1,200 parameters and rank 4 or less.")
    assert ("0.25" in said, "exactly the merged" in said) == (not exact, exact)
    assert grid(found, "ranks").rows == (("a.weight", "4", "0.2500"),)


def test_models_whose_entries_were_not_looked_at_have_no_share():
    models = [{"model": "runs/x#one", "weight": 1.0, "density": 1.0, "numel": 1000}]
    assert grid(page(models=models), "models").rows == (("runs/x#one", "1", "1", "1,000"),)


def test_how_an_adapter_is_made_is_said_with_its_rank_or_energy():
    said = []
    for output in (AdapterOutput(), AdapterOutput(rank=8), AdapterOutput(energy=0.9)):
        request = request_merge("linear", ["one"], base="base", output=output)
        said.append(merge_text(translator("en"), request))
    ends = ("written as an adapter.", "adapter of rank 8.", "keeps 0.9 of each tensor's energy")
    assert all(end in text for end, text in zip(ends, said, strict=True))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("method", METHODS)
def test_merge_of_every_method_is_said_in_every_language(language, method):
    row = METHODS[method]
    needed = {name: 0.5 for name, own in row.parameters.items() if own.default is None}
    models = ["a", "b", "c"][: row.most or 3]
    request = request_merge(method, models, base="base", parameters=needed)
    said = merge_text(translator(language), request)
    assert row.title in said and row.paper in said
    assert ("0.2" in said) == (row.keeps != "all" or row.parameters.keys() >= {"alpha"})


def test_columns_of_settings_that_the_method_does_not_use_are_left_out():
    request = request_merge("slerp", ["one", "two"], parameters={"t": 0.5})
    models = [{"model": "one", "weight": 1.0, "density": 1.0, "numel": 9, "kept": 9}]
    found = merge_page(translator("en"), "merged", request, record(None, models=models))
    titles = [column.name for column in grid(found, "models").columns]
    assert titles == ["model", "merged and not zero", "entries", "share"]
    made = merge_text(translator("en"), request)
    assert made.endswith("of one and two; t 0.5.")


def test_text_of_a_method_without_weights_has_what_each_model_has_of_its_own():
    request = request_merge("passthrough", ["one"], own=[{"scale": 0.5}])
    assert "of one (scale 0.5)" in merge_text(translator("en"), request)
