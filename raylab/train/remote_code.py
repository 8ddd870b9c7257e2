"""Models with code of their own: the code that made a model is the code beside its weights.

Model: transformers imports such code under names that begin with `transformers_modules.`, and
keeps one class for each config class.
Invariant: a model that passes was made by the code at its directory. Models of transformers itself
always pass.
"""

from __future__ import annotations

import sys
from pathlib import Path

from torch import nn

from raylab.errors import ModelError

_MODULES = "transformers_modules."
"""Where transformers puts the code that comes with a model."""


def check_source(model: nn.Module, directory: Path) -> None:
    """Refuse a model whose code is not the code at `directory`.

    transformers 5.23 keeps one model class for each config class in a process. Of two models in
    directories of one name, whose configurations have the same code, it makes the second by the
    code of the first. Raises ModelError.
    """
    if not has_own_code(model):
        return
    module = sys.modules[type(model).__module__]
    assert module.__file__ is not None
    own = directory / f"{module.__name__.rpartition('.')[2]}.py"
    if not own.is_file() or own.read_bytes() != Path(module.__file__).read_bytes():
        raise ModelError(
            "the model was made by the code of another model that this process has loaded",
            found=f"{module.__file__} for {directory}",
            expected=str(own),
            todo="train the two models in two studies, one after the other",
        )


def has_own_code(model: nn.Module) -> bool:
    """Whether the code of `model` came with its weights."""
    return type(model).__module__.startswith(_MODULES)
