"""Rows -> what trl trains on, and what is held out.

Model: SFT learns answers (prompt, completion); DPO learns preferences (prompt, chosen,
rejected). Both are given as conversations, so that the model's own chat template frames them,
its end-of-turn token is learned, and the loss is taken on the last answer alone: what was said
before it is part of the prompt.
Invariant: the order of examples is that of the rows; no held-out prompt is ever trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset

from raylab.errors import DataError
from raylab.spec.data.held_out import Questions, questions_of
from raylab.spec.data.pairs import pairs_of
from raylab.spec.data.rows import Row, split
from raylab.spec.recipes import Variant


@dataclass(frozen=True)
class Examples:
    """Training and held-out examples (None: nothing is held out), and what the model is asked."""

    training: Dataset
    held_out: Dataset | None
    questions: Questions


def examples_of(
    variant: Variant, rows: Mapping[str, Sequence[Row]], held_out: float, prompts: int
) -> Examples:
    """The examples of one recipe. Raises DataError where nothing is left to train on."""
    make = {"sft": _sft, "dpo": _dpo}[variant.method]
    training, kept = make(variant, rows, held_out)
    if not training:
        raise DataError(
            f"no example of {variant.name} is left to train on",
            found=f"{len(kept)} held out",
            expected="a held-out share that leaves some",
            todo="lower `held_out`, or add data",
        )
    return Examples(
        Dataset.from_list(training),
        Dataset.from_list(kept) if kept else None,
        questions_of(rows[variant.data], held_out, prompts),
    )


def _answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


Parts = tuple[list[dict[str, Any]], list[dict[str, Any]]]


def _sft(variant: Variant, rows: Mapping[str, Sequence[Row]], held_out: float) -> Parts:
    training, kept = split(rows[variant.data_sets["data"]], held_out)
    return [_sft_example(row) for row in training], [_sft_example(row) for row in kept]


def _sft_example(row: Row) -> dict[str, Any]:
    return {
        "prompt": row.chat,
        "completion": _answer(row.completion),
    }


def _dpo(variant: Variant, rows: Mapping[str, Sequence[Row]], held_out: float) -> Parts:
    training, kept = split(pairs_of(variant.data_sets, rows), held_out)
    return [_dpo_example(row) for row in training], [_dpo_example(row) for row in kept]


def _dpo_example(row: Row) -> dict[str, Any]:
    return {
        "prompt": row.chat,
        "chosen": _answer(row.completion),
        "rejected": _answer(str(row.rejected)),
    }
