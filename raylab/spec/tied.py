"""The tensors of a checkpoint that are one parameter under two names.

Model: transformers ties an output head to the input embedding where the config, or the default of
its class, says so (`raylab.spec.architectures`). The table of the architecture gives both names as
they are in memory. Files may leave a prefix out, or have another one, so a name is found by its
last two parts where these are unique.
Invariant: an alias is a name, stored or not, whose partner is stored. Where only the head is
stored, the embedding is the alias, as in transformers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from raylab.spec.architectures import tied_names, ties_embeddings

HEADS = ("lm_head.weight", "embed_out.weight")
"""One head: GPT-NeoX's is called lm_head in memory and embed_out in files."""
EMBEDDINGS = (
    "model.embed_tokens.weight",
    "gpt_neox.embed_in.weight",
    "transformer.wte.weight",
    "transformer.word_embeddings.weight",
)
"""Where transformers does not know the architecture, its config can still tie the first of them
that is stored."""


class Tie(NamedTuple):
    """One alias: all its names, that of memory first, and the stored name of its partner."""

    names: tuple[str, ...]
    partner: str


def find_ties(stored: Collection[str], config: Mapping[str, Any]) -> list[Tie]:
    """The aliases of a checkpoint with the tensors `stored`."""
    ties: list[Tie] = []
    if not ties_embeddings(config):
        return ties
    for alias, source in (tied_names(config) or _usual_names(stored)).items():
        head, embedding = _in_files(alias, stored), _in_files(source, stored)
        if embedding is not None:
            ties.append(Tie(_names(alias, head), embedding))
        elif head is not None:
            ties.append(Tie((source,), head))
    return ties


def _usual_names(stored: Collection[str]) -> dict[str, str]:
    """{head: embedding} as most architectures call them."""
    found = (name for name in EMBEDDINGS if _in_files(name, stored))
    return {HEADS[0]: next(found, EMBEDDINGS[0])}


def _names(name: str, in_files: str | None) -> tuple[str, ...]:
    synonyms = HEADS if name in HEADS else ()
    return tuple(dict.fromkeys([name, *synonyms, *([in_files] if in_files else [])]))


def _in_files(name: str, stored: Collection[str]) -> str | None:
    """The stored name of what is `name` in memory, if it is stored."""
    for candidate in (name, *(HEADS if name in HEADS else ())):
        if candidate in stored:
            return candidate
    end = ".".join(name.split(".")[-2:])
    same = [found for found in stored if found == end or found.endswith(f".{end}")]
    return same[0] if len(same) == 1 else None
