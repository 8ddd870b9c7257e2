"""BASE+ADAPTER as the base model of a merge: one checkpoint, in this node's scratch space.

Model: a base model gives its values, dtypes, config and tokenizer by its files, so base and adapter
are merged into a checkpoint first, in the dtype of the base's files, as mergekit does. Its name
follows from the content of both; it is made once, and then found.
Invariant: a checkpoint that is there is complete.
"""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock

import raylab
from raylab.spec.identity import fingerprint
from raylab.spec.merges import request_merge
from raylab.spec.models import content_of
from raylab.store.filesystem import scratch_space
from raylab.store.references import ModelLocation


def whole_base(name: str, location: ModelLocation) -> Path:
    """The directory of the checkpoint that the base and the adapters at `location` make; `name`: as
    the request calls it. Raises ModelError, NonFiniteError, OutError and StoreError."""
    from raylab.merge.merge import merge_models

    assert location.base, "it is BASE+ADAPTER"
    contents = [content_of(folder) for folder in (location.base, *location.adapters)]
    made = f"{location.base.resolve().name}-{fingerprint([contents, raylab.__version__])}"
    target = scratch_space() / "whole_bases" / made
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if not target.is_dir():
            merge_models(request_merge("linear", [name]), [location], None, target, device="cpu")
    return target
