"""mergekit's YAML: what is read means what mergekit means, and the rest is refused by name."""

import contextlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raylab.errors import InputError
from raylab.spec.merge_settings import Part, Varying, points_of, spots_of
from raylab.spec.mergekit import read_mergekit, requested
from raylab.spec.merges import MergeInput
from raylab.spec.tensor_settings import settings_of

TIES = """
merge_method: ties
base_model: base
models:
  - model: base
  - model: first
    parameters: {weight: 0.7, density: 0.5}
  - model: base+adapter
parameters: {weight: 0.3, normalize: true, int8_mask: true, lambda: 0.9}
dtype: float32
out_dtype: bfloat16
tokenizer_source: base
"""


def read(tmp_path, text, **options):
    file = tmp_path / "merge.yaml"
    file.write_text(text)
    return read_mergekit(file, **options)


def edited(old, new):
    assert old in TIES
    return TIES.replace(old, new)


def test_read_ties_takes_own_before_common_and_leaves_the_base_out(tmp_path):
    request = read(tmp_path, TIES)
    assert request.inputs == (MergeInput("first", 0.7, 0.5), MergeInput("adapter", 0.3, 1.0))
    assert (request.method, request.base, request.scope) == ("ties", "base", "tensor")
    assert (request.scaling, request.normalize, request.dtype) == (0.9, True, "bfloat16")


@pytest.mark.parametrize(
    ("method", "normalize"),
    [
        ("ties", True),
        ("dare_ties", False),
        ("task_arithmetic", False),
        ("dare_linear", False),
        ("linear", True),
    ],
)
def test_read_without_normalize_has_mergekits_default(tmp_path, method, normalize):
    text = (
        f"merge_method: {method}\nbase_model: m\nmodels: [{{model: a, parameters: {{weight: 1}}}}]"
    )
    if method == "linear":
        text = text.replace("base_model: m\n", "")
    request = read(tmp_path, text)
    assert (request.normalize, request.inputs) == (normalize, (MergeInput("a", 1.0, 1.0),))


def test_read_linear_keeps_the_base_among_the_models(tmp_path):
    text = (
        "merge_method: linear\nbase_model: m\nmodels: [model: m, model: a]\nparameters: {weight: 1}"
    )
    text = text.replace("[model: m, model: a]", "[{model: m}, {model: a}]")
    assert [item.model for item in read(tmp_path, text).inputs] == ["m", "a"]


