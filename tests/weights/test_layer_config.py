"""The config of layers in another order: what a config says of a layer goes with it."""

import json

import pytest

from raylab.errors import ModelError
from raylab.spec.modules import modules_of
from raylab.weights.layer_config import LayerConfig

ROW = modules_of(["model.layers.0.mlp.up_proj.weight"])["default"].row
FIELDS = {
    "model_type": "of_no_library",
    "num_hidden_layers": 4,
    "n_layer": 4,
    "layer_types": ["full", "sliding", "full", "linear"],
    "no_rope_layers": [1, 0, 1, 1],
    "mlp_only_layers": [0, 3],
    "eos_token_id": [1, 2, 3, 4],
    "hidden_size": 8,
}


def saved(folder, **changes):
    folder.mkdir()
    config = {name: v for name, v in {**FIELDS, **changes}.items() if v is not None}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_layers_take_what_their_own_config_says_of_them(tmp_path):
    other = saved(tmp_path / "b", num_hidden_layers=2, n_layer=2, layer_types=["x", "y"],
                  no_rope_layers=[5, 6], mlp_only_layers=[1])  # fmt: skip
    config = LayerConfig(saved(tmp_path / "a"), {0: other})
    found = config.with_layers([(ROW, [(None, 3), (None, 1), (0, 1), (None, 3), (0, 0)])])
    assert found == {
        **FIELDS,
        "num_hidden_layers": 5,
        "n_layer": 5,
        "layer_types": ["linear", "sliding", "y", "linear", "x"],
        "no_rope_layers": [1, 0, 6, 1, 5],
        "mlp_only_layers": [0, 2, 3],
    }
    assert config.says_by_layer(ROW)


def test_layers_of_a_part_change_that_part_alone(tmp_path):
    text = {"num_hidden_layers": 2, "layer_types": ["a", "b"]}
    place = saved(tmp_path / "a", num_hidden_layers=None, n_layer=None, text_config=text)
    found = LayerConfig(place, {}).with_layers([(ROW, [(None, 1)] * 3)])
    assert found["text_config"] == {"num_hidden_layers": 3, "layer_types": ["b", "b", "b"]}
    assert found["layer_types"] == FIELDS["layer_types"]


def test_layers_that_a_config_does_not_count_are_refused(tmp_path):
    place = saved(tmp_path / "a", num_hidden_layers=None, n_layer=None)
    with pytest.raises(ModelError, match="does not say how many layers"):
        LayerConfig(place, {}).with_layers([(ROW, [(None, 1)])])


def test_layers_of_a_model_that_says_less_of_them_are_refused(tmp_path):
    config = LayerConfig(saved(tmp_path / "a"), {0: saved(tmp_path / "b", layer_types=None)})
    with pytest.raises(ModelError, match="no layer_types"):
        config.with_layers([(ROW, [(None, 0), (0, 1)])])
