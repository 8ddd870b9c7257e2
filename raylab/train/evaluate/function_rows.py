"""Results of blocks -> rows of the tables `functions`, `cka` and `differing_tokens`.

Model: a `UsageResult` holds what was found on the answers of one usage, block by block. Sums over
answers are combined by math.fsum in the order of the answers; so are HSIC_1 over blocks.
Invariant: a row has the same bits for any number of shards. A divergence that is not finite, or
that two vocabularies do not have, is null.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raylab.plan.functions import MEASURES
from raylab.store.records import finite_or_none
from raylab.train.evaluate.cka import cka
from raylab.train.evaluate.function_job import KEPT_TOKENS, Usage

Pair = tuple[str, str]
Row = dict[str, Any]


@dataclass(frozen=True)
class UsageResult:
    """A usage, and the results of its blocks in the order of its answers."""

    usage: Usage
    blocks: Sequence[Mapping[str, Any]]

    @property
    def tokens(self) -> list[int]:
        """The number of tokens of each answer."""
        return [count for block in self.blocks for count in block["tokens"]]

    def sums(self, pair: Pair) -> list[Sequence[float]]:
        """The sums of a pair over the tokens of each answer that has some."""
        place = self.usage.pairs.index(pair)
        sums = [of_answer[place] for block in self.blocks for of_answer in block["sums"]]
        return [one for one, count in zip(sums, self.tokens, strict=True) if count]

    def cka_rows(self, pair: Pair) -> list[Row]:
        """CKA of a pair by layer."""
        place = self.usage.pairs.index(pair)
        blocks = [block for block in self.blocks if block["hsic"] is not None]
        tokens = sum(block["states"] for block in blocks)
        rows = []
        for layer in range(max((len(block["hsic"]) for block in blocks), default=0)):
            found = [[float(v) for v in block["hsic"][layer][place]] for block in blocks]
            if all(math.isfinite(value) for block in found for value in block):
                rows.append({"layer": layer, "tokens": tokens, "cka": cka(found)})
        return rows

    def differing(self, pair: Pair) -> list[Row]:
        """The tokens of an ordered pair that differ most, with the prompt of their answer."""
        if pair not in self.usage.watched:
            return []
        number, answers = self.usage.watched.index(pair), self.usage.answers
        found = [row for block in self.blocks for row in block["differing"]]
        rows = [row for row in found if row["watched"] == number]
        return [{**row, "prompt": answers[row["answer"]].row.prompt} for row in rows]


def function_rows(pair: Pair, results: Sequence[UsageResult]) -> list[Row]:
    """The row of a pair over all answers of `results`; none if they have no token."""
    sums = [of_answer for result in results for of_answer in result.sums(pair)]
    tokens = sum(sum(result.tokens) for result in results)
    if not tokens:
        return []
    means = {
        name: finite_or_none(_sum([float(one[place]) for one in sums]) / tokens)
        for place, name in enumerate(MEASURES)
    }
    return [{"prompts": len(sums), "tokens": tokens, **means}]


def differing_rows(pair: Pair, results: Sequence[UsageResult]) -> list[Row]:
    """The `KEPT_TOKENS` tokens with the largest KL(a || b) over all answers of `results`; of equal
    ones the first. Where both models gave one answer, each of its tokens counts once."""
    dropped = ("watched", "answer")
    found = [
        tuple((key, value) for key, value in row.items() if key not in dropped)
        for result in results
        for row in result.differing(pair)
    ]
    rows: list[Row] = list(map(dict, dict.fromkeys(found)))
    return sorted(rows, key=lambda row: -row["kl"])[:KEPT_TOKENS]


def _sum(values: Sequence[float]) -> float:
    """The sum, rounded once; what is not finite stays so."""
    return math.fsum(values) if all(map(math.isfinite, values)) else sum(values)