def test_read_scope_and_seed_come_from_outside(tmp_path):
    assert read(tmp_path, TIES, scope="global").scope == "global"
    text = TIES.replace("merge_method: ties", "merge_method: dare_ties")
    assert read(tmp_path, text, seed=5).seed == 5


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("merge_method: ties", "merge_method: swap", "swap"),
        ("merge_method: ties", "", "merge_method"),
        ("models:", "slices: []\nmodels:", "slices"),
        ("models:", "tokenizer: {source: union}\nmodels:", "not both"),
        ("models:", "chat_template: vicuna\nmodels:", "this chat_template is not read"),
        ("models:", "chat_template: [auto]\nmodels:", "this chat_template is not read"),
        ("models:", "chat_template: '{% for m in messages %}'\nmodels:", "no Jinja"),
        ("models:", "chat_template: '{{ messages.__class__.__mro__ }}'\nmodels:", "not safe"),
        ("models:", "chat_template: '{{ messages | nothing }}'\nmodels:", "no Jinja"),
        ("int8_mask: true", "gamma: 0.1", "gamma"),
        ("int8_mask: true", "int8_mask: 3", "int8_mask"),
        ("normalize: true", "normalize: 2", "normalize"),
        ("int8_mask: true", "rescale: 2", "rescale"),
        ("int8_mask: true", "rescale_norm: l1", "rescale_norm"),
        ("int8_mask: true", "rescale: true, rescale_norm: l2", "rescale_norm"),
        ("density: 0.5", "density: []", "gradient"),
        ("density: 0.5", "density: [0.5, true]", "gradient"),
        ("density: 0.5", "density: [0.5, {value: 1}]", "gradient"),
        ("density: 0.5", "density: [{filter: mlp}]", "value"),
        ("density: 0.5", "density: [{filter: 3, value: 1}]", "filter"),
        ("density: 0.5", "density: [{layer: 3, value: 1}]", "layer"),
        ("density: 0.5", "density: [0.5, 1.5]", "fraction"),
        ("density: 0.5", "density: [0, 0]", "fraction"),
        ("lambda: 0.9", "lambda: [0.1, true]", "lambda"),
        ("lambda: 0.9", "lambda: [{filter: mlp, value: no}]", "value"),
        ("normalize: true", "normalize: [{filter: mlp, value: 0.5}]", "value"),
        ("density: 0.5", "lambda: 0.5", "lambda"),
        ("weight: 0.7", "weight: true", "weight"),
        ("weight: 0.3, ", "", "weight"),
        ("base+adapter", "other+", "MODEL+ADAPTER"),
        ("base+adapter", "{model: other, lora: ''}", "lora"),
        ("model: first", "model: {path: first}", "model"),
        ("base_model: base", "base_model: {path: base}", "raylab does not read path"),
        ("base_model: base", "base_model: base+", "this base_model is not read"),
        (
            "model: first",
            "model: {model: first, override_architecture: L}",
            "override_architecture",
        ),
        ("model: first", "model: {model: {revision: v1}}", "this model is not read"),
        ("model: first", "model: a+b+c", "MODEL+ADAPTER"),
        ("merge_method: ties", "merge_method: [ties]", "merge_method"),
        ("out_dtype: bfloat16", "out_dtype: int8", "out_dtype"),
        ("dtype: float32", "dtype: auto", "dtype"),
        ("merge_method: ties", "merge_method: task_arithmetic", "density"),
        ("merge_method: ties", "merge_method: linear", "lambda"),
        ("base_model: base", "base_model: [", "cannot be read"),
        ("base_model: base", "base_model: &b [*b]", "line 3: an anchor holds itself"),
        ("weight: 0.7", "weight: 010", "line 7: mergekit reads 010 otherwise"),
        ("weight: 0.7", "weight: -0o7", "line 7: mergekit reads -0o7 otherwise"),
        ("weight: 0.7", "weight: &w true", "weight"),
        ("weight: 0.7", "weight: 1" + "0" * 400, "line 7: this weight is not read"),
        ("weight: 0.7", f"weight: [{'x, ' * 2999}]", " characters)"),
        ("lambda: 0.9", "lambda: 2001-99-99", "is no timestamp"),
    ],
)
def test_read_outside_the_subset_is_refused_by_name(tmp_path, old, new, named):
    text = edited(old, new)
    if "linear" in new:
        text = text.replace("parameters: {weight: 0.7, density: 0.5}", "parameters: {weight: 1}")
    with pytest.raises(InputError) as refused:
        read(tmp_path, text)
    assert named in refused.value.message


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("merge_method: ties", "merge_method: swap", 2),
        ("models:", "slices: []\nmodels:", 4),
        ("density: 0.5", "gamma: 0.5", 7),
        ("density: 0.5", "density: [{filter: mlp, value: x}]", 7),
        ("base+adapter", "other+", 8),
        ("int8_mask: true", "rescale: 2", 9),
        ("out_dtype: bfloat16", "out_dtype: int8", 11),
    ],
)
def test_read_what_is_refused_is_named_with_its_line(tmp_path, old, new, line):
    with pytest.raises(InputError, match=rf"merge\.yaml, line {line}: "):
        read(tmp_path, edited(old, new))


