"""The parts of a report: what was found, as blocks.

Model: a finding's section is its sentences, what they rest on, its figures by base model and its
tables; other parts are functions from rows to blocks. All words are a translator's.
Invariant: a part without anything to show says so in a sentence. Works on tables with nulls,
without pairs, without rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from raylab.number_format import MISSING, duration, number, rate, setting
from raylab.plan.comparisons import Model, plan_comparisons
from raylab.report.figures import FIGURES
from raylab.report.figures.drawing import Drawing
from raylab.report.findings.finding import Finding, Sentence
from raylab.report.page.answers import Answers, answers_side_by_side
from raylab.report.page.blocks import Block, Column, Grid, Item, Items, Picture, Text
from raylab.report.page.grids import grids_of
from raylab.report.study_tables import Row, Rows, is_merge
from raylab.report.words import Translator
from raylab.spec.study import Study

TROUBLED = ("failed", "blocked")
_PROMPTS = 4


def finding_blocks(translate: Translator, finding: Finding) -> Iterator[Block]:
    """Everything that a finding says and shows."""
    yield from said(translate, finding.headline)
    yield from said(translate, finding.sentences)
    for caveat in finding.caveats:
        yield Text(translate.sentence(caveat), caveat.grade)
    yield from pictures_of(translate, finding)
    yield from grids_of(translate, finding)


def said(translate: Translator, sentences: Iterable[Sentence]) -> Iterator[Items]:
    """Sentences as one list; none of none."""
    items = tuple(_item(translate, sentence) for sentence in sentences)
    if items:
        yield Items(items)


def _item(translate: Translator, sentence: Sentence) -> Item:
    head = translate.subject(sentence) if sentence.head else ""
    return Item(head, translate.sentence(sentence), sentence.grade)


def pictures_of(translate: Translator, finding: Finding) -> Iterator[Picture]:
    """The figures of a finding, one for each base model that has something to show."""
    models = dict.fromkeys(
        str(row["model"])
        for rows in finding.frames.values()
        for row in rows
        if row.get("model") is not None
    )
    for name, figure_type in FIGURES.items():
        if figure_type.finding != finding.key:
            continue
        for model in models:
            figure = figure_type.draw(translate, finding.frames, model)
            if figure:
                yield Picture(f"{name}-{model}", Drawing.of(figure.chart), figure.caption)


def missing_blocks(
    translate: Translator, study: Study, trials: Rows, norms: Rows
) -> Iterator[Block]:
    """A sentence on the planned comparisons that the norms table lacks; nothing without any."""
    models = {row["name"]: _model(row) for row in trials}
    for name, item in study.models.items():
        models[name] = Model(name, item.base_model, name, name, item.method, item.data, item.seed)
    planned = [comparison.name for comparison in plan_comparisons(study, models)]
    measured = {row["comparison"] for row in norms}
    missing = [name for name in planned if name not in measured]
    if missing:
        shown = ", ".join(missing[:6]) + (", ..." if len(missing) > 6 else "")
        values = {"missing": len(missing), "planned": len(planned), "names": shown}
        yield Text(translate("missing-comparisons", **values), "fair")


def _model(row: Row) -> Model:
    # Comparisons are planned by the variant's name, which is what stands between the other two.
    recipe = row["name"].removeprefix(f"{row['model']}.").removesuffix(f".s{row['seed']}")
    label = str(row["label"])
    return Model(row["name"], row["model"], recipe, label, row["method"], row["data"], row["seed"])


def answer_blocks(translate: Translator, tables: Mapping[str, Rows]) -> Iterator[Block]:
    """Sample answers side by side, one table for each base model."""
    for model in dict.fromkeys(row["model"] for row in tables["trials"]):
        answers = answers_side_by_side(tables["samples"], tables["trials"], model, _PROMPTS)
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
        prompts=answers.prompts_in_all,
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


_RATES = ("style_rate", "japanese_rate", "stopped_rate", "repetition_rate", "distinct_rate")
_TRIAL_TEXTS = ("trial", "label", "status", "marks")
_TRIAL_COLUMNS = (
    "trial", "label", "seed", "learning_rate", "status", "train_loss", "eval_loss", "l2",
    *_RATES, "seconds", "marks",
)  # fmt: skip


def trial_blocks(translate: Translator, trials: Rows) -> Iterator[Block]:
    """What went wrong, and every trial, the failed and the blocked first."""
    troubled = [row for row in trials if row["status"] in TROUBLED]
    troubled.sort(key=lambda row: TROUBLED.index(row["status"]))
    if troubled:
        yield Items(tuple(_trouble(translate, row) for row in troubled))
    rows = [*troubled, *(row for row in trials if row["status"] not in TROUBLED)]
    columns = tuple(
        Column(translate.column(name), "text" if name in _TRIAL_TEXTS else "number")
        for name in _TRIAL_COLUMNS
    )
    yield Grid(
        translate("grid-trials"),
        columns,
        tuple(_trial_cells(translate, row) for row in rows),
        tuple(_trial_grade(row) for row in rows),
        translate("note-trials", amount=trial_count(translate, rows)),
        "trials",
    )


def trial_count(translate: Translator, trials: Rows) -> str:
    """The number of trials and merges: 3 trials, or 3 trials and 1 merge."""
    merges = sum(map(is_merge, trials))
    if merges:
        return translate("unit-trials_and_merges", trials=len(trials) - merges, merges=merges)
    return translate("unit-trial", count=len(trials))


def _trouble(translate: Translator, row: Row) -> Item:
    what = ": ".join(str(part) for part in (row["cause"], row["message"]) if part)
    status = translate(f"status-{row['status']}")
    text = translate("trouble", status=status, what=what or translate("trouble-unknown"))
    return Item(row["name"], text, "bad")


def _trial_grade(row: Row) -> str:
    return "bad" if row["status"] in TROUBLED else "fair" if row["marked"] else ""


def _trial_cells(translate: Translator, row: Row) -> tuple[str, ...]:
    status = row["status"]
    return (
        row["name"],
        row["label"] or MISSING,
        str(row["seed"]) if row["seed"] is not None else MISSING,
        setting(row["learning_rate"]),
        translate(f"status-{status}")
        if translate.has_message(f"status-{status}")
        else status or MISSING,
        number(row["train_loss"]),
        number(row["eval_loss"]),
        number(row["l2"]),
        *(rate(row[key]) for key in _RATES),
        duration(row["seconds"]),
        row["marks"] or "",
    )
