"""What a merge may be asked: defaults, and everything that makes no sense refused by name."""

import math
import re

import pytest

from raylab.errors import InputError
from raylab.spec.merge_methods import METHODS
from raylab.spec.merge_parameters import parsed_parameters
from raylab.spec.merge_settings import Part, Varying, spots_of
from raylab.spec.merges import MergeInput, request_merge
from raylab.spec.tensor_settings import settings_of

TENSORS = ["embed.weight", "layers.0.mlp.weight", "layers.1.mlp.weight", "layers.1.norm.weight"]


def gradient(*points):
    return Varying((Part(points),))


def test_methods_every_row_cites_its_paper():
    cited = r"\w+ (et al\. |and \w+ )?(19|20)\d\d, (arXiv:\d{4}\.\d{5}|doi:10\.|\w+\.\w+/)"
    assert all(re.search(cited, row.paper) for row in METHODS.values())


def test_request_ties_without_options_has_the_promised_defaults():
    request = request_merge("ties", ["a", "b"], base="m")
    assert request.inputs == (MergeInput("a", 1.0, 0.2), MergeInput("b", 1.0, 0.2))
    assert (request.scope, request.scaling, request.normalize) == ("global", 1.0, True)
    assert request.seed is None


@pytest.mark.parametrize(
    ("method", "scope", "seed", "density", "normalize"),
    [
        ("ties", "global", None, 0.2, True),
        ("dare_ties", None, 0, 0.2, True),
        ("dare_linear", None, 0, 0.2, False),
        ("task_arithmetic", None, None, 1.0, False),
        ("linear", None, None, 1.0, True),
    ],
)
def test_request_method_has_only_what_it_uses(method, scope, seed, density, normalize):
    request = request_merge(method, ["a"], base="m")
    found = (request.scope, request.seed, request.inputs[0].density, request.normalize)
    assert found == (scope, seed, density, normalize)


def test_request_density_for_each_model_is_taken_in_order():
    request = request_merge("ties", ["a", "b"], base="m", weights=[2, 3], density=[0.1, 1])
    assert [(i.weight, i.density) for i in request.inputs] == [(2.0, 0.1), (3.0, 1.0)]


def test_request_linear_needs_no_base():
    assert request_merge("linear", ["a"]).base is None


@pytest.mark.parametrize(
    ("method", "options", "named"),
    [
        ("slrp", {}, "slerp"),
        (None, {}, "ties"),
        ("ties", {"base": None}, "base"),
        ("ties", {"weights": [1]}, "1 weights for 2 models"),
        ("ties", {"weights": [0, 0]}, "not all 0"),
        ("linear", {"weights": [0, 0]}, "not all 0"),
        ("linear", {"weights": [1, -1]}, "sum is not 0"),
        ("linear", {"weights": [0.3, -0.1 - 0.2]}, "sum is not 0"),
        ("task_arithmetic", {"weights": [1, -1], "normalize": True}, "sum is not 0"),
        ("dare_ties", {"weights": [0, 0], "normalize": False}, "lets them vote"),
        ("ties", {"density": [gradient(0.1, 0.5), 0.5], "scope": "global"}, "scope tensor"),
        ("ties", {"density": [gradient(0, 0), 0.5]}, "(0, 1]"),
        ("ties", {"density": [gradient(0.5, 1.5), 0.5]}, "(0, 1]"),
        ("ties", {"weights": [gradient(0.5, math.nan), 0.5]}, "finite"),
        ("task_arithmetic", {"weights": [1, math.nan]}, "finite"),
        ("task_arithmetic", {"scaling": math.inf}, "finite"),
        ("ties", {"density": 0.0}, "(0, 1]"),
        ("ties", {"density": 1.5}, "(0, 1]"),
        ("ties", {"density": math.nan}, "(0, 1]"),
        ("ties", {"scope": "layer"}, "global or tensor"),
        ("ties", {"seed": 1}, "seed"),
        ("dare_ties", {"scope": "tensor"}, "scope"),
        ("dare_ties", {"seed": -1}, "2^64"),
        ("task_arithmetic", {"density": 0.5}, "density"),
        ("linear", {"scaling": 2.0}, "lambda"),
    ],
)
def test_request_without_sense_is_refused_by_name(method, options, named):
    with pytest.raises(InputError) as refused:
        request_merge(method, ["a", "b"], **{"base": "m", **options})
    assert named in refused.value.message
    assert refused.value.exit_status == 2


def test_request_no_models_is_refused():
    with pytest.raises(InputError, match="needs models"):
        request_merge("ties", [], base="m")


@pytest.mark.parametrize("method", [m for m, row in METHODS.items() if row.combines == "entries"])
def test_request_negative_weights_are_taken(method):
    request = request_merge(method, ["a", "b"], base="m", weights=[1, -0.5])
    assert [item.weight for item in request.inputs] == [1.0, -0.5]


def test_request_density_that_differs_by_tensor_has_the_scope_tensor():
    request = request_merge("ties", ["a", "b"], base="m", density=[gradient(0.1, 1), 0.5])
    assert request.scope == "tensor"


def test_settings_by_tensor_are_those_of_each_model():
    request = request_merge(
        "ties", ["a", "b"], base="m", weights=[1, gradient(0, 2)], density=[0.5, gradient(1, 0)]
    )
    found = settings_of(request, spots_of(TENSORS))
    assert [found[name].weights for name in TENSORS] == [(1, 0), (1, 0), (1, 2), (1, 2)]
    assert [found[name].densities for name in TENSORS] == [(0.5, 1), (0.5, 1), (0.5, 0), (0.5, 0)]


