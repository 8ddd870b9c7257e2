"""Rows of data sets -> training examples and held-out examples.

Model: SFT learns answers (prompt, completion); DPO learns preferences (prompt, chosen,
rejected). Both are conversations: the model's own chat template frames them and its end-of-turn
token is learned. Where the loss is taken on the last answer alone, and all turns are texts, trl
makes the tokens; otherwise raylab does (`raylab.train.framed_examples`).
Invariant: examples come in the order of the rows. No held-out prompt is ever trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from datasets import Dataset

from raylab.errors import DataError
from raylab.spec.data.framing import is_plain, unmarked
from raylab.spec.data.pairs import pairs_of
from raylab.spec.data.rows import Row, split
from raylab.spec.recipes import Variant
from raylab.train.framed_examples import conversation_of


@dataclass(frozen=True)
class Examples:
    """Training and held-out examples; None: nothing is held out."""

    training: Dataset
    held_out: Dataset | None


def examples_of(variant: Variant, rows: Mapping[str, Sequence[Row]], held_out: float) -> Examples:
    """The examples of one recipe. Raises DataError where nothing is left to train on."""
    rows_of, example_of = _EXAMPLES[variant.method]
    training, kept = split(rows_of(variant.data_sets, rows), held_out)
    if not training:
        raise DataError(
            f"no example of {variant.name} is left to train on",
            found=f"{len(kept)} held out",
            expected="a held-out share that leaves some",
            todo="lower `held_out`, or add data",
        )
    learn = variant.training.learn
    if variant.method == "dpo":
        # It compares last answers, whatever their data marks as learned.
        training, kept = [list(map(unmarked, part)) for part in (training, kept)]
    if not all(is_plain(row, learn) for row in (*training, *kept)):
        example_of = partial(conversation_of, learn=learn, with_rejected=variant.method == "dpo")
    return Examples(
        Dataset.from_list([example_of(row) for row in training]),
        Dataset.from_list([example_of(row) for row in kept]) if kept else None,
    )


def _sft_example(row: Row) -> dict[str, Any]:
    return {"prompt": row.chat, "completion": [row.turns[-1].message]}


def _dpo_example(row: Row) -> dict[str, Any]:
    assert row.rejected, "a row of a pair has a rejected answer"
    return {
        "prompt": row.chat,
        "chosen": [row.turns[-1].message],
        "rejected": [row.rejected.message],
    }


_EXAMPLES: dict[str, tuple[Callable[..., Sequence[Row]], Callable[[Row], dict[str, Any]]]] = {
    "sft": (lambda data_sets, rows: rows[data_sets["data"]], _sft_example),
    "dpo": (pairs_of, _dpo_example),
}
"""By method: the rows of a recipe's data sets, and the example of one row."""
