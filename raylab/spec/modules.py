"""The modules of a model, as mergekit 0.1.5 calls them.

Model: the tensors of a model of text are one module, `default`. A model that sees images has a
text decoder, a vision tower and what projects from one to the other; a model of sequence to
sequence has an encoder, a decoder and an embedding that both share. A tensor is in the first module
whose pattern its name contains.
Invariant: every tensor is in one module.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple


class ModuleRow(NamedTuple):
    """pattern: of the tensors' names. parts: the parts of a config that may describe it, "" for
    the config itself. counts: the fields that may say how many layers it has."""

    pattern: re.Pattern[str]
    parts: Sequence[str] = ("",)
    counts: Sequence[str] = ()


_COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "depth")
_TEXT = ("text_config", "llm_config", "language_config", "")
_REST = re.compile("")

DEFAULT = "default"
_VISION = {
    "multi_modal_projector": ModuleRow(
        re.compile(r"\bmulti_modal_projector\.|\bvisual\.(merger|deepstack_merger_list)\."), ()
    ),
    "vision_tower": ModuleRow(
        re.compile(r"\b(vision_tower|vision_model|visual)\."), ("vision_config",), _COUNTS
    ),
    "text_decoder": ModuleRow(_REST, _TEXT, _COUNTS),
}
_TRANSLATING = {
    "encoder": ModuleRow(re.compile(r"^(model\.)?encoder\."), ("",), ("encoder_layers", *_COUNTS)),
    "shared": ModuleRow(re.compile(r"\bshared\.|^lm_head\."), ()),
    "decoder": ModuleRow(_REST, ("",), ("decoder_layers", "num_decoder_layers")),
}
_WHOLE = {DEFAULT: ModuleRow(_REST, _TEXT, _COUNTS)}
SYNONYMS = {"vision_model": "vision_tower"}
"""What mergekit calls Llama 4's vision tower."""
NAMES = (DEFAULT, *_VISION, *SYNONYMS, *_TRANSLATING)


class Module(NamedTuple):
    """A module of one model: its row, and its tensors."""

    row: ModuleRow
    tensors: Collection[str]


def modules_of(tensors: Collection[str]) -> dict[str, Module]:
    """The modules of a model with these tensors, by name."""
    rows = _rows_of(tensors)
    found: dict[str, list[str]] = {name: [] for name in rows}
    for tensor in tensors:
        found[next(name for name, row in rows.items() if row.pattern.search(tensor))].append(tensor)
    return {name: Module(rows[name], mine) for name, mine in found.items() if mine}


def _rows_of(tensors: Collection[str]) -> Mapping[str, ModuleRow]:
    if any(_VISION["vision_tower"].pattern.search(name) for name in tensors):
        return _VISION
    encoder, decoder = _TRANSLATING["encoder"].pattern, re.compile(r"^(model\.)?decoder\.")
    is_both = [any(part.search(name) for name in tensors) for part in (encoder, decoder)]
    return _TRANSLATING if all(is_both) else _WHOLE
