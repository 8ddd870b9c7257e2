"""The config of an output with slices.

Model: every layer of the output has what the config of one model says of it: of the model that is
the base of that layer (`raylab.merge.arrangement`).
Invariant: where layers differ in their tensors, the config says which layer is of which kind, or
the output has them in the template's order; another output could not be loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raylab.errors import ModelError
from raylab.merge.arrangement import Arrangement
from raylab.spec.layer_names import layer_name, layer_number
from raylab.spec.merges import MergeRequest
from raylab.spec.modules import DEFAULT, Module, modules_of
from raylab.store.references import ModelLocation
from raylab.weights import Shape
from raylab.weights.layer_config import Layer, LayerConfig

Kind = frozenset[tuple[str, Shape]]
"""What a layer is by its tensors."""


def config_of_slices(
    request: MergeRequest,
    arrangement: Arrangement,
    template: Path,
    shapes: Mapping[str, Shape],
    locations: Sequence[ModelLocation],
) -> Mapping[str, Any] | None:
    """config.json of the output; None where it is the template's. shapes: of the template's
    tensors. Raises ModelError."""
    layers = _layers(request, arrangement)
    if not layers:
        return None
    used = {model for of_module in layers.values() for model, _ in of_module if model is not None}
    places = {model: locations[model].checkpoint or locations[model].base for model in used}
    config = LayerConfig(template, {model: place for model, place in places.items() if place})
    modules = modules_of(shapes)
    written = {name: origin.shape for name, origin in arrangement.items()}
    mine = modules_of(written)
    for name, module in modules.items():
        if name in layers and not config.says_by_layer(module.row):
            kinds, known = _kinds(mine[name], written), _kinds(module, shapes)
            _check_kinds(name, kinds, known)
    return config.with_layers([(modules[name].row, found) for name, found in layers.items()])


def _layers(request: MergeRequest, arrangement: Arrangement) -> dict[str, list[Layer]]:
    """By module, where the base of every layer of the output comes from."""
    found: dict[str, dict[int, Layer]] = {}
    for name, origin in arrangement.items():
        if origin.layer is not None and origin.slice is not None:
            model, tensor = origin.base
            module = request.slices[origin.slice].module or DEFAULT
            found.setdefault(module, {})[layer_number(name)] = (model, layer_number(tensor))
    return {module: [numbered[i] for i in sorted(numbered)] for module, numbered in found.items()}


def _check_kinds(module: str, kinds: Sequence[Kind], known: Sequence[Kind]) -> None:
    if len(set(kinds)) > 1 and kinds != known[: len(kinds)]:
        raise ModelError(
            f"layers of several kinds cannot be in another order ({module})",
            found=f"{len(set(kinds))} kinds of layers by their tensors",
            expected="layers that are alike, or a config that lists the kind of each",
        )


def _kinds(module: Module, shapes: Mapping[str, Shape]) -> list[Kind]:
    """What the tensors of every layer are called, and their shapes."""
    found: dict[int, set[tuple[str, Shape]]] = {}
    for name in module.tensors:
        if of_layer := layer_name(name):
            found.setdefault(of_layer.number, set()).add((of_layer.rest, shapes[name]))
    return [frozenset(found[number]) for number in sorted(found)]
