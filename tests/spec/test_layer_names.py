"""The layer of a tensor by its name."""

import pytest

from raylab.spec.layer_names import LayerName, layer_name, layer_number


@pytest.mark.parametrize(
    ("tensor", "found"),
    [
        ("model.layers.3.mlp.up_proj.weight", ("model.layers", 3, "mlp.up_proj.weight")),
        ("h.12.attn.c_attn.bias", ("h", 12, "attn.c_attn.bias")),
        ("model.layers.3.mlp.experts.7.w1.weight", ("model.layers", 3, "mlp.experts.7.w1.weight")),
    ],
)
def test_tensor_in_a_layer_is_in_that_of_the_first_number(tensor, found):
    stack, number, rest = found
    assert layer_name(tensor) == LayerName(f"{stack}.{number}", stack, number, rest)
    assert layer_number(tensor) == number


@pytest.mark.parametrize("tensor", ["lm_head.weight", "model.norm", "conv1.weight", "0.weight"])
def test_tensor_without_a_number_between_names_is_outside_the_layers(tensor):
    assert layer_name(tensor) is None
