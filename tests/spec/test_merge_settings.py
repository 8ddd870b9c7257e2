"""Numbers that differ by tensor: gradients over layers, filters, and both."""

from fractions import Fraction

import pytest

from raylab.errors import InputError
from raylab.spec.merge_settings import (
    Asked,
    Part,
    Spot,
    Varying,
    numbers_of,
    points_of,
    setting_of,
    spots_of,
)

TENSORS = [
    "model.embed_tokens.weight",
    *(f"model.layers.{i}.{name}.weight" for i in range(5) for name in ("mlp.up", "norm")),
    "model.norm.weight",
]


def numbers(setting, tensors=TENSORS):
    (found,) = numbers_of([Asked("the weight of m", setting, spots_of(tensors))])
    return found


def layers(setting, module, count=5):
    found = numbers(setting)
    return [found[f"model.layers.{i}.{module}.weight"] for i in range(count)]


def test_numbers_of_one_number_are_all_that():
    assert numbers(0.3) == dict.fromkeys(TENSORS, 0.3)


def test_numbers_of_a_gradient_lie_evenly_over_the_layers():
    assert layers(Varying((Part((0.0, 1.0)),)), "norm") == [0, 0.25, 0.5, 0.75, 1]
    # 0.7 * 0.5 + 0.1 * 0.5 is 0.39999999999999997 in float64.
    assert layers(Varying((Part((1.0, 0.7, 0.1)),)), "norm") == [1, 0.85, 0.7, 0.4, 0.1]
    points = (0.0, 0.3, 0.7, 1.0)
    places = [Fraction(3 * i, 4) for i in range(5)]
    expected = [0.0, 0.225, 0.5, 0.775, 1.0]
    assert [place.denominator for place in places] == [1, 4, 2, 4, 1]
    assert layers(Varying((Part(points),)), "mlp.up") == expected


def test_numbers_outside_of_layers_are_the_first_point():
    found = numbers(Varying((Part((0.2, 1.0)),)))
    assert found["model.embed_tokens.weight"] == found["model.norm.weight"] == 0.2


def test_numbers_of_the_only_layer_are_the_last_point():
    spots = {"a": Spot("h.0.a.weight", (0, 1)), "b": Spot("h.1.a.weight", (1, 2))}
    (found,) = numbers_of([Asked("", Varying((Part((0.2, 0.7)),)), spots)])
    assert found == {"a": 0.7, "b": 0.7}


def test_numbers_of_flags_are_those_of_the_point_before():
    flags = Varying((Part((False, True, False), "mlp"), Part((True,))))
    assert layers(flags, "mlp.up") == [False, False, True, True, False]
    assert layers(flags, "norm") == [True] * 5


def test_numbers_of_a_part_of_a_slice_are_for_that_slice_alone():
    setting = setting_of([Part((1.0, 0.0), slice=1), Part((0.5,), "mlp"), Part((0.25,))])
    spots = {
        "a": Spot("h.4.mlp", (0, 2), 0),
        "b": Spot("h.5.attn", (1, 2), 0),
        "c": Spot("h.2.mlp", (0, 2), 1),
        "d": Spot("h.3.mlp", (1, 2), 1),
    }
    (found,) = numbers_of([Asked("", setting, spots)])
    assert found == {"a": 0.5, "b": 0.25, "c": 1.0, "d": 0.0}
    assert str(setting) == "slice 2: [1, 0], mlp: 0.5, *: 0.25"


def test_numbers_filter_of_several_models_has_to_match_in_one_of_them():
    setting = Varying((Part((1.0,), "h.4."), Part((0.5,))))
    with_it, without = {"a": Spot("h.4.mlp")}, {"a": Spot("h.3.mlp")}
    found = numbers_of([Asked("one", setting, without), Asked("other", setting, with_it)])
    assert found == [{"a": 0.5}, {"a": 1.0}]
    with pytest.raises(InputError, match=r"(?s)one has a filter .* h\.4\."):
        numbers_of([Asked("one", setting, without)])


def test_numbers_first_filter_that_matches_counts():
    setting = Varying((Part((1.0, 0.0), "mlp"), Part((9.0,), "layers.1."), Part((0.5,))))
    assert layers(setting, "mlp.up") == [1, 0.75, 0.5, 0.25, 0]
    assert layers(setting, "norm") == [0.5, 9, 0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ((Part((1.0,), "attn"), Part((0.5,))), "attn"),
        ((Part((1.0,), "mlp"),), "says nothing of a tensor"),
        ((Part((0.0,) * 6),), "6 points for 5 layers"),
        ((Part((0.0, 1.0), "embed"), Part((0.5,))), "2 points for 1 layers"),
    ],
)
def test_numbers_of_a_setting_that_does_not_fit_are_refused(parts, named):
    with pytest.raises(InputError) as refused:
        numbers(Varying(parts))
    assert "the weight of m" in refused.value.message
    assert named in refused.value.message


def test_setting_of_one_reached_number_is_that_number():
    assert setting_of([Part((0.5,)), Part((1.0,), "mlp")]) == 0.5
    mixed = setting_of([Part((1.0,), "mlp"), Part((0.5, 0.0)), Part((1.0,))])
    assert mixed == Varying((Part((1.0,), "mlp"), Part((0.5, 0.0))))
    assert (str(mixed), points_of(mixed)) == ("mlp: 1, *: [0.5, 0]", [1.0, 0.5, 0.0])