@pytest.mark.parametrize(
    ("old", "new", "todo"),
    [
        ("  - model: first\n", "  - model: first\n    revision: v1\n", "`model: ID@REVISION`"),
        ("parameters: {weight: 0.7, density: 0.5}", "weight: 0.7", "under `parameters`"),
        ("int8_mask: true", "int_space: cs", "mergekit 0.1.5 ignores it"),
    ],
)
def test_read_a_field_that_mergekit_ignores_is_refused_with_what_to_do(tmp_path, old, new, todo):
    with pytest.raises(InputError, match="raylab does not read") as refused:
        read(tmp_path, edited(old, new))
    assert todo in refused.value.todo


def test_read_a_name_of_the_output_changes_nothing(tmp_path):
    assert read(tmp_path, f"name: Best-Model-7B\n{TIES}") == read(tmp_path, TIES)


def test_read_a_field_that_is_not_there_says_so(tmp_path):
    text = "merge_method: slerp\nmodels: [{model: a}, {model: b}]\nparameters: {t: 0.5}\n"
    with pytest.raises(InputError, match="there is no base_model"):
        read(tmp_path, text)


def test_read_a_number_in_quotes_is_shown_with_them(tmp_path):
    with pytest.raises(InputError, match="this density is not read") as refused:
        read(tmp_path, edited("density: 0.5", "density: '0.5'"))
    assert refused.value.found == "'0.5'"


def test_read_several_documents_are_refused_with_their_number(tmp_path):
    with pytest.raises(InputError, match="several merges") as refused:
        read(tmp_path, f"name: first{TIES}---{TIES}")
    assert "2 YAML documents" in refused.value.found


@pytest.mark.parametrize(
    ("asked", "line", "named"),
    [
        ("density: [{filter: mlpp, value: 1}, {value: 0.5}]", 7, "matches no tensor"),
        ("density: [1, 0.5, 0.1]", 7, "more points than layers"),
    ],
)
def test_read_a_setting_that_does_not_fit_the_tensors_is_named_with_its_line(
    tmp_path, asked, line, named
):
    request = read(tmp_path, edited("density: 0.5", asked))
    spots = spots_of([f"model.layers.{number}.mlp.up_proj.weight" for number in (0, 1)])
    with pytest.raises(InputError, match=rf"merge\.yaml, line {line}: .*{named}"):
        settings_of(request, spots)


def test_read_gradients_and_filters_come_before_the_common_ones(tmp_path):
    text = edited("density: 0.5", "density: [{filter: mlp, value: [1, 0.5]}]")
    text = text.replace("weight: 0.3", "weight: [0, 0.3]")
    first, second = read(tmp_path, text).inputs
    assert first.density == Varying((Part((1.0, 0.5), "mlp"), Part((1.0,))))
    assert (first.weight, second.weight) == (0.7, Varying((Part((0.0, 0.3)),)))
    common = edited("lambda: 0.9", "density: [{filter: norm, value: 0.2}, {filter: '*', value: 1}]")
    common = common.replace("density: 0.5", "density: {filter: mlp, value: 0.5}")
    assert str(read(tmp_path, common).inputs[0].density) == "mlp: 0.5, norm: 0.2, *: 1"


@pytest.mark.parametrize(
    ("method", "given", "rescale"),
    [
        ("ties", "", "none"),
        ("ties", ", rescale: true", "l1"),
        ("dare_ties", "", "density"),
        ("dare_ties", ", rescale: true", "density"),
        ("dare_ties", ", rescale: false", "none"),
        ("dare_ties", ", rescale_norm: l1", "l1"),
    ],
)
def test_read_rescale_is_the_methods(tmp_path, method, given, rescale):
    text = edited(", int8_mask: true", given).replace("ties", method)
    assert read(tmp_path, text).rescale == rescale


def test_read_models_as_mappings_are_those_of_the_text(tmp_path):
    text = edited("base_model: base", "base_model: {model: {path: base, revision: v1}}")
    text = text.replace("model: base\n", "model: base@v1\n")
    text = text.replace("model: first", "model: {model: first}")
    text = text.replace("base+adapter", "{model: base@v1, lora: {path: adapter, revision: v2}}")
    request = read(tmp_path, text)
    assert request.base == "base@v1"
    assert [item.model for item in request.inputs] == ["first", "adapter@v2"]
    other = text.replace("model: base@v1, lora", "model: other@v1, lora")
    assert read(tmp_path, other).inputs[1].model == "other@v1+adapter@v2"


