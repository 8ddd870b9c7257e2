"""Where a model's answers are kept; what it is asked is `raylab.spec.data.held_out`.

Invariant: samples.jsonl holds one JSON object for each answer, in the order in which it was asked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from raylab.store.filesystem import Store
from raylab.store.records import SAMPLES, trial_key


def write_samples(store: Store, folder: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Keep the answers as samples.jsonl in the folder of a trial or a merge."""
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    text = "".join(f"{line}\n" for line in lines)
    store.write(trial_key(folder, SAMPLES), text.encode())
