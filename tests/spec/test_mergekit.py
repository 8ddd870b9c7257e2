"""mergekit's YAML: what is read means what mergekit means, and the rest is refused by name."""

import contextlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raylab.errors import InputError
from raylab.spec.mergekit import read_mergekit, requested
from raylab.spec.merges import MergeInput

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
        ("merge_method: ties", "merge_method: slerp", "slerp"),
        ("merge_method: ties", "", "merge_method"),
        ("models:", "slices: []\nmodels:", "slices"),
        ("models:", "tokenizer: {source: union}\nmodels:", "tokenizer"),
        ("models:", "chat_template: auto\nmodels:", "chat_template"),
        ("tokenizer_source: base", "tokenizer_source: union", "tokenizer_source"),
        ("int8_mask: true", "gamma: 0.1", "gamma"),
        ("int8_mask: true", "int8_mask: 3", "int8_mask"),
        ("normalize: true", "normalize: 2", "normalize"),
        ("int8_mask: true", "rescale: true", "rescale"),
        ("density: 0.5", "density: [0, 1]", "gradient"),
        ("density: 0.5", "density: [{filter: mlp, value: 1}]", "filter"),
        ("density: 0.5", "lambda: 0.5", "lambda"),
        ("weight: 0.7", "weight: true", "weight"),
        ("weight: 0.3, ", "", "weight"),
        ("base+adapter", "other+adapter", "other+adapter"),
        ("model: first", "model: {path: first}", "model"),
        ("base_model: base", "base_model: {path: base}", "base_model is read in part"),
        ("merge_method: ties", "merge_method: [ties]", "merge_method"),
        ("out_dtype: bfloat16", "out_dtype: int8", "out_dtype"),
        ("dtype: float32", "dtype: auto", "dtype"),
        ("merge_method: ties", "merge_method: task_arithmetic", "density"),
        ("merge_method: ties", "merge_method: linear", "lambda"),
        ("base_model: base", "base_model: [", "cannot be read"),
        (
            "merge_method: ties\nbase_model: base",
            "merge_method: linear\nbase_model: m",
            "base_model",
        ),
    ],
)
def test_read_outside_the_subset_is_refused_by_name(tmp_path, old, new, named):
    text = edited(old, new)
    if "linear" in new:
        text = text.replace("parameters: {weight: 0.7, density: 0.5}", "parameters: {weight: 1}")
    with pytest.raises(InputError) as refused:
        read(tmp_path, text)
    assert named in refused.value.message


@pytest.mark.parametrize("text", ["", "- ties", "merge_method: ties\nmodels: first", "a: *b"])
def test_read_no_merge_file_is_refused(tmp_path, text):
    with pytest.raises(InputError):
        read(tmp_path, text)


NAMES = st.sampled_from(["ties", "linear", "a", "b", "a+b", "bfloat16", "base"])
VALUES = st.none() | st.booleans() | st.integers(-1, 3) | st.floats() | NAMES
PARAMETERS = st.dictionaries(
    st.sampled_from(["weight", "density", "lambda", "normalize", "rescale", "x"]), VALUES
)
MODELS = st.lists(st.fixed_dictionaries({}, optional={"model": VALUES, "parameters": PARAMETERS}))
FIELDS = {
    "merge_method": VALUES,
    "base_model": VALUES,
    "models": MODELS | VALUES,
    "parameters": PARAMETERS | VALUES,
    "dtype": VALUES,
    "out_dtype": VALUES,
    "tokenizer_source": VALUES,
}


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.fixed_dictionaries({}, optional=FIELDS))
def test_read_any_mapping_is_a_request_or_an_input_error(tmp_path, config):
    text = json.dumps(config).replace("NaN", ".nan").replace("Infinity", ".inf")
    with contextlib.suppress(InputError):
        request = read(tmp_path, text)
        assert request.inputs
        assert all(0 < item.density <= 1 for item in request.inputs)


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
