"""Items of `connectivity`: one form each, known names, three points at least and 1001 at most."""

import pytest
from pydantic import ValidationError

from raylab.spec.validation import check_references
from tests.studies import make_study


@pytest.mark.parametrize(
    ("item", "what"),
    [
        ({}, "exactly one of `pair` and `seeds`"),
        ({"pair": ["alone", "other"], "seeds": "all"}, "exactly one"),
        ({"pair": ["alone"]}, "pair"),
        ({"pair": ["alone", "other"], "points": 2}, "greater than or equal to 3"),
        ({"pair": ["alone", "other"], "points": 10**21}, "less than or equal to 1001"),
        ({"base": "all"}, "base"),
    ],
)
def test_item_of_another_form_is_refused(item, what):
    with pytest.raises(ValidationError, match=what):
        make_study(connectivity=[item])


@pytest.mark.parametrize("form", ["pair", "seeds"])
def test_item_that_names_no_model_is_a_problem_at_its_place(form):
    study = make_study(connectivity=[{"seeds": "all"}, {form: ["alone", "othr"]}])
    (problem,) = check_references(study)
    assert problem.location == ("connectivity", 1, form)
    assert "othr" in problem.message and "other" in problem.message


def test_item_has_nine_points_if_it_names_none():
    (item,) = make_study(connectivity=[{"pair": ["alone", "other"]}]).connectivity
    assert item.points == 9
