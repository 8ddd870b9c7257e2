"""Numbers that differ by tensor: gradients over layers, filters, and both."""

from fractions import Fraction

import pytest

from raylab.errors import InputError
from raylab.spec.merge_settings import Part, Varying, numbers_of, points_of, setting_of

TENSORS = [
    "model.embed_tokens.weight",
    *(f"model.layers.{i}.{name}.weight" for i in range(5) for name in ("mlp.up", "norm")),
    "model.norm.weight",
]


def layers(setting, module, count=5):
    found = numbers_of(setting, TENSORS, "the weight of m")
    return [found[f"model.layers.{i}.{module}.weight"] for i in range(count)]


def test_numbers_of_one_number_are_all_that():
    assert numbers_of(0.3, TENSORS, "") == dict.fromkeys(TENSORS, 0.3)


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
    found = numbers_of(Varying((Part((0.2, 1.0)),)), TENSORS, "")
    assert found["model.embed_tokens.weight"] == found["model.norm.weight"] == 0.2


def test_numbers_of_the_only_layer_are_the_last_point():
    found = numbers_of(Varying((Part((0.7,)),)), ["h.0.a.weight", "head.weight"], "")
    assert found == {"h.0.a.weight": 0.7, "head.weight": 0.7}


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
        numbers_of(Varying(parts), TENSORS, "the weight of m")
    assert "the weight of m" in refused.value.message
    assert named in refused.value.message


def test_setting_of_one_reached_number_is_that_number():
    assert setting_of([Part((0.5,)), Part((1.0,), "mlp")]) == 0.5
    mixed = setting_of([Part((1.0,), "mlp"), Part((0.5, 0.0)), Part((1.0,))])
    assert mixed == Varying((Part((1.0,), "mlp"), Part((0.5, 0.0))))
    assert (str(mixed), points_of(mixed)) == ("mlp: 1, *: [0.5, 0]", [1.0, 0.5, 0.0])
