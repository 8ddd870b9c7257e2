"""Names of a model's tensors: the layer and the kind of module that a tensor belongs to.

Invariant: groups follow from the names alone; layers come in the order of their numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from raylab.spec.layer_names import layer_name


def layer_of(name: str) -> str:
    """model.layers.3.self_attn.q_proj.weight -> model.layers.3; else the module's own name."""
    found = layer_name(name)
    return found.layer if found else name.rpartition(".")[0] or name


def module_of(name: str) -> str:
    """model.layers.3.self_attn.q_proj.weight -> q_proj; a bias keeps its word: q_proj.bias."""
    stem, _, last = name.rpartition(".")
    module = stem.rpartition(".")[2] or name
    return module if last == "weight" else f"{module}.{last}" if stem else name


def levels(names: Iterable[str]) -> Iterator[tuple[str, str, list[str]]]:
    """(level, key, tensors) for the whole, every layer, module kind and tensor."""
    ordered = sorted(names, key=natural_order)
    yield "all", "all", ordered
    for level, key_of in (("layer", layer_of), ("module", module_of), ("tensor", str)):
        groups: dict[str, list[str]] = {}
        for name in ordered:
            groups.setdefault(key_of(name), []).append(name)
        for key, members in groups.items():
            yield level, key, members


def natural_order(name: str) -> list[tuple[int, str]]:
    """Sort key that puts layer 2 before layer 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]
