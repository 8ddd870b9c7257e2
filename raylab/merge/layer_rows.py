"""What a record and a model card say of slices: from which layer of which model each layer came.

Model: a row of `layers` is one layer of the output, with the layer of every model that it was
merged of. A row of `slices` is the same for a run of layers. `outside` names the models of each
tensor outside the layers.
Invariant: every layer and every tensor of the output has a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raylab.merge.inputs import MergePlan
from raylab.spec.layer_names import layer_name, layer_number


def rows_of_layers(plan: MergePlan) -> dict[str, Any]:
    """`slices`, `layers` and `outside` of a record; empty for a merge without slices."""
    if not plan.request.slices:
        return {}
    layers: dict[str, dict[str, Any]] = {}
    outside: dict[str, list[str]] = {}
    slices: dict[int, dict[str, Any]] = {}
    for name, origin in plan.arrangement.items():
        sources = [(plan.request.inputs[i].model, own) for i, own in origin.sources.items()]
        if origin.base[0] is None and plan.request.slices[origin.slice or 0].base is not None:
            sources.append((str(plan.request.base), origin.base[1]))
        found = layer_name(name)
        if origin.layer is None or found is None:
            outside[name] = [model for model, _ in sources]
            continue
        number = found.number
        froms = [{"model": model, "layer": layer_number(own)} for model, own in sources]
        layers[found.layer] = {"layer": found.layer, "from": froms}
        row = slices.setdefault(
            origin.slice or 0,
            {
                "stack": found.stack,
                "layers": [number, number],
                "from": [{"model": one["model"], "layers": [one["layer"]] * 2} for one in froms],
            },
        )
        row["layers"][1] = max(row["layers"][1], number)
        for one, known in zip(froms, row["from"], strict=True):
            known["layers"][1] = max(known["layers"][1], one["layer"])
    return {"slices": [*slices.values()], "layers": [*layers.values()], "outside": outside}


def slice_lines(record: Mapping[str, Any]) -> list[str]:
    """One line for each slice of a record."""
    return [
        f"  {row['stack']} {_range(row['layers'])}: "
        + ", ".join(f"{one['model']} {_range(one['layers'])}" for one in row["from"])
        for row in record.get("slices", ())
    ]


def _range(layers: list[int]) -> str:
    first, last = layers
    return f"{first}" if first == last else f"{first}-{last}"
