"""Where a trial starts from: the base model, a merged parent, or a base with stacked adapters.

Model: `start_of` follows the chain of parents down to the base model. A parent that is merged
(its adapter added to the full-precision weights, rounded to their dtype) is built once per node
in scratch space, under a lock, shared by its children, and rebuilt if it is lost.
Invariant: a merged parent appears under its name complete or not at all; it can always be made
again from the base model and the adapters in the store, with the same bits.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from raylab.plan.trials import Trial
from raylab.store.filesystem import Store, study_scratch
from raylab.store.records import ADAPTER, trial_key


@dataclass(frozen=True)
class Start:
    """A checkpoint to quantise, and adapters that stay frozen on top of it, the oldest first."""

    checkpoint: Path
    frozen: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Family:
    """What is needed to find the start of a trial: all trials by name, the base, the store."""

    trials: Mapping[str, Trial]
    base: Path
    store: Store
    trust_remote_code: bool = False

    def adapter(self, trial: Trial) -> Path:
        """The local directory of a trial's adapter."""
        key = trial_key(trial.folder, ADAPTER)
        return self.store.local(key, study_scratch(self.store))


def merged_directory(store: Store, parent_id: str) -> Path:
    """Where the merged model of a parent lies on this node."""
    return study_scratch(store) / "merged" / parent_id


def start_of(trial: Trial, family: Family) -> Start:
    """The start of `trial`, building its merged parent if it is not there."""
    if trial.parent is None:
        return Start(family.base)
    parent = family.trials[trial.parent]
    if trial.variant.chain == "merge":
        return Start(merged(parent, family))
    below = start_of(parent, family)
    return Start(below.checkpoint, (*below.frozen, family.adapter(parent)))


def merged(parent: Trial, family: Family) -> Path:
    """The checkpoint of `parent` merged into full precision, built under a lock if missing."""
    target = merged_directory(family.store, parent.id)
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if not target.is_dir():
            start = start_of(parent, family)
            adapters = (*start.frozen, family.adapter(parent))
            _build(start.checkpoint, adapters, target, family.trust_remote_code)
    return target


def _build(
    checkpoint: Path, adapters: tuple[Path, ...], target: Path, trust_remote_code: bool
) -> None:
    """Merge one adapter after the other, rounding each time; rename into place when complete."""
    model = AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype="auto", device_map="cpu", trust_remote_code=trust_remote_code
    )
    for adapter in adapters:
        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        whole = Path(scratch) / "model"
        model.save_pretrained(whole)
        AutoTokenizer.from_pretrained(
            checkpoint, trust_remote_code=trust_remote_code
        ).save_pretrained(whole)
        whole.rename(target)


def release(store: Store, parent_id: str) -> None:
    """Delete this node's merged model of a parent whose last child has ended."""
    shutil.rmtree(merged_directory(store, parent_id), ignore_errors=True)
