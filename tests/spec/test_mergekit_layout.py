"""Slices and modules of mergekit's YAML: what is read, and what is refused with its line."""

import pytest

from raylab.errors import InputError
from raylab.spec.merge_settings import Part, Varying
from raylab.spec.mergekit import read_mergekit
from raylab.spec.slices import Slice, Source

SLICES = """
merge_method: ties
base_model: base
slices:
  - sources:
      - model: one
        layer_range: [0, 4]
        parameters: {weight: 0.5}
      - {model: base, layer_range: [2, 6]}
      - {model: base+adapter, layer_range: [2, 6]}
    parameters: {density: 0.25, lambda: 0.5}
  - sources:
      - {model: two, layer_range: [4, 6]}
      - {model: base, layer_range: [4, 6]}
      - {model: one, layer_range: [0, 2], parameters: {weight: [{filter: mlp, value: 0.75}]}}
parameters: {weight: 1, normalize: false}
"""
MODULES = """
merge_method: linear
modules:
  text_decoder:
    slices:
      - sources:
          - {model: one, layer_range: [0, 4], parameters: {weight: 0.5}}
          - {model: two, layer_range: [2, 6]}
    parameters: {weight: 0.25}
  vision_model:
    models:
      - {model: two}
      - {model: one}
    parameters: {weight: 0.75}
parameters: {weight: 1}
"""


def read(tmp_path, text):
    file = tmp_path / "merge.yaml"
    file.write_text(text)
    return read_mergekit(file)


def test_read_slices_have_inputs_once_and_settings_by_slice(tmp_path):
    request = read(tmp_path, SLICES)
    assert [item.model for item in request.inputs] == ["one", "adapter", "two"]
    assert request.slices == (
        Slice((Source(0, 0), Source(1, 2)), 4, 2),
        Slice((Source(2, 4), Source(0, 0)), 2, 4),
    )
    one, adapter, two = request.inputs
    assert one.weight == Varying((Part((0.5,), slice=0), Part((0.75,), "mlp", 1), Part((1.0,))))
    assert (adapter.weight, two.weight, two.density) == (1.0, 1.0, 1.0)
    assert str(adapter.density) == "slice 1: 0.25, *: 1"
    assert (str(request.scaling), request.normalize) == ("slice 1: 0.5, *: 1", False)


def test_read_modules_have_slices_and_settings_of_their_own(tmp_path):
    request = read(tmp_path, MODULES)
    assert request.slices == (
        Slice((Source(0, 0), Source(1, 2)), 4, None, "text_decoder"),
        Slice((Source(1), Source(0)), None, None, "vision_tower"),
    )
    assert str(request.inputs[0].weight) == "slice 1: 0.5, slice 1: 0.25, slice 2: 0.75, *: 1"


def test_read_slices_take_the_base_model_of_the_first_where_the_file_has_none(tmp_path):
    text = SLICES.replace("base_model: base\n", "").replace(
        "  - sources", "  - base_model: base\n    sources"
    )
    request = read(tmp_path, text)
    assert (request.base, request.inputs[1].model) == ("base", "adapter")


def test_read_slices_of_slerp_start_at_the_base_model_of_each(tmp_path):
    text = """
merge_method: slerp
base_model: one
slices:
  - sources: [{model: two, layer_range: [0, 2]}, {model: one, layer_range: [0, 2]}]
  - base_model: two
    sources: [{model: one, layer_range: [2, 4]}, {model: two, layer_range: [2, 4]}]
parameters: {t: 0.25}
"""
    request = read(tmp_path, text)
    names = [[request.inputs[one.model].model for one in part.sources] for part in request.slices]
    assert names == [["one", "two"], ["two", "one"]]


@pytest.mark.parametrize(
    ("old", "new", "line", "named"),
    [
        ("layer_range: [0, 4]", "layer_range: [0, 5]", 5, "5, 4, 4"),
        ("layer_range: [0, 4]", "layer_range: [4, 4]", 7, "layer_range"),
        ("layer_range: [0, 4]", "layer_range: [-1, 3]", 7, "layer_range"),
        ("layer_range: [0, 4]", "layer_range: 4", 7, "layer_range"),
        ("        layer_range: [0, 4]\n", "", 6, "layer_range"),
        ("{model: base+adapter, layer_range", "{model: one, layer_range", 10, "once"),
        ("model: base, layer_range: [2", "model: x, layer_range: [2", 5, "base_model base"),
        ("    parameters: {d", "    residual_weight: 1\n    parameters: {d", 11, "residual_weight"),
        ("    parameters: {d", "    base_model: one\n    parameters: {d", 11, "one base model"),
        ("parameters: {weight: 0.5}", "parameters: {weight: 0.5, lambda: 2}", 8, "lambda"),
        ("density: 0.25", "gamma: 0.25", 11, "gamma"),
        ("slices:", "modules: {default: {}}\nslices:", 4, "modules"),
        ("slices:", "slices: []\nx:", 5, "raylab does not read x"),
    ],
)  # fmt: skip
def test_read_slices_that_are_wrong_are_refused_with_their_line(tmp_path, old, new, line, named):
    assert old in SLICES
    with pytest.raises(InputError) as refused:
        read(tmp_path, SLICES.replace(old, new))
    assert f"merge.yaml, line {line}: " in refused.value.message
    assert named in refused.value.message


@pytest.mark.parametrize(
    ("old", "new", "line", "named"),
    [
        ("vision_model:", "audio_tower:", 10, "audio_tower"),
        ("    models:\n", "    slices: []\n    models:\n", 10, "models or slices"),
        ("  vision_model:\n", "  vision_model: {}\n  x:\n", 11, "raylab does not read x"),
        ("parameters: {weight: 0.75}", "dtype: float16", 14, "dtype"),
    ],
)
def test_read_modules_that_are_wrong_are_refused_with_their_line(tmp_path, old, new, line, named):
    assert old in MODULES
    with pytest.raises(InputError) as refused:
        read(tmp_path, MODULES.replace(old, new))
    assert f"merge.yaml, line {line}: " in refused.value.message
    assert named in refused.value.message


def test_read_slices_with_another_number_of_models_than_the_method_takes_are_refused(tmp_path):
    text = SLICES.replace("merge_method: ties", "merge_method: nearswap").replace(
        "normalize: false", "t: 1"
    )
    text = text.replace("density: 0.25, lambda: 0.5", "").replace("weight: 1, ", "")
    text = text.replace("        parameters: {weight: 0.5}\n", "")
    text = text.replace(", parameters: {weight: [{filter: mlp, value: 0.75}]}", "")
    with pytest.raises(InputError, match="nearswap combines another number of models"):
        read(tmp_path, text)
