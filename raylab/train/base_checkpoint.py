"""Where a trial starts from: the base model, a merged parent, or a base with stacked adapters.

Model: `start_of` follows the chain of parents down to the base model. The adapter of a merged
parent is added to the full-precision weights, which are rounded to their dtype. Each node builds
a merged parent once in its scratch space, under a lock, for all children, and again if it is lost.
Invariant: a merged parent appears under its name complete or not at all. It can always be built
again, with the same bits, from the base model and the adapters in the store.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from peft import PeftModel
from transformers import AutoTokenizer

from raylab.plan.trials import Trial
from raylab.store.filesystem import Store, study_scratch
from raylab.store.merged_parents import merged_directory as merged_directory
from raylab.store.records import ADAPTER, trial_key
from raylab.weights.memory_names import loading_class


@dataclass(frozen=True)
class Start:
    """A checkpoint to quantise, and the adapters that stay frozen on it, the oldest first."""

    checkpoint: Path
    frozen: tuple[Path, ...] = ()


@dataclass(frozen=True)
class StudyAdapters:
    """The adapters of a study's trials, by name, over the base model at `base`."""

    trials: Mapping[str, Trial]
    base: Path
    store: Store
    trust_remote_code: bool = False

    def directory(self, name: str) -> Path:
        """The local directory of the adapter of a trial."""
        key = trial_key(self.trials[name].folder, ADAPTER)
        return self.store.local(key, study_scratch(self.store))

    def lineage(self, trial: Trial) -> tuple[Path, ...]:
        """The local directories of the adapters of a trial's ancestors, the oldest first."""
        return tuple(map(self.directory, trial.lineage))


def start_of(trial: Trial, adapters: StudyAdapters) -> Start:
    """The start of `trial`; builds its merged parent if it is not there."""
    if trial.parent is None:
        return Start(adapters.base)
    parent = adapters.trials[trial.parent]
    if trial.variant.chain == "merge":
        return Start(merged_parent(parent, adapters))
    below = start_of(parent, adapters)
    return Start(below.checkpoint, (*below.frozen, adapters.directory(parent.name)))


def merged_parent(parent: Trial, adapters: StudyAdapters) -> Path:
    """The checkpoint of `parent`, merged into full precision; built under a lock if missing."""
    target = merged_directory(adapters.store, parent.id)
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if not target.is_dir():
            start = start_of(parent, adapters)
            added = (*start.frozen, adapters.directory(parent.name))
            _merge(start.checkpoint, added, target, adapters.trust_remote_code)
    return target


def _merge(
    checkpoint: Path, adapters: tuple[Path, ...], target: Path, trust_remote_code: bool
) -> None:
    """Merge one adapter after the other, rounding each time; rename into place when complete."""
    model = loading_class(checkpoint).from_pretrained(
        checkpoint, dtype="auto", device_map="cpu", trust_remote_code=trust_remote_code
    )
    for adapter in adapters:
        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=trust_remote_code)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        whole = Path(scratch) / "model"
        model.save_pretrained(whole)
        tokenizer.save_pretrained(whole)
        whole.rename(target)
