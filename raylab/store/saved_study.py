"""The study that a store keeps: what was asked, as it was resolved.

Invariant: what is read is what `raylab run` wrote; nothing else is taken for a study.
"""

from __future__ import annotations

from pathlib import Path

from raylab.errors import ModelError
from raylab.spec.study import Study
from raylab.spec.study_file import parse_study
from raylab.store.filesystem import STUDY, Store


def read_study(store: Store) -> Study:
    """The study of `store`. Raises ModelError where none is there, StudyError, StoreError."""
    if not store.exists(STUDY):
        raise ModelError(
            "no study is there", found=store.address(""), expected="OUT of `raylab run`"
        )
    text = store.read(STUDY).decode(errors="replace")
    return parse_study(text, Path(store.path(STUDY)))
