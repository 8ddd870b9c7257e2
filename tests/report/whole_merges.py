"""Merges of the trials of the whole study: losses, rates and what was kept, by formulas.

Model: `mixed` is a merge of two recipes swept over density, `between` one swept over weight; at two
seeds. The numbers follow from the swept value, so that tests can say what a row has to be.
Invariant: the same rows each time; rows of other models are those of the whole study.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from raylab.report.study_merges import Parent, StudyMerge
from raylab.report.study_tables import Tables
from tests.report.conftest import MODEL, Rows, name_of

PARENTS = {"D0": "sft-d0.learning_rate=1e-5", "D1": "sft-d1.learning_rate=1e-5"}
SEEDS = (42, 100)
SWEEPS = {"mixed": ("density", (0.1, 0.5, 1.0)), "between": ("weight", (0.0, 0.5, 1.0))}
DENSITIES = (0.1, 0.5)
OWN, OTHER = 0.4, 1.4
"""The loss of a parent on its own data, and on the other's."""


def kept_at(value: float, data: str) -> float:
    """The share of the gain on the data of one parent that a merge keeps at a value."""
    return 0.9 - 0.6 * value if data == "D0" else 0.3 + 0.6 * value


def merges() -> list[StudyMerge]:
    return [
        StudyMerge(
            name=name_of(f"{merge}.{setting}={value:g}", seed),
            base_model=MODEL,
            merge=merge,
            point={setting: value},
            parents=tuple(
                Parent(name_of(recipe, seed), f"{MODEL}.{recipe}", data, (data,))
                for data, recipe in PARENTS.items()
            ),
            prompts_of="D0",
        )
        for merge, (setting, values) in SWEEPS.items()
        for value in values
        for seed in SEEDS
    ]


def rows_of_merges() -> dict[str, Rows]:
    """The rows of tables that stand beside those of the whole study."""
    return {
        "trials": [_trial(merge) for merge in merges()],
        "likelihoods": list(_likelihoods()),
        "rates_by_data": list(_rates()),
        "kept_of": list(_kept()),
    }


def with_merges(tables: Mapping[str, Rows], made: list[StudyMerge] | None = None) -> Tables:
    """The whole study with its merges; likelihoods are those of merges and their parents."""
    more = rows_of_merges()
    trials = [*tables["trials"], *more.pop("trials")]
    return Tables.of(
        {**tables, "trials": trials, **more}, merges=merges() if made is None else made
    )


def _trial(merge: StudyMerge) -> dict[str, Any]:
    return {
        "name": merge.name, "model": MODEL, "recipe": merge.label, "label": f"TIES {merge.label}",
        "method": "ties", "data": "D0+D1", "seed": int(merge.name.rpartition(".s")[2]),
        "status": "done", "l2": 2.0, "stopped_rate": 1.0, "attempts": 1,
    }  # fmt: skip


def _of_models() -> Iterator[tuple[str, str, float]]:
    """(name, data, share of the gain) of every merge and parent on the data of each parent."""
    for merge in merges():
        (value,) = merge.point.values()
        yield from ((merge.name, data, kept_at(float(value), data)) for data in PARENTS)
    for data in PARENTS:
        for other, recipe in PARENTS.items():
            yield from ((name_of(recipe, s), data, float(other == data)) for s in SEEDS)


def _likelihoods() -> Iterator[dict[str, Any]]:
    for name, data, kept in _of_models():
        loss = OTHER - kept * (OTHER - OWN)
        yield {"name": name, "data": data, "answers": 8, "tokens": 64, "log_probability": -loss}


def _rates() -> Iterator[dict[str, Any]]:
    for name, data, kept in _of_models():
        style = kept if data == "D1" else 1 - kept
        yield {
            "name": name, "data": data, "answers": "greedy", "count": 32, "style_rate": style,
            "japanese_rate": 1.0, "stopped_rate": 0.5 + kept / 2, "repetition_rate": 0.0,
        }  # fmt: skip


def _kept() -> Iterator[dict[str, Any]]:
    for merge in merges():
        (value,) = merge.point.values()
        for parent in merge.parents:
            share = kept_at(float(value), parent.data)
            for density in DENSITIES:
                yield {
                    "merge": merge.name, "parent": parent.name, "view": "delta", "level": "all",
                    "key": "all", "numel": 1000, "cosine": share, "density": density,
                    "largest": 100, "survived": round(80 * share), "zero": 10,
                    "survived_share": round(80 * share) / 100,
                }  # fmt: skip
