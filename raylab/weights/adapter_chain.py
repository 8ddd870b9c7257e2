"""A chain of adapters under a view: each opened over the weights that it was trained from.

Model: see `raylab.weights.views`. W' is what the last adapter was trained from, and h what its
training held of that.
Invariant: a chain that a view cannot show is refused when it is opened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from raylab.errors import ModelError
from raylab.weights.adapter import Adapter
from raylab.weights.checkpoint import CountedWeights, Weights
from raylab.weights.name_matching import names_of_adapter
from raylab.weights.quantized_base import HeldWeights, MergedWeights
from raylab.weights.safetensors_reader import Shape

if TYPE_CHECKING:
    from raylab.weights.views import View


def open_chain(
    paths: Sequence[Path], view: View, base: CountedWeights | None
) -> tuple[Adapter, ...]:
    """The adapters, each opened over the weights that it was trained from. Raises ModelError."""
    adapters: list[Adapter] = []
    for path in paths:
        start = MergedWeights(base, adapters) if base and adapters else base
        adapter = Adapter.open(path, start)
        if start is not None:
            _refuse_tied(path, adapter, start, view, is_chain=len(paths) > 1)
        if view.name == "dequantized" and adapter.conv1d:
            raise ModelError(
                "layers that keep their weight transposed have no dequantized view",
                found=f"{path}: {', '.join(sorted(adapter.conv1d)[:3])}",
                expected="linear layers",
                todo="use --view delta or --view merged",
            )
        adapters.append(adapter)
    return tuple(adapters)


def called_as(shapes: Mapping[str, Shape], adapters: tuple[Adapter, ...]) -> tuple[Adapter, ...]:
    """The adapters, with the names of `shapes` for the tensors that it changes as well."""
    own = {name: shape for adapter in adapters for name, shape in adapter.shapes.items()}
    names = names_of_adapter(own, shapes)
    return tuple(adapter.renamed(names) for adapter in adapters) if names else adapters


def _refuse_tied(
    path: Path, adapter: Adapter, start: Weights, view: View, *, is_chain: bool
) -> None:
    """Refuse a change of one of two tied weights where it would have to change both.

    PEFT adds a delta to the one memory that both share, but replaces a weight under one name.
    """
    for name in filter(start.is_alias, adapter.names):
        is_added = adapter.changes_tied(name)
        if is_added if view.name != "delta" else is_chain and not is_added:
            raise ModelError(
                f"the adapter changes {name}, which the base model ties to another weight",
                found=f"{path}, view {view.name}",
                expected="an adapter that leaves a tied output head alone",
                todo="use --view delta of the adapter alone",
            )


def starts(
    adapters: tuple[Adapter, ...], view: View, base: CountedWeights | None
) -> tuple[Weights | None, Weights | None]:
    """The weights that the last delta is added to, for the model and for its base model.

    Raises ModelError.
    """
    if view.name == "delta":
        return None, None
    if base is None:
        raise ModelError(
            f"the view {view.name} needs the base model's weights",
            expected="the base model on this machine",
            todo="name the base model: --base, or base_model in a study",
        )
    start = MergedWeights(base, adapters[:-1]) if len(adapters) > 1 else base
    if view.name == "merged":
        return start, base
    if view.quantization is None:
        raise ModelError(
            "the view dequantized needs the settings of the quantisation",
            expected="the study that trained the model",
            todo="compare trials of a study (OUT#name), or use --view delta or --view merged",
        )
    held = HeldWeights(base, view.quantization)
    return (held if start is base else HeldWeights(start, view.quantization)), held
