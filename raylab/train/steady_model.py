"""A model of which a training asks at each step what does not change.

Model: transformers' trainer puts all modules into training mode at every step, and walks through
all of them for the parameters whose gradients it clips and lets go. With PEFT each layer is ten
modules, so a small model's step spends a twentieth of its time in these walks. Within `steady`,
parameters are listed once, and modules are walked only where the mode becomes another.
Invariant: a step sees the same parameters in the same order, and the same modes. Within the block
nobody adds or removes a module or a parameter, or sets the mode of a part of the model alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def steady(model: nn.Module) -> Iterator[None]:
    """Within, `model.parameters()` and `model.train()` do not walk where they need not."""
    every, of_own_alone = list(model.parameters()), type(model).parameters
    walk = type(model).train
    mode_of_all: bool | None = None

    def parameters(recurse: bool = True) -> Iterator[nn.Parameter]:
        return iter(every) if recurse else of_own_alone(model, recurse=False)

    def train(mode: bool = True) -> nn.Module:
        nonlocal mode_of_all
        if mode != mode_of_all:
            walk(model, mode)
            mode_of_all = mode
        return model

    # As attributes of this one model they come before the methods of its class.
    model.parameters, model.train = parameters, train  # type: ignore[method-assign]
    try:
        yield
    finally:
        del model.parameters, model.train
