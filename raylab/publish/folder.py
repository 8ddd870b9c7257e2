"""Fills the folder that is published: weights, tokenizer, card, and the facts as JSON.

Model: a trial without a parent is its own adapter; a chained one is one adapter by concatenation;
with `merged` either is a whole model, and a merge always is.
Invariant: the folder appears whole or not at all, and holds safetensors alone, no pickle. What
cannot be published is refused before anything is written.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from raylab.publish.card import card_of
from raylab.publish.provenance import Facts, facts_of
from raylab.store.references import Made
from raylab.weights.checkpoint_writer import TOKENIZER, check_absent, copy_beside, whole_directory

CARD, FACTS = "README.md", "raylab.json"
_OF_ADAPTER = ("adapter_model.safetensors", "adapter_config.json")


def write_folder(made: Made, repo: str, out: Path, *, merged: bool = False) -> Facts:
    """Write what is published of `made` as `repo` to the new directory `out`; its facts.

    Raises ModelError and OutError before anything is written, StoreError where the disk fails.
    """
    check_absent(out)
    facts = facts_of(made, merged=merged)
    with whole_directory(out) as part:
        facts = _write_weights(made, facts, part)
        (part / CARD).write_text(card_of(repo, facts), encoding="utf-8")
        (part / FACTS).write_text(facts.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return facts


def _write_weights(made: Made, facts: Facts, part: Path) -> Facts:
    if facts.form == "merge":
        assert made.place.checkpoint is not None
        shutil.copytree(made.place.checkpoint, part, dirs_exist_ok=True)
        return facts
    if facts.form == "merged":
        from raylab.weights.merged_export import write_merged

        write_merged(made.place, part, len(os.sched_getaffinity(0)))
        return facts
    if made.place.base is not None:
        copy_beside(made.place.base, part, TOKENIZER)
    if facts.form == "adapter":
        for name in _OF_ADAPTER:
            shutil.copyfile(made.place.adapters[0] / name, part / name)
        return facts
    return _write_concatenated(made, facts, part)


def _write_concatenated(made: Made, facts: Facts, part: Path) -> Facts:
    from raylab.weights.chain_export import concatenate, largest_difference

    concatenate(made.place.adapters, part)
    difference = largest_difference(made.place.adapters, part)
    return facts.model_copy(update={"difference": difference})
