"""Comparisons on the page beside their findings: those not measured, and published norms.

Model: functions from the study and rows of the tables to blocks. A published norm belongs to a
pair of trials; its measured value is in the row of the norms table with the same two sides, in
either order. The ratio is measured over published.
Invariant: every published norm has a row, with dashes where it was not measured. A function that
finds nothing yields no block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from raylab.number_format import number
from raylab.plan.comparisons import Model, plan_comparisons
from raylab.report.findings.finding import Sentence
from raylab.report.page.blocks import Block, Column, Grid, Item, Items, Text
from raylab.report.study_tables import VIEW, Row, Rows, recipe_of
from raylab.report.words import Translator
from raylab.spec.published_norms import Printed
from raylab.spec.recipes import trial_name
from raylab.spec.seeds import seeds_of
from raylab.spec.study import Study
from raylab.spec.swept_names import by_value

_NORMS = tuple(
    f"{norm}_{what}" for norm in ("l1", "l2") for what in ("printed", "measured", "ratio")
)
_COLUMNS = ("pair", "seed", *_NORMS, "source")


def missing_sentences(study: Study, trials: Rows, norms: Rows) -> tuple[Sentence, ...]:
    """A sentence on the planned comparisons that the norms table lacks; none where it has all."""
    models = {row["name"]: _model(row) for row in trials}
    for name, item in study.models.items():
        models[name] = Model(name, item.base_model, name, name, item.method, item.data, item.seed)
    planned = [comparison.name for comparison in plan_comparisons(study, models)]
    measured = {row["comparison"] for row in norms}
    missing = [name for name in planned if name not in measured]
    if not missing:
        return ()
    values = {"missing": len(missing), "planned": len(planned), "names": missing}
    return (Sentence("missing-comparisons", values, "fair"),)


def missing_blocks(translate: Translator, missing: Iterable[Sentence]) -> Iterator[Block]:
    """The names of the comparisons that the sentences `missing` count."""
    for sentence in missing:
        yield Text(translate("missing-names", names=sentence.values["names"]), "fair")


def _model(row: Row) -> Model:
    # Comparisons are planned by recipe, which stands in a name between base model and seed.
    recipe, seed = recipe_of(row).removeprefix(f"{row['model']}."), seeds_of(row)
    return Model(
        row["name"], row["model"], recipe, str(row["label"]), row["method"], row["data"], seed
    )


def left_out_blocks(tables: Mapping[str, Rows]) -> Iterator[Block]:
    """The comparisons that are not measured because the study leaves out marked models."""
    found = [row for row in tables["comparisons"] if "left out:" in (row["message"] or "")]
    if found:
        yield Items(tuple(Item(row["comparison"], row["message"], "fair") for row in found))


def published_blocks(translate: Translator, study: Study, norms: Rows) -> Iterator[Block]:
    """The table of published norms, where the study gives any."""
    if not study.reference:
        return
    measured = {
        frozenset(map(by_value, (row["a"], row["b"]))): row
        for row in norms
        if row["level"] == "all" and row["view"] == VIEW
    }
    columns = tuple(
        Column(translate.column(name), "text" if name in ("pair", "source") else "number")
        for name in _COLUMNS
    )
    yield Grid(
        translate("grid-printed"),
        columns,
        tuple(_cells(study, published, measured) for published in study.reference),
        note=translate("note-printed"),
        name="printed",
    )


def _cells(
    study: Study, published: Printed, measured: Mapping[frozenset[str], Row]
) -> tuple[str, ...]:
    base = published.base_model or next(iter(study.base_models))
    names = (trial_name(base, recipe, published.seed) for recipe in published.pair)
    row = measured.get(frozenset(map(by_value, names)))
    cells = [" vs ".join(published.pair), str(published.seed)]
    if published.base_model:
        cells[0] = f"{published.base_model}: {cells[0]}"
    for key in ("l1", "l2"):
        value, found = getattr(published, key), row[key] if row else None
        ratio = found / value if found is not None and value else None
        cells += [number(value), number(found), number(ratio)]
    return (*cells, published.source)
