"""The config of a model whose layers are those of models in another order.

Model: a config says how many layers a module has, and may list something for each of them (kinds of
attention, kinds of MLP), or list the layers that are of one kind. A class of transformers makes
such a list itself where config.json has none; then the list is by position, and would be another
one for the new order, so it is written down.
Invariant: what a config says of a layer goes with that layer, whichever model it is from. All other
fields are those of the template.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raylab.errors import ModelError
from raylab.spec.modules import ModuleRow
from raylab.spec.weight_files import read_json

CONFIG = "config.json"
Layer = tuple[int | None, int]
"""(an input, None for the template; the number of a layer in it)."""

_BY_LAYER = re.compile(r"layer|_types$|block_type")
_OF_ONE_KIND = (
    "mlp_only_layers", "moe_layers", "cross_attention_layers", "attn_layer_indices",
    "full_attn_idxs", "global_attn_layers",
)  # fmt: skip
"""Fields that list numbers of layers."""


class LayerConfig:
    """The configs of the template and of the inputs that give layers, by what they say of them."""

    def __init__(self, template: Path, inputs: Mapping[int, Path]) -> None:
        """Read the configs in these directories. Raises ModelError."""
        self._places: dict[int | None, Path] = {None: template} | dict(inputs)
        self._configs = {
            model: read_json(place / CONFIG, "a model's config")
            for model, place in self._places.items()
        }
        self._in_memory: dict[int | None, Mapping[str, Any]] = {}

    def says_by_layer(self, row: ModuleRow) -> bool:
        """Whether the template's config says of each layer of a module what it is."""
        part = self._part(row)
        return bool(self._lists(None, part, self._count(None, row, part)))

    def with_layers(self, modules: Sequence[tuple[ModuleRow, Sequence[Layer]]]) -> dict[str, Any]:
        """The template's config, with these layers in each module. Raises ModelError."""
        config: dict[str, Any] = json.loads(json.dumps(self._configs[None]))
        for row, layers in modules:
            part = self._part(row)
            section = config[part] if part else config
            section |= self._fields(row, part, layers)
        return config

    def _part(self, row: ModuleRow) -> str:
        """The part of the config that says how many layers a module has. Raises ModelError."""
        config = self._configs[None]
        for part in row.parts:
            section = config.get(part) if part else config
            if isinstance(section, dict) and any(name in section for name in row.counts):
                return part
        raise ModelError(
            f"{self._places[None] / CONFIG} does not say how many layers the model has",
            expected=" or ".join(row.counts),
        )

    def _fields(self, row: ModuleRow, part: str, layers: Sequence[Layer]) -> dict[str, Any]:
        section, count = self._section(None, part), self._count(None, row, part)
        found: dict[str, Any] = {
            name: len(layers) for name in row.counts if section.get(name) == count
        }
        lists = {
            model: self._lists(model, part, self._count(model, row, part))
            for model in dict.fromkeys([None, *(model for model, _ in layers)])
        }
        for name in lists[None]:
            found[name] = [self._entry(lists, name, layer) for layer in layers]
        for name in _OF_ONE_KIND:
            if name in section and name not in found:
                found[name] = [
                    number
                    for number, (model, layer) in enumerate(layers)
                    if layer in (self._section(model, part).get(name) or ())
                ]
        return found

    def _entry(
        self, lists: Mapping[int | None, Mapping[str, Sequence[Any]]], name: str, layer: Layer
    ) -> Any:
        model, number = layer
        if name not in lists[model]:
            raise ModelError(
                f"{self._places[model] / CONFIG} does not say of its layers what others do",
                found=f"no {name}",
                expected=f"{name}, as in {self._places[None] / CONFIG}",
            )
        return lists[model][name][number]

    def _count(self, model: int | None, row: ModuleRow, part: str) -> int:
        section = self._section(model, part)
        counts = [section[name] for name in row.counts if isinstance(section.get(name), int)]
        return counts[0] if counts else 0

    def _section(self, model: int | None, part: str) -> Mapping[str, Any]:
        config = self._configs[model]
        found = config.get(part) if part else config
        return found if isinstance(found, dict) else {}

    def _lists(self, model: int | None, part: str, count: int) -> dict[str, Sequence[Any]]:
        """Every list of a config with an entry for each of `count` layers."""
        known = {**self._memory(model, part), **self._section(model, part)}
        return {
            name: value
            for name, value in known.items()
            if isinstance(value, list) and len(value) == count and _BY_LAYER.search(name)
        }

    def _memory(self, model: int | None, part: str) -> Mapping[str, Any]:
        """What transformers makes of a config; empty where it does not know the architecture."""
        if model not in self._in_memory:
            self._in_memory[model] = _in_memory(self._places[model])
        found = self._in_memory[model]
        return found.get(part, {}) if part else found


def _in_memory(place: Path) -> Mapping[str, Any]:
    from transformers import AutoConfig

    try:
        found: dict[str, Any] = AutoConfig.from_pretrained(place).to_dict()
    except (ValueError, KeyError, OSError, AttributeError, TypeError):
        return {}  # Custom code, or a config that only its own library reads.
    return found


def replace_config(directory: Path, config: Mapping[str, Any]) -> None:
    """Write `config` as the config.json of a written checkpoint."""
    text = json.dumps(config, ensure_ascii=False, indent=2)
    (directory / CONFIG).write_text(text + "\n", encoding="utf-8")
