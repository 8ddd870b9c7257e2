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
    "shared": ModuleRow(re.compile(r"\bshared\."), ()),
    "decoder": ModuleRow(_REST, ("",), ("decoder_layers", "num_decoder_layers")),
}
_WHOLE = {DEFAULT: ModuleRow(_REST, _TEXT, _COUNTS)}
SYNONYMS = {"vision_model": "vision_tower"}
"""What mergekit calls Llama 4's vision tower."""
NAMES = (DEFAULT, *_VISION, *SYNONYMS, *_TRANSLATING)


def modules_of(tensors: Collection[str]) -> Mapping[str, ModuleRow]:
    """The modules of a model with these tensors, by name."""
    if any(_VISION["vision_tower"].pattern.search(name) for name in tensors):
        return _VISION
    encoder = _TRANSLATING["encoder"].pattern
    if any(encoder.search(name) for name in tensors) and any("decoder." in n for n in tensors):
        return _TRANSLATING
    return _WHOLE


def tensors_of(module: str, tensors: Collection[str]) -> list[str]:
    """Those of `tensors` that are in `module`."""
    rows = modules_of(tensors)
    firsts = {
        name: next(other for other, row in rows.items() if row.pattern.search(name))
        for name in tensors
    }
    return [name for name, first in firsts.items() if first == module]
