"""What a model is asked, and where its answers are kept.

Model: the questions are the first held-out rows of a data set, each once: what was said before,
the prompt, and the answer that the data set has for it.
Invariant: the order is that of the rows; what is asked depends on the rows and on how many are
held out and asked, never on the model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from raylab.spec.rows import Row, split
from raylab.store.paths import Store
from raylab.store.records import SAMPLES, trial_key
from raylab.train.checks import Sample


def questions_of(rows: Sequence[Row], held_out: float, most: int) -> tuple[Row, ...]:
    """The first `most` held-out rows, of which no two ask the same."""
    _, kept = split(rows, held_out)
    first = {row.asked: row for row in reversed(kept)}
    ordered = dict.fromkeys(row.asked for row in kept)
    return tuple(first[asked] for asked in list(ordered)[:most])


def write_samples(store: Store, folder: str, samples: Sequence[Sample]) -> None:
    """Keep the answers as samples.jsonl in the folder of a trial or a merge."""
    lines = [json.dumps(sample.as_row(), ensure_ascii=False) for sample in samples]
    text = "".join(f"{line}\n" for line in lines)
    store.write(trial_key(folder, SAMPLES), text.encode())
