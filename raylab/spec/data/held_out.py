"""Held-out prompts for trained models, with the answers of the data.

Model: the prompts are the first held-out rows of a data set, each user text once.
Invariant: the order is that of the rows. The choice depends on the rows, on the share that is held
out and on the number of prompts, never on the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raylab.spec.data.rows import Row, split
from raylab.spec.study import Study

Prompts = tuple[Row, ...]


def held_out_prompts(rows: Sequence[Row], held_out: float, most: int) -> Prompts:
    """The first `most` held-out rows with different user texts."""
    _, kept = split(rows, held_out)
    first = {row.user_text: row for row in reversed(kept)}
    ordered = dict.fromkeys(row.user_text for row in kept)
    return tuple(first[text] for text in list(ordered)[:most])


def held_out_answers(study: Study, rows: Mapping[str, Sequence[Row]]) -> dict[str, Prompts]:
    """The held-out rows of every data set, if the study asks for their likelihoods."""
    return held_out_by_data(study, rows) if study.evaluation.likelihoods else {}


def held_out_by_data(study: Study, rows: Mapping[str, Sequence[Row]]) -> dict[str, Prompts]:
    """The held-out rows of every data set that has some.

    A concatenation is left out, because its parts are data sets themselves.
    """
    most = study.evaluation.prompts
    found = {
        name: held_out_prompts(rows[name], study.held_out, most)
        for name, data in study.data.items()
        if data.concat is None
    }
    return {name: questions for name, questions in found.items() if questions}
