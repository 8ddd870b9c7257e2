"""Answers of models on the page: sample answers side by side, likelihoods of held-out answers.

Model: each prompt stands with the data's own answer and with those of every recipe and merge of a
base model, at one seed. The table of likelihoods has a row for each model and a column for each
data set.
Invariant: functions of rows alone; no two answers to a prompt have one title. A page holds at most
MOST_CHARACTERS of answers, and says how many of how many prompts it has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from raylab.number_format import number
from raylab.report.page.blocks import Answer, Answers, Block, Column, Fold, Grid, Text
from raylab.report.study_tables import Row, Rows, recipe_of
from raylab.report.words import Translator
from raylab.spec.seeds import seeds_of
from raylab.spec.swept_names import rate_text

MOST_CHARACTERS = 400_000
"""Of all answers on a page."""


@dataclass(frozen=True)
class Samples:
    """The answers of the recipes and merges of one base model and seed; a row is a prompt.

    A cell is a row of the samples table, or None where the trial has no answer to this prompt.
    """

    model: str
    seed: int | str | None
    columns: tuple[str, ...]
    statuses: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Row | None, ...]], ...]


def answers_side_by_side(samples: Rows, trials: Rows, model: str) -> Samples | None:
    """Answers of all merges and recipes, at the first seed that has any.

    A merge without a seed belongs to every seed. None where there are no answers.
    """
    of_model = [trial for trial in trials if trial["model"] == model]
    for seed in dict.fromkeys(map(seeds_of, of_model)):
        chosen = [trial for trial in of_model if seeds_of(trial) in (seed, None)]
        names = {trial["name"] for trial in chosen}
        greedy = [s for s in samples if s["name"] in names and not s.get("draw")]
        found = {(s["prompt"], s["name"]): s for s in greedy}
        if found:
            prompts = list(dict.fromkeys(prompt for prompt, _ in found))
            rows = tuple(
                (prompt, tuple(found.get((prompt, trial["name"])) for trial in chosen))
                for prompt in prompts
            )
            statuses = tuple(trial["status"] for trial in chosen)
            level = seed.level if seed else None
            return Samples(model, level, titles(chosen), statuses, rows)
    return None


def titles(trials: Rows) -> tuple[str, ...]:
    """A short title for each trial: its label; those that share it have their learning rate too,
    or else their recipe."""

    def label(trial: Row) -> str:
        return str(trial["label"] or trial["recipe"])

    def label_with_rate(trial: Row) -> str:
        rate = trial["learning_rate"]
        return label(trial) + ("" if rate is None else f" at {rate_text(trial['name'], rate)}")

    found = list(map(label, trials))
    for longer in (label_with_rate, recipe_of):
        counts = Counter(found)
        found = [
            longer(trial) if counts[title] > 1 else title
            for trial, title in zip(trials, found, strict=True)
        ]
    return tuple(found)


def answer_blocks(translate: Translator, tables: Mapping[str, Rows]) -> Iterator[Block]:
    """The answers to each prompt side by side, for each base model."""
    models = list(dict.fromkeys(row["model"] for row in tables["trials"]))
    for model in models:
        samples = answers_side_by_side(tables["samples"], tables["trials"], model)
        if samples:
            yield _answers(translate, samples, MOST_CHARACTERS // len(models))
        else:
            yield Text(translate("answers-none", model=model))


def _answers(translate: Translator, samples: Samples, room: int) -> Answers:
    """As many prompts with their answers as there is room for, and at least one."""
    prompts: list[tuple[str, tuple[Answer, ...]]] = []
    for prompt, cells in samples.rows:
        expected = next((cell["expected"] for cell in cells if cell and cell["expected"]), None)
        found = [Answer(translate("answers-expected"), expected)] if expected else []
        told = zip(samples.columns, cells, samples.statuses, strict=True)
        found += [_answer(translate, *one) for one in told]
        room -= sum(len(answer.text) for answer in found)
        if room < 0 and prompts:
            break
        prompts.append((prompt, tuple(found)))
    note = translate("answers-note", shown=len(prompts), prompts=len(samples.rows),
                     recipes=len(samples.columns))  # fmt: skip
    title = samples.model
    if samples.seed is not None:
        title = translate("answers-title", model=samples.model, seed=samples.seed)
    return Answers(title, tuple(prompts), note)


def _answer(translate: Translator, title: str, sample: Row | None, status: str) -> Answer:
    if sample is None:
        return Answer(title, translate("answers-missing", status=status), "unknown")
    text = sample["answer"] or translate("answers-empty")
    if sample["stopped"] is not False:
        return Answer(title, text, "" if sample["answer"] else "fair")
    return Answer(title, translate("answers-endless", text=text), "fair")


def likelihood_blocks(translate: Translator, tables: Mapping[str, Rows]) -> Iterator[Block]:
    """The table of log-probabilities of held-out answers, where there are any."""
    rows = tables["likelihoods"]
    if not rows:
        return
    columns = list(dict.fromkeys(row["data"] for row in rows))
    cells = {(row["name"], row["data"]): number(row["log_probability"]) for row in rows}
    names = dict.fromkeys(row["name"] for row in rows)
    title = translate("grid-likelihoods")
    grid = Grid(
        title,
        (Column(translate.column("trial"), "text"), *map(Column, columns)),
        tuple((name, *(cells.get((name, data), "") for data in columns)) for name in names),
        note=translate("note-likelihoods", count=len(names)),
        name="likelihoods",
        file="tables/likelihoods.csv",
    )
    yield Fold(title, (grid,))