ONLY_MLP = Varying((Part((1.0,), "mlp"), Part((0.0,))))
NONE = Varying((Part((0.0,), "mlp"), Part((0.0,))))


@pytest.mark.parametrize(
    ("method", "options", "named"),
    [
        ("linear", {"weights": [ONLY_MLP, 0]}, "embed.weight"),
        ("task_arithmetic", {"weights": [ONLY_MLP, -1], "normalize": True}, "layers.0.mlp"),
        ("ties", {"weights": [NONE, NONE]}, "not all 0"),
        ("ties", {"density": [Varying((Part((0.0,), "mlp"), Part((1.0,), "x"), Part((0.0,)))), 1]},
         "matches no tensor"),
        ("dare_ties", {"density": [Varying((Part((0.0,)), Part((1.0,)))), 1]}, "keeps no entry"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_the_tensors_are_refused(method, options, named):
    request = request_merge(method, ["a", "b"], base="m", **options)
    with pytest.raises(InputError) as refused:
        settings_of(request, spots_of(TENSORS))
    assert named in refused.value.message


def test_settings_weights_of_zero_leave_a_tensor_alone():
    request = request_merge("task_arithmetic", ["a"], base="m", weights=[ONLY_MLP], normalize=True)
    found = settings_of(request, spots_of(TENSORS))
    assert [found[name].weights for name in TENSORS] == [(0,), (1,), (1,), (0,)]


@pytest.mark.parametrize(
    ("method", "models", "options", "named"),
    [
        ("slerp", 2, {}, "slerp needs t"),
        ("slerp", 2, {"parameters": {"t": 1.5}}, "a number of 0 to 1"),
        ("slerp", 2, {"parameters": {"t": True}}, "a number of 0 to 1"),
        ("slerp", 2, {"parameters": {"t": math.nan}}, "a number of 0 to 1"),
        ("slerp", 3, {"parameters": {"t": 0.5}}, "expected: 2"),
        ("slerp", 2, {"parameters": {"t": 0.5}, "weights": [1, 1]}, "slerp has no weight"),
        ("nuslerp", 2, {"parameters": {"t": 0.5}}, "nuslerp has no parameter t"),
        ("nuslerp", 2, {"parameters": {"nuslerp_flatten": 1}}, "true or false"),
        ("karcher", 2, {"parameters": {"max_iter": 1.5}}, "a whole number of 1 to 10000"),
        ("karcher", 2, {"weights": [1, -1]}, "at least 0"),
        ("multislerp", 2, {"weights": [0, 0]}, "not all 0"),
        ("model_stock", 1, {}, "at least 2, beside the base model"),
        ("model_stock", 2, {"scaling": 2.0}, "no lambda"),
        ("model_stock", 2, {"base": None}, "needs the base model"),
        ("nearswap", 1, {"parameters": {"t": -1.0}}, "a number of 0 to"),
        ("ties", 2, {"parameters": {"t": 1.0}}, "no parameters of its own"),
    ],
)
def test_request_own_parameters_that_make_no_sense_are_refused(method, models, options, named):
    with pytest.raises(InputError) as refused:
        request_merge(method, ["m"] * models, **{"base": "b", **options})
    assert named in refused.value.message


@pytest.mark.parametrize("text", ["t=٠", "max_iter=1_0", "=1", "t= 1", "t=0x1", "t=1e", "t=nan"])
def test_parameters_of_a_command_line_in_other_writing_are_refused(text):
    with pytest.raises(InputError, match=r"is no number|a name and a value"):
        parsed_parameters([text])


@pytest.mark.parametrize(
    ("text", "value"),
    [("t=.5", 0.5), ("t=1e-3", 1e-3), ("t=-2", -2), ("t=+0.25", 0.25), ("t=3.", 3.0)],
)
def test_parameters_of_a_command_line_are_plain_numbers(text, value):
    assert parsed_parameters([text]) == {"t": value}


def test_request_flag_without_the_one_that_it_needs_is_refused():
    asked = {"nuslerp_row_wise": True}
    with pytest.raises(InputError, match="nuslerp_row_wise has no effect"):
        request_merge("nuslerp", ["a", "b"], parameters=asked)
    request = request_merge("nuslerp", ["a", "b"], parameters=asked | {"nuslerp_flatten": False})
    assert request.parameters["nuslerp_row_wise"] is True
    assert request_merge("nuslerp", ["a", "b"], parameters={"nuslerp_row_wise": False})


def test_parameters_of_a_command_line_are_read_by_kind():
    found = parsed_parameters(["t=0.5", "max_iter=3", "nuslerp_flatten=false"])
    assert found == {"t": 0.5, "max_iter": 3, "nuslerp_flatten": False}
    assert parsed_parameters(None) is None
    for wrong in (["t"], ["t=x"], ["t=nan"], ["t=1", "t=2"]):
        with pytest.raises(InputError):
            parsed_parameters(wrong)


@pytest.mark.parametrize(("density", "epsilon"), [(0.1, 0.15), (0.9, 0.1), (0.15, 0.15)])
def test_probabilities_that_leave_0_to_1_are_refused(density, epsilon):
    given = {"density": density, "parameters": {"epsilon": epsilon}}
    with pytest.raises(InputError, match="density - epsilon"):
        request_merge("della", ["a", "b"], base="base", **given)


def test_probabilities_of_a_gradient_are_checked_at_every_layer():
    density = Varying((Part((0.5, 1.0)),))
    request = request_merge("della", ["a"], base="base", density=[density])
    settings_of(request, spots_of(["h.0.a.w", "h.1.a.w"]))
    with pytest.raises(InputError, match=r"density 0\.9"):
        settings_of(request, spots_of([f"h.{i}.a.w" for i in range(6)]))
