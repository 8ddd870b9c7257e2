"""Writes the folder that is published: weights, tokenizer, model card, and the facts as JSON.

Model: a trial without a parent is published as its own adapter, a chained trial as one adapter
that concatenates the chain. With `merged` either is a whole model; a merge always is one.
Invariant: the folder appears whole or not at all. It holds safetensors files and no pickle. A
model that cannot be published is refused before anything is written.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from raylab.publish.provenance import Facts, facts_of
from raylab.store.references import FinishedTrial
from raylab.weights.checkpoint_writer import (
    TOKENIZER_FILES,
    atomic_directory,
    check_absent,
    copy_config_files,
)
from raylab.weights.model_card import write_model_card

FACTS = "raylab.json"
_ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json")


def write_folder(trial: FinishedTrial, repo: str, out: Path, *, merged: bool = False) -> Facts:
    """Write the model `trial`, published as `repo`, to the new directory `out`; return its facts.

    Raises ModelError and OutError before anything is written, StoreError where the disk fails.
    """
    check_absent(out)
    facts = facts_of(trial, merged=merged)
    with atomic_directory(out) as part:
        facts = _write_weights(trial, facts, part)
        write_model_card(
            part, facts.metadata, title=repo.rpartition("/")[2], repo=repo, facts=facts, merge=None
        )
        (part / FACTS).write_text(facts.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return facts


def _write_weights(trial: FinishedTrial, facts: Facts, part: Path) -> Facts:
    """Write weights, config and tokenizer; the facts with the difference of a concatenation."""
    from raylab.weights.export import concatenate, largest_difference, write_merged

    location = trial.location
    if facts.form == "merge":
        assert location.checkpoint is not None
        shutil.copytree(location.checkpoint, part, dirs_exist_ok=True)
        return facts
    if facts.form == "merged":
        write_merged(location, part, len(os.sched_getaffinity(0)))
        return facts
    if location.base is not None:
        copy_config_files(location.base, part, TOKENIZER_FILES)
    if facts.form == "adapter":
        for name in _ADAPTER_FILES:
            shutil.copyfile(location.adapters[0] / name, part / name)
        return facts
    concatenate(location.adapters, part)
    difference = largest_difference(location.adapters, part)
    return facts.model_copy(update={"difference": difference})
