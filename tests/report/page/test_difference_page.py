"""The page of one difference: every number against a document that is written by hand."""

from __future__ import annotations

import copy
import math

import pytest

from raylab.report.page.blocks import Text
from raylab.report.page.difference_page import difference_page, model_names
from raylab.report.page.render import render_html
from raylab.report.words import LANGUAGES, translator

CELLS = {(0, "q_proj"): 3.0, (0, "up_proj"): 4.0, (1, "q_proj"): 0.0, (1, "up_proj"): 12.0}
DOCUMENT = {
    "a": "runs/x#demo.one",
    "b": "runs/x#demo.two",
    "view": "delta",
    "universe": "compared",
    "numel": 4000,
    "norms": {"l1": 100.0, "l2": 13.0, "linf": 2.0, "nonzero": 3999, "moved": 3000,
              "relative_l2": 0.26, "tolerance": 1e-5},
    "densities": [
        {"density": 1.0, "num_keep": 4000, "threshold": 0.0, "at_or_above": 4000, "l1": 100.0,
         "l2": 13.0},
        {"density": 0.1, "num_keep": 400, "threshold": 0.5, "at_or_above": 402, "l1": 60.0,
         "l2": 6.5},
    ],
    "layers": [
        {"key": f"model.layers.{layer}", "module": module, "numel": 1000, "l1": 25.0, "l2": l2,
         "linf": 2.0, "nonzero": 1000, "moved": 750}
        for (layer, module), l2 in CELLS.items()
    ],
    "base": {"cosine": -0.5, "sign_agreement": 0.25, "l2_a": 5.0, "l2_b": 12.0},
    "accounting": {"compared": 4000, "tied": 0, "only_in_a": 0, "only_in_b": 7, "cropped": 0,
                   "skipped": 0, "non_finite": 0},
    "passes": 1, "device": "cpu", "seconds": 1.0, "bytes_read": 9,
}  # fmt: skip
NORMS = [
    {"level": "tensor", "key": f"model.layers.{layer}.mlp.{module}.weight", "l2": l2,
     "relative_l2": None}
    for (layer, module), l2 in CELLS.items()
]  # fmt: skip


def page(language="en", norms=NORMS, curve=(), **changes):
    document = copy.deepcopy(DOCUMENT) | changes
    tables = {"norms": [{"level": "all", "key": "all"}, *norms], "curve": list(curve)}
    return difference_page(translator(language), document, tables)


def texts(found, key):
    (section,) = (section for section in found.sections if section.key == key)
    return [block.text for block in section.blocks if isinstance(block, Text)]


def grid(found, name):
    return next(grid for grid in found.grids if grid.name == name)


def test_answer_has_the_distance_its_share_and_the_cosine():
    found = page()
    assert found.title == "demo.one and demo.two"
    assert found.studied[:2] == ("a: runs/x#demo.one", "b: runs/x#demo.two")
    first, second = found.first.answers
    assert "13 apart (L2), which is 26 % of" in first
    assert "75 % of 4,000 entries differ by more than 1e-5" in first
    assert "cosine of -0.50" in second and "5 for a and 12 for b; 25 % of" in second


def test_answer_leaves_out_what_is_not_known():
    norms = DOCUMENT["norms"] | {"relative_l2": None}
    document = {key: value for key, value in DOCUMENT.items() if key != "base"}
    found = difference_page(translator("en"), document | {"norms": norms}, {"norms": NORMS})
    (answer,) = found.first.answers
    assert "base model" not in answer and "–" not in answer
    none = page(base=DOCUMENT["base"] | {"sign_agreement": None})
    assert none.first.answers[1].endswith("12 for b.")
    zero = page(base=DOCUMENT["base"] | {"cosine": None, "sign_agreement": None, "l2_a": 0.0})
    assert "the base model itself" in zero.first.answers[1] and "–" not in zero.first.answers[1]


def test_equal_models_are_said_to_be_the_same():
    norms = dict.fromkeys(DOCUMENT["norms"], 0) | {"relative_l2": None}
    cells = [row | {"l2": 0.0} for row in NORMS]
    found = difference_page(translator("en"), DOCUMENT | {"norms": norms}, {"norms": cells})
    assert found.first.answers == ("The two models are the same in all 4,000 entries compared.",)
    assert texts(found, "where") == texts(found, "largest") == [] and found.pictures == []


def test_where_names_the_kind_and_the_layer_with_most_of_the_square():
    kind, layer = texts(page(), "where")
    assert "“up”" in kind and f"{100 * 160 / 169:.1f} %" in kind
    assert "layer 1" in layer and f"{100 * 144 / 169:.1f} %" in layer


def test_share_is_that_of_the_smallest_density():
    assert texts(page(), "largest") == ["The largest 10 % of the entries hold 50 % of the L2."]
    assert grid(page(), "densities").rows[0] == ("0.1", "400", "0.5000", "402", "60.00", "6.500")


def test_heat_map_has_a_cell_for_every_tensor_and_no_menu():
    (picture,) = page().pictures
    assert '"q"' in picture.drawing.spec and '"up"' in picture.drawing.spec
    assert '"chosen"' not in picture.drawing.spec
    assert grid(page(), "layers").rows[1] == (
        "model.layers.0", "up_proj", "1,000", "25.00", "4.000", "2.000", "75 %",
    )  # fmt: skip


def test_accounting_has_every_reason_and_a_caution():
    found = page()
    assert grid(found, "accounting").rows == (("compared", "4,000"), ("in b only", "7"))
    (caution,) = found.first.cautions
    assert caution.text.startswith("7 of 4,007 entries were not compared")
    apart = page(accounting=DOCUMENT["accounting"] | {"compared": 0, "only_in_a": 4000})
    assert "no tensor in common" in apart.first.cautions[0].text


def test_models_without_layers_have_a_table_and_no_figure():
    found = page(norms=[{"level": "tensor", "key": "a.weight", "l2": 13.0, "relative_l2": 0.26}])
    assert found.pictures == [] and len(texts(found, "where")) == 1


@pytest.mark.parametrize("language", LANGUAGES)
def test_page_is_written_in_every_language(language):
    curve = [{"density": d, "l1_share": d, "l2_share": math.sqrt(d)} for d in (0.01, 0.25, 1.0)]
    found = page(language, curve=curve)
    html = render_html(found)
    assert "demo.one" in html and "{ $" not in html.partition("<script")[0]
    assert grid(found, "curve").rows[1] == ("0.2500", "25 %", "50 %")
    said = [*found.first.answers, *(b.text for b in found.blocks if isinstance(b, Text))]
    assert len(set(said)) == len(said)


@pytest.mark.parametrize(
    ("one", "other", "names"),
    [
        ("runs/a#demo.x", "runs/b#demo.y", ("demo.x", "demo.y")),
        ("runs/a#demo.x", "runs/b#demo.x", ("runs/a#demo.x", "runs/b#demo.x")),
        ("/models/base/", "me/tuned", ("base", "tuned")),
    ],
)
def test_model_names_are_short_where_they_differ(one, other, names):
    assert model_names(one, other) == names
