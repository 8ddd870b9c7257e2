"""Writes the folder that is published: weights, tokenizer, model card, and the facts as JSON.

Model: a trial without a parent is published as its own adapter. A chained trial is published as
the adapters of its chain, each in a folder of its own, so that nothing loads one of them by
itself; with `one_adapter` they are concatenated to a single one. With `merged` a trial is a whole
model. A merge is what it was written as, with its record, merge.json. The card's code loads it as
it was trained, which `verified` proves.
Invariant: the folder appears whole or not at all. It holds safetensors files and no pickle. A
model that cannot be published is refused before anything is written.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raylab.number_format import listing
from raylab.publish.loading import loading_of
from raylab.publish.provenance import Facts, facts_of
from raylab.publish.verify import unverifiable, verify
from raylab.spec.data.rendering import prepared_templates
from raylab.spec.weight_files import refuse_empty, shapes_of
from raylab.store.references import FinishedTrial
from raylab.weights.atomic_directory import atomic_directory, check_absent
from raylab.weights.checkpoint_writer import TOKENIZER_FILES, copy_config_files
from raylab.weights.model_card import write_model_card

FACTS = "raylab.json"
_ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json")


def write_folder(
    trial: FinishedTrial,
    repo: str,
    out: Path,
    *,
    merged: bool = False,
    one_adapter: bool = False,
    verified: bool = False,
    local: bool = False,
) -> Facts:
    """Write the model `trial`, published as `repo`, to the new directory `out`; return its facts.

    verified: ask it the recorded prompts, where that is possible. local: the card's code names
    the places on this machine, not those on the hub. Raises ModelError and OutError before
    anything is written, StoreError where the disk fails, and VerifyError; nothing is left then.
    """
    check_absent(out)
    for source in filter(None, (*trial.location.adapters, trial.location.checkpoint)):
        refuse_empty(source, shapes_of(source))
    facts = facts_of(trial, merged=merged, one_adapter=one_adapter)
    loading = loading_of(trial, facts)
    with atomic_directory(out) as part:
        facts = _write_weights(trial, facts, part)
        reason = unverifiable(trial, facts) if verified else "not asked for"
        found = None if reason else verify(trial, loading, part)
        facts = facts.model_copy(update={"agreement": found, "unverified": reason})
        is_path = local and facts.hub is None
        code = loading.code(
            str(out.resolve()) if local else repo,
            trial.location.base.resolve() if is_path and trial.location.base else None,
        )
        write_model_card(
            part,
            facts.metadata,
            title=repo.rpartition("/")[2],
            code=code.rstrip(),
            facts=facts,
            merge=None,
        )
        (part / FACTS).write_text(facts.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return facts


def _write_weights(trial: FinishedTrial, facts: Facts, part: Path) -> Facts:
    """Write weights, config and tokenizer; the facts with the difference of a concatenation."""
    from raylab.merge.record import RECORD
    from raylab.weights.export import concatenate, largest_difference, write_merged

    location = trial.location
    if facts.form == "merge":
        assert location.checkpoint is not None
        shutil.copytree(location.checkpoint, part, dirs_exist_ok=True)
        facts = facts.model_copy(update={"made_of": _made_of(_merge_record(part))})
    elif facts.form == "merged":
        write_merged(location, part, len(os.sched_getaffinity(0)))
    elif location.base is not None:
        copy_config_files(location.base, part, TOKENIZER_FILES)
    _write_templates(trial, part)
    if facts.form == "concatenated":
        concatenate(location.adapters, part)
        difference = largest_difference(location.adapters, part)
        return facts.model_copy(update={"difference": difference})
    for name, adapter in zip(facts.adapters, location.adapters, strict=bool(facts.adapters)):
        _copy_adapter(adapter, part / name)
    for name in facts.adapters[1:]:
        _name_start(part / name, facts)
    if facts.form == "adapter_merge":
        shutil.copyfile(location.adapters[0] / RECORD, part / RECORD)
        record = _merge_record(part)
        made = {
            "rank": record["adapter"]["r"],
            "relative_error": record["adapter"]["relative_error"],
        }
        return facts.model_copy(update={"made_of": _made_of(record), **made})
    return facts


def _merge_record(part: Path) -> dict[str, Any]:
    from raylab.merge.record import RECORD

    found: dict[str, Any] = json.loads((part / RECORD).read_text(encoding="utf-8"))
    return found


def _made_of(record: Mapping[str, Any]) -> str:
    """The method of a merge with its paper, and the models that it combined."""
    models = listing([f"`{row['model']}`" for row in record["models"]])
    return f"{record['title']} (`{record['method']}`; {record['paper']}) of {models}"


def _write_templates(trial: FinishedTrial, part: Path) -> None:
    """Write the chat templates that the study names, or that training rendered in its own way."""
    own, directory = trial.study.base_models[trial.base_model].template, trial.location.base
    texts = {"default": own} if own is not None else {}
    texts |= prepared_templates(directory or part, own, trial.study.template_date)
    for name, text in texts.items():
        file = part / "additional_chat_templates" / f"{name}.jinja"
        if name == "default":
            file = part / "chat_template.jinja"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")


def _copy_adapter(adapter: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for name in _ADAPTER_FILES:
        shutil.copyfile(adapter / name, target / name)


def _name_start(adapter: Path, facts: Facts) -> None:
    """Let an adapter of a chain name what it belongs on, which is no base model to download."""
    file = adapter / "adapter_config.json"
    config = json.loads(file.read_text())
    below = facts.adapters[: facts.adapters.index(adapter.name)]
    start = f"{facts.hub or facts.base_model} with {listing(below)} (see README.md)"
    changed = {**config, "base_model_name_or_path": start, "revision": None}
    file.write_text(json.dumps(changed, indent=1, sort_keys=True) + "\n", encoding="utf-8")
