"""The values of 4-bit weights, which a model on a CPU keeps beside their codes.

Model: bitsandbytes 0.50.2 has no kernel for a product with codes on a CPU. It makes the values of a
layer's weights in every forward pass and again in every backward pass, which is a fifth of the
time of a small model's training. `keep_values` makes them once; a layer then multiplies by them.
Invariant: outputs and gradients are bit for bit those of bitsandbytes, and the weights stay codes
for all who read or save them. A layer that this would change is left as it is. So is a model on a
GPU, which has the kernels and no memory to spare, and one with more than `MOST_BYTES` of values, of
whose steps they would save little.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from torch import nn
from torch.nn import functional

MOST_BYTES = 1 << 28


def keep_values(model: nn.Module) -> None:
    """Keep the values of all 4-bit layers of `model`, whose weights nothing changes any more."""
    layers = [module for module in model.modules() if _can_keep(module)]
    if sum(map(_bytes_of_values, layers)) <= MOST_BYTES:
        for layer in layers:
            layer.forward = _KeptValues(layer)


def _can_keep(module: Any) -> bool:
    """Whether bitsandbytes multiplies by the same values in both passes, on a CPU."""
    if not isinstance(module, Linear4bit) or module.weight.device.type != "cpu":
        return False
    dtype, bias = module.compute_dtype, module.bias
    return module.weight.quant_state.dtype == dtype and (bias is None or bias.dtype == dtype)


def _bytes_of_values(layer: Any) -> int:
    return math.prod(layer.weight.quant_state.shape) * int(layer.compute_dtype.itemsize)


class _KeptValues:
    """The forward pass of a 4-bit layer; it holds the values, and nothing of the layer's codes."""

    def __init__(self, layer: Any) -> None:
        self._values = dequantize_4bit(layer.weight.data, layer.weight.quant_state)
        self._bias = layer.bias

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        found = functional.linear(x.to(self._values.dtype), self._values, self._bias)
        return found.to(x.dtype)
