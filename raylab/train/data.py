"""Rows -> what trl trains on, and what is held out.

Model: SFT learns answers (prompt, completion); DPO learns preferences (prompt, chosen,
rejected). Both are given as conversations, so that the model's own chat template frames them,
its end-of-turn token is learned, and the loss is taken on the answer alone.
Invariant: the order of examples is that of the rows; no held-out prompt is ever trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset

from raylab.errors import DataError
from raylab.spec.recipes import Variant
from raylab.spec.rows import Pair, Row, align, is_held_out, split
from raylab.train.questions import questions_of


@dataclass(frozen=True)
class Examples:
    """Training and held-out examples (None: nothing is held out), and what the model is asked."""

    training: Dataset
    held_out: Dataset | None
    questions: tuple[tuple[str, str], ...]


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


def _message(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


Parts = tuple[list[dict[str, Any]], list[dict[str, Any]]]


def _sft(variant: Variant, rows: Mapping[str, Sequence[Row]], held_out: float) -> Parts:
    training, kept = split(rows[variant.data_sets["data"]], held_out)
    return [_sft_example(row) for row in training], [_sft_example(row) for row in kept]


def _sft_example(row: Row) -> dict[str, Any]:
    return {
        "prompt": _message("user", row.prompt),
        "completion": _message("assistant", row.completion),
    }


def _dpo(variant: Variant, rows: Mapping[str, Sequence[Row]], held_out: float) -> Parts:
    names = (variant.data_sets["chosen"], variant.data_sets["rejected"])
    pairs = align(rows[names[0]], rows[names[1]], names)
    training = [_dpo_example(pair) for pair in pairs if not is_held_out(pair.prompt, held_out)]
    kept = [_dpo_example(pair) for pair in pairs if is_held_out(pair.prompt, held_out)]
    return training, kept


def _dpo_example(pair: Pair) -> dict[str, Any]:
    return {
        "prompt": _message("user", pair.prompt),
        "chosen": _message("assistant", pair.chosen),
        "rejected": _message("assistant", pair.rejected),
    }