def test_read_linear_counts_a_base_that_is_not_listed_as_the_last_model(tmp_path):
    text = "merge_method: linear\nbase_model: m\nmodels: [{model: a}]\nparameters: {weight: 1}"
    assert [item.model for item in read(tmp_path, text).inputs] == ["a", "m"]
    with pytest.raises(InputError, match="a model has no weight"):
        text = text.replace("{model: a}", "{model: a, parameters: {weight: 1}}")
        read(tmp_path, text.replace("\nparameters: {weight: 1}", ""))


@pytest.mark.parametrize("text", ["", "- ties", "merge_method: ties\nmodels: first", "a: *b"])
def test_read_no_merge_file_is_refused(tmp_path, text):
    with pytest.raises(InputError):
        read(tmp_path, text)


NAMES = st.sampled_from(["ties", "linear", "a", "b", "a+b", "bfloat16", "base"])
SCALARS = st.none() | st.booleans() | st.integers(-1, 3) | st.floats() | NAMES
FILTERED = st.fixed_dictionaries({}, optional={"filter": SCALARS, "value": st.lists(SCALARS)})
VALUES = SCALARS | st.lists(SCALARS) | st.lists(FILTERED) | FILTERED
PARAMETERS = st.dictionaries(
    st.sampled_from(["weight", "density", "lambda", "normalize", "rescale", "x"]), VALUES
)
MODELS = st.lists(st.fixed_dictionaries({}, optional={"model": VALUES, "parameters": PARAMETERS}))
SOURCES = st.lists(
    st.fixed_dictionaries(
        {"model": NAMES, "layer_range": st.lists(st.integers(-1, 5), min_size=1, max_size=3)},
        optional={"parameters": PARAMETERS},
    ),
    max_size=3,
)
SLICES = st.lists(
    st.fixed_dictionaries(
        {"sources": SOURCES | VALUES}, optional={"base_model": NAMES, "parameters": PARAMETERS}
    ),
    max_size=3,
)
FIELDS = {
    "merge_method": VALUES,
    "base_model": VALUES,
    "models": MODELS | VALUES,
    "slices": SLICES,
    "modules": st.dictionaries(
        st.sampled_from(["default", "text_decoder", "x"]),
        st.fixed_dictionaries({}, optional={"models": MODELS, "slices": SLICES}) | VALUES,
    ),
    "parameters": PARAMETERS | VALUES,
    "dtype": VALUES,
    "out_dtype": VALUES,
    "tokenizer_source": VALUES,
    "tokenizer": VALUES,
}


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.fixed_dictionaries({}, optional=FIELDS))
def test_read_any_mapping_is_a_request_or_an_input_error(tmp_path, config):
    text = json.dumps(config).replace("NaN", ".nan").replace("Infinity", ".inf")
    with contextlib.suppress(InputError):
        request = read(tmp_path, text)
        assert request.inputs
        densities = [points_of(item.density) for item in request.inputs]
        assert all(any(points) and 0 <= min(points) <= max(points) <= 1 for points in densities)


def test_read_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"merge\.yaml"):
        read_mergekit(tmp_path / "merge.yaml")


def test_requested_file_beside_options_is_refused(tmp_path):
    file = tmp_path / "merge.yaml"
    file.write_text(TIES)
    with pytest.raises(InputError, match="density"):
        requested(file, None, None, scope=None, seed=None, density=0.5, base=None)
    assert requested(file, None, None, scope=None, seed=None, base=None).method == "ties"


def test_requested_without_a_file_is_what_the_options_say():
    request = requested(None, "ties", ["a"], scope="tensor", seed=None, base="m", density=0.4)
    assert (request.scope, request.inputs[0].density) == ("tensor", 0.4)
