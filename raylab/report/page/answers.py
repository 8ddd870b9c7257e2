"""What models answered to the same prompts, side by side.

Model: a table has a column for each recipe that starts from the base model and for each merge,
and a row for each of the first prompts.
Invariant: pure functions of lists of row dictionaries; a column's title is no other's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from raylab.number_format import setting
from raylab.report.study_tables import Row, Rows, is_merge, recipe_of


@dataclass(frozen=True)
class Answers:
    """What the recipes and merges of one base model and seed answered; a row is a prompt.

    A cell is the sample's row, or None where the trial has no answer to this prompt.
    """

    model: str
    seed: int | None
    merges: int
    columns: tuple[str, ...]
    statuses: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Row | None, ...]], ...]
    prompts_in_all: int


def answers_side_by_side(
    samples: Rows, trials: Rows, model: str, prompts: int = 4
) -> Answers | None:
    """Answers of all merges and of all recipes without a parent, at the first seed that has any.

    A merge without a seed belongs to every seed. None where there are no answers.
    """
    roots = [t for t in trials if t["model"] == model and not t["parent"]]
    for seed in dict.fromkeys(trial["seed"] for trial in roots):
        chosen = [trial for trial in roots if trial["seed"] in (seed, None)]
        names = {trial["name"] for trial in chosen}
        greedy = [s for s in samples if s["name"] in names and not s.get("draw")]
        found = {(s["prompt"], s["name"]): s for s in greedy}
        if found:
            every = list(dict.fromkeys(prompt for prompt, _ in found))
            rows = tuple(
                (prompt, tuple(found.get((prompt, trial["name"])) for trial in chosen))
                for prompt in every[:prompts]
            )
            statuses = tuple(trial["status"] for trial in chosen)
            merges = sum(map(is_merge, chosen))
            return Answers(model, seed, merges, titles(chosen), statuses, rows, len(every))
    return None


def titles(trials: Rows) -> tuple[str, ...]:
    """A short title for each: its label, with the learning rate or recipe where that repeats."""
    forms: tuple[Callable[[Row], str], ...] = (
        lambda trial: str(trial["label"] or trial["recipe"]),
        _at_its_rate,
        recipe_of,
    )
    for form in forms:
        made = tuple(form(trial) for trial in trials)
        if len(set(made)) == len(made):
            break
    return made


def _at_its_rate(trial: Row) -> str:
    title, rate = str(trial["label"] or trial["recipe"]), trial["learning_rate"]
    return title if rate is None else f"{title} at {setting(rate)}"
