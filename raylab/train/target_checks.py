"""Refuses an adapter on a model without storage whose training or reduction would go wrong.

Model: `check_reached` looks at what PEFT made of `target_modules`: names that it left out without a
word, layers that give more than one tensor (routers), weights that loading computes out of several
tensors of the files.
Invariant: no weight is read; a refusal names the modules, and those that could be named instead.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raylab.errors import ModelError
from raylab.spec.weight_files import shapes_of
from raylab.weights.memory_names import names_in_memory
from raylab.weights.names import layer_of
from raylab.weights.stacked_experts import stack_of, turned_shape

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")


def check_reached(
    directory: Path, adapted: Any, asked: str | tuple[str, ...], auto_class: str
) -> None:
    """Refuse the PEFT model `adapted` of the checkpoint at `directory`. Raises ModelError.

    asked: the `target_modules` of the study; auto_class: by which the model was made.
    """
    _refuse_unused(directory, adapted, asked)
    _refuse_several_outputs(directory, adapted)
    _refuse_unread(directory, adapted, auto_class)


def _refuse_unused(directory: Path, adapted: Any, asked: str | tuple[str, ...]) -> None:
    """Refuse names that PEFT leaves out without a word, beside others that it finds."""
    kept = adapted.peft_config["default"].target_modules
    if isinstance(asked, str) or isinstance(kept, str):
        return
    found = adapted.targeted_module_names
    unused = sorted(
        name for name in kept or () if not any(f".{own}".endswith(f".{name}") for own in found)
    )
    if unused:
        raise ModelError(
            "the adapter names modules that the base model does not have",
            found=f"{directory}: {', '.join(unused)}",
            expected=f"modules of it, such as {', '.join(endings(kinds(found)))}",
            todo="take these names out of `target_modules`",
        )


def _refuse_several_outputs(directory: Path, adapted: Any) -> None:
    """Refuse linear layers that give more than their product, to which PEFT adds a product."""
    import torch

    refused = set()
    for name in adapted.targeted_module_names:
        layer = adapted.get_submodule(f"base_model.model.{name}")
        own = getattr(layer, "base_layer", None)
        if not isinstance(own, torch.nn.Linear) or type(own).forward is torch.nn.Linear.forward:
            continue
        try:
            output = own(own.weight.new_empty(2, own.in_features))
        except Exception:  # A class of its own may need more than one input.
            continue
        if not isinstance(output, torch.Tensor):
            refused.add(name)
    if refused:
        others = [name for name in adapted.targeted_module_names if name not in refused]
        raise ModelError(
            "PEFT cannot train layers that give more than one tensor",
            found=f"{directory}: {', '.join(kinds(sorted(refused)))}",
            expected="linear layers that give their product alone",
            todo="name the others: `lora: {target_modules: "
            f"[{', '.join(_last_parts(kinds(others)))}]}}`",
        )


def _refuse_unread(directory: Path, adapted: Any, auto_class: str) -> None:
    """Refuse weights that loading computes in a way in which no adapter of theirs is read."""
    shapes = shapes_of(directory)
    names = names_in_memory(directory, shapes, auto_class)
    reached = {f"{name}.weight" for name in adapted.targeted_module_names}
    reached |= {*adapted.targeted_parameter_names}
    refused = sorted(
        name
        for name in reached & {*names.computed}
        if not stack_of(names.computed[name], names.shapes[name], shapes)
        and not turned_shape(names.computed[name], shapes)
    )
    if refused:
        made = names.computed[refused[0]]
        steps = ", ".join(type(item).__name__ for item in made.operations)
        raise ModelError(
            "the base model's files hold weights in a way in which no adapter of them is read",
            found=f"{directory}: {refused[0]} from {', '.join(made.sources)} through {steps} "
            f"({len(refused)} in all)",
            expected="tensors under names of their own, or a matrix for each expert",
            todo="name other modules: `lora: {target_modules: [...]}`",
        )


def _last_parts(names: Sequence[str]) -> list[str]:
    return sorted({name.rpartition(".")[2] for name in names})


def kinds(names: Sequence[str]) -> tuple[str, ...]:
    """The names behind the number of the layer, each once; further numbers are stars."""
    found = {_NUMBER.sub("*", name.removeprefix(f"{layer_of(name)}.")) for name in names}
    return tuple(sorted(found))


def endings(modules: Sequence[str]) -> list[str]:
    """The names of attention's modules alone; of all modules where none is attention's."""
    attention = [name for name in modules if "attn" in name or "attention" in name]
    return _last_parts(attention or modules)
