"""Describes and checks all data of a study, as a run of it would.

Model: every data set of the study is described as `raylab data describe` describes a file, with
the columns that the study names. Then the checks of a run follow: the rows of each data set, the
pairs that recipes ask for, and whether held-out rows leave a recipe any to train on.
Invariant: nothing is written, no model is read, and no problem hides another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raylab.spec.data.dataset import Rows, pair_problems, read_sets, warnings_of
from raylab.spec.data.describe import describe, load_tokenizer
from raylab.spec.data.framing import Learn
from raylab.spec.data.pairs import pairs_of
from raylab.spec.data.rows import split
from raylab.spec.recipes import expand_recipes
from raylab.spec.study import Recipe, Study
from raylab.spec.study_file import load_study


def describe_study(file: Path, tokenizer: str | None = None) -> dict[str, Any]:
    """The document of `raylab data describe STUDY`. Raises StudyError, InputError.

    `problems` has what would stop a run beside the problems of each file, by pairing or recipe.
    """
    study = load_study(file)
    reader = load_tokenizer(tokenizer, study.template_date) if tokenizer else None
    sets = read_sets(study)
    warnings = warnings_of(study, sets)
    described = [
        {
            "name": name,
            "file": data.path or data.hub or " + ".join(data.concat or ()),
            **_as_a_run_warns(
                describe(sets[name], reader, _learn(study, name)), warnings.get(name, [])
            ),
            **({"format": "concat"} if data.concat else {}),
        }
        for name, data in study.data.items()
    ]
    problems = pair_problems(study, sets)
    if not problems and not any(found.problems for found in sets.values()):
        problems = _left_without_rows(study, sets)
    return {"study": str(file), "files": described, "problems": problems}


def _learn(study: Study, name: str) -> Learn:
    """Which answers of a data set are learned: `all` where every recipe that takes it says so."""
    asked = {
        variant.training.learn if variant.method == "sft" else "last"
        for variant in expand_recipes(study).values()
        for used in variant.data_sets.values()
        if name in (study.data[used].concat or (used,))
    }
    return "all" if asked == {"all"} else "last"


def _as_a_run_warns(described: dict[str, Any], warnings: Sequence[str]) -> dict[str, Any]:
    """The description with the warnings of a run, which knows the longest row of each recipe."""
    own = [line for line in described["warnings"] if line not in warnings]
    return {**described, "warnings": [*warnings, *own]}


def _left_without_rows(study: Study, sets: Mapping[str, Rows]) -> dict[str, str]:
    """The recipes whose rows are all held out, by a name for the message."""
    found = {}
    for name, recipe in study.recipes.items():
        training, kept = split(_rows_of(recipe, sets), study.held_out)
        if not training:
            found[f"recipe {name}"] = (
                f"no example is left to train on, {len(kept)} are held out; lower `held_out:`"
            )
    return found


def _rows_of(recipe: Recipe, sets: Mapping[str, Rows]) -> list[Any]:
    if recipe.method == "dpo":
        return pairs_of(recipe.data_sets, {name: found.rows for name, found in sets.items()})
    return sets[recipe.data_sets["data"]].rows
