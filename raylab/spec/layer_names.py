"""Names of tensors in layers: model.layers.3.mlp.up_proj.weight is in layer 3 of model.layers.

Invariant: the first whole number in a name, with a name before and after it, is that of its layer;
experts and others that are numbered within a layer are not layers.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_LAYER = re.compile(r"^(.*?)\.(\d+)\.(.+)$")


class LayerName(NamedTuple):
    """The name of a tensor in a layer: that of the layer, of the stack of layers, the number, and
    what follows."""

    layer: str
    stack: str
    number: int
    rest: str


def layer_number(tensor: str) -> int:
    """The number of the layer that a tensor is in, where it is in one."""
    found = layer_name(tensor)
    assert found, "it is in a layer"
    return found.number


def layer_name(tensor: str) -> LayerName | None:
    """The parts of a tensor's name; None outside the layers."""
    match = _LAYER.match(tensor)
    return LayerName(tensor[: match.end(2)], match[1], int(match[2]), match[3]) if match else None
