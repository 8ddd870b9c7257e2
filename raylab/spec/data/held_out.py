"""What a model is asked: held-out prompts with the answers that the data has for them.

Model: the questions are the first held-out rows of a data set, each once: what was said before,
the prompt, and the answer that the data set has for it.
Invariant: the order is that of the rows; what is asked depends on the rows and on how many are
held out and asked, never on the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raylab.spec.data.rows import Row, split
from raylab.spec.study import Study

Questions = tuple[Row, ...]


def questions_of(rows: Sequence[Row], held_out: float, most: int) -> Questions:
    """The first `most` held-out rows, of which no two ask the same."""
    _, kept = split(rows, held_out)
    first = {row.asked: row for row in reversed(kept)}
    ordered = dict.fromkeys(row.asked for row in kept)
    return tuple(first[asked] for asked in list(ordered)[:most])


def held_out_answers(study: Study, rows: Mapping[str, Sequence[Row]]) -> dict[str, Questions]:
    """Held-out rows of every data set whose likelihood the study asks for.

    A data set that is others in a row is left out: they are there themselves.
    """
    if not study.evaluation.likelihoods:
        return {}
    most = study.evaluation.prompts
    found = {
        name: questions_of(rows[name], study.held_out, most)
        for name, data in study.data.items()
        if data.concat is None
    }
    return {name: questions for name, questions in found.items() if questions}
