"""A small study that is run whole, once for all tests that look at what it left."""

from __future__ import annotations

from pathlib import Path

from raylab.cluster import stages
from raylab.spec.study_file import parse_study

RECIPES = """
recipes:
  sft-d0: {method: sft, data: D0}
  sft-d1: {method: sft, data: D1}
  bad: {method: sft, data: D1, training: {learning_rate: 1e30}}
  child: {method: dpo, chosen: D0, rejected: D1, parent: sft-d1}
  orphan: {method: dpo, chosen: D0, rejected: D1, parent: bad}
comparisons:
  - pair: [sft-d0, sft-d1]
  - pair: [child, orphan]
  - base: [child]
"""


def quiet(words: str) -> None:
    pass


def context_of(text, out):
    return stages.prepare(parse_study(text, Path("study.yaml")), str(out))


def run(text, out):
    context = context_of(text, out)
    complete = stages.train(context, None, quiet)
    stages.reduce(context, None, quiet)
    return context, complete
