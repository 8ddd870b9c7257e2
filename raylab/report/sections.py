"""The parts of a report: what was found, as blocks.

Model: one function for each part, from rows to the blocks of that part, in their order.
Invariant: every table that is cut says how many of how many rows it shows; a part without
anything to show says so in a sentence. Works on tables with nulls, without pairs, without rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from raylab.plan.comparisons import Model, plan_comparisons
from raylab.report.answers import Answers, answers_side_by_side
from raylab.report.blocks import Block, Column, Grid, Item, Items, Picture, Text
from raylab.report.figures import MOST, curve_figure, heat_figure, seed_figure
from raylab.report.numbers import MISSING, count, duration, number, plural, rate, setting
from raylab.report.summary import (
    VIEW,
    Row,
    Rows,
    SeedRow,
    SeedTables,
    amount,
    heat,
    measure_of,
)
from raylab.spec.study import Study

TROUBLED = ("failed", "blocked")
_PROMPTS = 4
_MOST_ROWS = 200


def seed_blocks(study: Study, trials: Rows, norms: Rows, found: SeedTables) -> Iterator[Block]:
    """A sentence for each data pair, the two seed tables, and a figure for each base model."""
    several = len({row.model for row in found.rows}) > 1
    if found.rows:
        yield Items(tuple(_sentence(row, several) for row in found.rows))
    else:
        yield Text(
            "No two measured models share base model, method, seed, learning rate and parent and "
            "differ in data, so there is nothing to say over seeds."
        )
    missing = missing_comparisons(study, trials, norms)
    if missing:
        yield Text(missing)
    if found.like:
        yield _seed_grid("Like learning rates", found.like, found.seeds, several)
    if found.unlike:
        rows = [row for group in found.unlike for row in group]
        yield _seed_grid("Unlike learning rates", rows, found.seeds, several)
    if found.others:
        amount = plural(len(found.others), "comparison")
        yield Text(f"{amount} in the norms table are no data pairs and are not shown above.")
    for model in dict.fromkeys(row.model for row in found.rows):
        yield _seed_picture(model, [row for row in found.rows if row.model == model])


def _sentence(row: SeedRow, several: bool) -> Item:
    values = ", ".join(
        f"{number(value)} (seed {seed})" if value is not None else f"not measured (seed {seed})"
        for seed, value in row.l2.items()
    )
    where = f"{row.model}: " if several else ""
    head = f"{where}{row.label} at {setting(row.learning_rate)}"
    factor = f", factor {number(row.ratio)}" if row.grade in ("good", "fair") else ""
    return Item(head, f"{row.verdict}{factor}. L2 {values}.", row.grade)


def missing_comparisons(study: Study, trials: Rows, norms: Rows) -> str:
    """A sentence on the planned comparisons that the norms table lacks; empty without any."""
    models = {row["name"]: _model(row) for row in trials}
    for name, item in study.models.items():
        models[name] = Model(name, item.base_model, name, name, item.method, item.data, item.seed)
    planned = [comparison.name for comparison in plan_comparisons(study, models)]
    measured = {row["comparison"] for row in norms}
    missing = [name for name in planned if name not in measured]
    if not missing:
        return ""
    shown = ", ".join(missing[:6]) + (", ..." if len(missing) > 6 else "")
    return f"{len(missing)} of {plural(len(planned), 'planned comparison')} not measured: {shown}."


def _model(row: Row) -> Model:
    # Comparisons are planned by the variant's name, which is what stands between the other two.
    recipe = row["name"].removeprefix(f"{row['model']}.").removesuffix(f".s{row['seed']}")
    label = str(row["label"])
    return Model(row["name"], row["model"], recipe, label, row["method"], row["data"], row["seed"])


def _seed_grid(title: str, rows: Sequence[SeedRow], seeds: Sequence[int], several: bool) -> Grid:
    names = [f"{norm} (seed {seed})" for seed in seeds for norm in ("L1", "L2")]
    columns = (*_head_columns(several), *map(Column, names), Column("L2 factor"))
    lines = []
    for row in rows:
        values = [number(norm[seed]) for seed in seeds for norm in (row.l1, row.l2)]
        lines.append((*_head(row, several), *values, number(row.ratio)))
    return Grid(title, columns, tuple(lines), tuple(row.grade for row in rows))


def _head_columns(several: bool) -> tuple[Column, ...]:
    model = [Column("base model", "text")] if several else []
    return Column("data pair", "text"), *model, Column("learning rate")


def _head(row: SeedRow, several: bool) -> tuple[str, ...]:
    """The cells that say which data pair a row is about."""
    return row.label, *([row.model] if several else []), setting(row.learning_rate)


def _seed_picture(model: str, rows: Sequence[SeedRow]) -> Picture:
    caption = f"{model}: L2 norm of the difference of each data pair, by seed."
    return Picture(f"seed-norms-{model}", seed_figure(rows), caption)


def where_blocks(tables: Mapping[str, Rows], found: SeedTables) -> Iterator[Block]:
    """Heatmaps and density curves of the data pairs, and their densities table."""
    if not found.rows:
        yield Text("There are no data pairs.")
        return
    for model in dict.fromkeys(row.model for row in found.rows):
        rows = [row for row in found.rows if row.model == model]
        yield from _model_pictures(tables, model, rows)
    yield _density_grid(tables["densities"], found)


def _model_pictures(
    tables: Mapping[str, Rows], model: str, rows: Sequence[SeedRow]
) -> Iterator[Block]:
    seed = next(seed for seed in rows[0].seeds if any(seed in row.comparisons for row in rows))
    measured = [row for row in rows if seed in row.comparisons]
    names = {row.comparisons[seed]: _short(row) for row in measured[:MOST]}
    total = sum(len(row.comparisons) for row in rows)
    part = f"{len(names)} of {plural(total, 'data pair')} (seed {seed})"
    heats = _heats(tables["norms"], names)
    if heats:
        drawing = heat_figure(heats, [names[item.comparison] for item in heats])
        outside = f" Not in a layer: {', '.join(heats[0].outside)}." if heats[0].outside else ""
        caption = f"{model}: norms by layer and module, {part}, on one colour scale.{outside}"
        yield Picture(f"heatmap-{model}", drawing, caption)
    curves = {
        title: [r for r in tables["curve"] if r["comparison"] == name and r["view"] == VIEW]
        for name, title in names.items()
    }
    curves = {title: found for title, found in curves.items() if found}
    if curves:
        caption = f"{model}: share of L1 and of L2 in the largest values, {part}."
        yield Picture(f"curve-{model}", curve_figure(curves), caption)


def _short(row: SeedRow) -> str:
    return f"{row.label}, {setting(row.learning_rate)}"


def _heats(norms: Rows, names: Mapping[str, str]) -> list[Any]:
    mine = [row for row in norms if row["comparison"] in names and row["level"] == "tensor"]
    measure = measure_of(mine, names)
    return [item for name in names if (item := heat(mine, name, measure)).layers]


def _density_grid(densities: Rows, found: SeedTables) -> Grid:
    several = len({row.model for row in found.rows}) > 1
    titles = {
        name: (*_head(row, several), str(seed))
        for row in found.rows
        for seed, name in row.comparisons.items()
    }
    rows = [row for row in densities if row["comparison"] in titles and row["view"] == VIEW]
    names = ("seed", "density", "kept", "threshold", "at or above", "L1", "L2", "of L1", "of L2")
    return Grid(
        "Only the largest values",
        (*_head_columns(several), *map(Column, names)),
        tuple((*titles[row["comparison"]], *_density_cells(row)) for row in rows[:_MOST_ROWS]),
        note=f"{min(len(rows), _MOST_ROWS)} of {len(densities)} rows of the densities table.",
    )


def _density_cells(row: Row) -> tuple[str, ...]:
    return (
        setting(row["density"]),
        count(row["num_keep"]),
        number(row["threshold"]),
        count(row["at_or_above"]),
        number(row["l1"]),
        number(row["l2"]),
        rate(row["l1_share"]),
        rate(row["l2_share"]),
    )


def answer_blocks(tables: Mapping[str, Rows]) -> Iterator[Block]:
    """Sample answers side by side, one table for each base model."""
    models = dict.fromkeys(row["model"] for row in tables["trials"])
    found = {
        model: answers_side_by_side(tables["samples"], tables["trials"], model, _PROMPTS)
        for model in models
    }
    for model, answers in found.items():
        if answers:
            yield _answer_grid(answers)
        else:
            yield Text(f"{model}: no recipe that starts from the base model has sample answers.")


def _answer_grid(answers: Answers) -> Grid:
    columns = [Column(title, "answer") for title in answers.columns]
    rows = tuple((prompt, *map(_answer, cells, answers.statuses)) for prompt, cells in answers.rows)
    prompts = f"{len(rows)} of {plural(answers.prompts_in_all, 'prompt')}"
    recipes = plural(len(columns) - answers.merges, "recipe")
    merges = f" and {plural(answers.merges, 'merge')}" if answers.merges else ""
    models = f"all {recipes} that start from the base model{merges}"
    note = f"{prompts}; {models}; the rest: samples table."
    title = answers.model if answers.seed is None else f"{answers.model}, seed {answers.seed}"
    return Grid(title, (Column("prompt", "answer"), *columns), rows, note=note)


def _answer(sample: Row | None, status: str) -> str:
    if sample is None:
        return f"(no answer: {status})"
    text = sample["answer"] or "(empty)"
    return text if sample["stopped"] is not False else f"{text} [did not stop]"


_TRIAL_COLUMNS = (
    Column("trial", "text"),
    Column("label", "text"),
    Column("seed"),
    Column("learning rate"),
    Column("status", "text"),
    Column("train loss"),
    Column("held-out loss"),
    Column("L2"),
    Column("style"),
    Column("Japanese"),
    Column("stopped"),
    Column("repetition"),
    Column("distinct"),
    Column("seconds"),
    Column("marks", "text"),
)
_RATES = ("style_rate", "japanese_rate", "stopped_rate", "repetition_rate", "distinct_rate")


def trial_blocks(trials: Rows) -> Iterator[Block]:
    """What went wrong, and every trial, the failed and the blocked first."""
    troubled = [row for row in trials if row["status"] in TROUBLED]
    troubled.sort(key=lambda row: TROUBLED.index(row["status"]))
    if troubled:
        yield Items(tuple(_trouble(row) for row in troubled))
    rest = [row for row in trials if row["status"] not in TROUBLED]
    rows = [*troubled, *rest]
    yield Grid(
        "All trials",
        _TRIAL_COLUMNS,
        tuple(_trial_cells(row) for row in rows),
        tuple(_trial_grade(row) for row in rows),
        f"All {amount(rows)}.",
    )


def _trouble(row: Row) -> Item:
    what = ": ".join(str(part) for part in (row["cause"], row["message"]) if part)
    return Item(row["name"], f"{row['status']}: {what or 'no cause is known'}", "bad")


def _trial_grade(row: Row) -> str:
    return "bad" if row["status"] in TROUBLED else "fair" if row["marked"] else ""


def _trial_cells(row: Row) -> tuple[str, ...]:
    return (
        row["name"],
        row["label"] or MISSING,
        str(row["seed"]) if row["seed"] is not None else MISSING,
        setting(row["learning_rate"]),
        row["status"] or MISSING,
        number(row["train_loss"]),
        number(row["eval_loss"]),
        number(row["l2"]),
        *(rate(row[key]) for key in _RATES),
        duration(row["seconds"]),
        row["marks"] or "",
    )
