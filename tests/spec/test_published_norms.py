"""Norms that were printed earlier: what a study may say of them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from raylab.spec.validation import check_references
from tests.studies import make_study

VALUE = {"pair": ["first", "alone"], "seed": 42, "l2": 2.2, "source": "table 1"}


def problems(**changes):
    return [p.message for p in check_references(make_study(reference=[VALUE | changes]))]


def test_reference_of_known_recipes_is_sound():
    assert problems() == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pair": ["firsd", "alone"]}, "did you mean first?"),
        ({"seed": 7}, "none of the study's seeds"),
        ({"base_model": "tinny"}, "did you mean tiny?"),
    ],
)
def test_reference_to_what_is_not_there_is_refused(changes, said):
    (message,) = problems(**changes)
    assert said in message


def test_reference_of_one_of_several_base_models_names_it():
    bases = {"one": {"path": "a"}, "two": {"path": "b"}}
    study = make_study(base_models=bases, reference=[VALUE])
    (problem,) = check_references(study)
    assert "name one with `base_model`" in problem.message


def test_reference_without_a_norm_is_refused():
    with pytest.raises(ValidationError, match="give `l1`, `l2` or both"):
        make_study(reference=[{key: VALUE[key] for key in ("pair", "seed", "source")}])
