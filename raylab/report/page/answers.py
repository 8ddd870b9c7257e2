"""Answers of models on the page: sample answers side by side, likelihoods of held-out answers.

Model: a table of answers has a column for each recipe that starts from the base model and for
each merge, and a row for each of the first prompts. The table of likelihoods has a row for each
model and a column for each data set.
Invariant: functions of rows alone; no two columns of a table have one title.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from raylab.number_format import number
from raylab.report.page.blocks import Block, Column, Grid, Text
from raylab.report.study_tables import Row, Rows, is_merge, recipe_of
from raylab.report.words import Translator
from raylab.spec.seeds import seeds_of
from raylab.spec.swept_names import rate_text

_MAX_PROMPTS = 4


@dataclass(frozen=True)
class Answers:
    """The answers of the recipes and merges of one base model and seed; a row is a prompt.

    A cell is a row of the samples table, or None where the trial has no answer to this prompt.
    """

    model: str
    seed: int | str | None
    merges: int
    columns: tuple[str, ...]
    statuses: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Row | None, ...]], ...]
    total_prompts: int


def answers_side_by_side(samples: Rows, trials: Rows, model: str) -> Answers | None:
    """Answers of all merges and of all recipes without a parent, at the first seed that has any.

    A merge without a seed belongs to every seed. None where there are no answers.
    """
    roots = [t for t in trials if t["model"] == model and not t["parent"]]
    for seed in dict.fromkeys(map(seeds_of, roots)):
        chosen = [trial for trial in roots if seeds_of(trial) in (seed, None)]
        names = {trial["name"] for trial in chosen}
        greedy = [s for s in samples if s["name"] in names and not s.get("draw")]
        found = {(s["prompt"], s["name"]): s for s in greedy}
        if found:
            prompts = list(dict.fromkeys(prompt for prompt, _ in found))
            rows = tuple(
                (prompt, tuple(found.get((prompt, trial["name"])) for trial in chosen))
                for prompt in prompts[:_MAX_PROMPTS]
            )
            statuses = tuple(trial["status"] for trial in chosen)
            merges = sum(map(is_merge, chosen))
            level = seed.level if seed else None
            return Answers(model, level, merges, titles(chosen), statuses, rows, len(prompts))
    return None


def titles(trials: Rows) -> tuple[str, ...]:
    """A short title for each trial: its label, with the learning rate or recipe if repeated."""

    def label(trial: Row) -> str:
        return str(trial["label"] or trial["recipe"])

    def label_with_rate(trial: Row) -> str:
        rate = trial["learning_rate"]
        return label(trial) + ("" if rate is None else f" at {rate_text(trial['name'], rate)}")

    forms: tuple[Callable[[Row], str], ...] = (label, label_with_rate, recipe_of)
    for form in forms:
        found = tuple(map(form, trials))
        if len(set(found)) == len(found):
            break
    return found


def answer_blocks(translate: Translator, tables: Mapping[str, Rows]) -> Iterator[Block]:
    """One table of sample answers for each base model."""
    for model in dict.fromkeys(row["model"] for row in tables["trials"]):
        answers = answers_side_by_side(tables["samples"], tables["trials"], model)
        if answers:
            yield _answer_grid(translate, answers)
        else:
            yield Text(translate("answers-none", model=model))


def _answer_grid(translate: Translator, answers: Answers) -> Grid:
    columns = [Column(title, "answer") for title in answers.columns]
    rows = tuple(
        (prompt, *(_answer(translate, *cell) for cell in zip(cells, answers.statuses, strict=True)))
        for prompt, cells in answers.rows
    )
    merges = translate("answers-merges", count=answers.merges) if answers.merges else ""
    note = translate(
        "answers-note",
        shown=len(rows),
        prompts=answers.total_prompts,
        recipes=len(columns) - answers.merges,
        merges=merges,
    )
    title = answers.model
    if answers.seed is not None:
        title = translate("answers-title", model=answers.model, seed=answers.seed)
    return Grid(title, (Column(translate.column("prompt"), "answer"), *columns), rows, note=note)


def _answer(translate: Translator, sample: Row | None, status: str) -> str:
    if sample is None:
        return translate("answers-missing", status=status)
    text = sample["answer"] or translate("answers-empty")
    return text if sample["stopped"] is not False else translate("answers-endless", text=text)


def likelihood_blocks(translate: Translator, tables: Mapping[str, Rows]) -> Iterator[Block]:
    """The table of log-probabilities of held-out answers, where there are any."""
    rows = tables["likelihoods"]
    if not rows:
        return
    columns = list(dict.fromkeys(row["data"] for row in rows))
    cells = {(row["name"], row["data"]): number(row["log_probability"]) for row in rows}
    names = dict.fromkeys(row["name"] for row in rows)
    yield Grid(
        translate("grid-likelihoods"),
        (Column(translate.column("trial"), "text"), *map(Column, columns)),
        tuple((name, *(cells.get((name, data), "") for data in columns)) for name in names),
        note=translate("note-likelihoods", count=len(names)),
        name="likelihoods",
    )
