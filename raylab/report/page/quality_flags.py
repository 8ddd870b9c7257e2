"""What the report says of answers that fall short, and of answers that models did not give.

Model: a marked model is an item with what it is marked for and an example; a comparison that was
left out is one with the reason; how likely held-out answers are is a table with a column for
each data set.
Invariant: pure functions of rows; nothing to say gives no block.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from raylab.number_format import number
from raylab.report.page.blocks import Block, Column, Grid, Item, Items
from raylab.report.study_tables import Row, Rows
from raylab.report.words import Translator


def mark_blocks(translate: Translator, tables: Mapping[str, Rows]) -> Iterator[Block]:
    """Every marked trial and merge: what for, an example, and what rests on it."""
    found = [row for row in tables["trials"] if row["marked"]]
    if found:
        yield Items(tuple(_marked(translate, row, tables["norms"]) for row in found))


def _marked(translate: Translator, row: Row, norms: Rows) -> Item:
    name = row["name"]
    resting = dict.fromkeys(r["comparison"] for r in norms if name in (r["a"], r["b"]))
    compared = translate("marks-compared", names=tuple(resting)) if resting else ""
    return Item(name, translate("marks-marked", marks=row["marks"], compared=compared), "fair")


def left_out_blocks(tables: Mapping[str, Rows]) -> Iterator[Block]:
    """The comparisons that are not measured because the study leaves out marked models."""
    found = [row for row in tables["comparisons"] if "left out:" in (row["message"] or "")]
    if found:
        yield Items(tuple(Item(row["comparison"], row["message"], "fair") for row in found))


def likelihood_blocks(translate: Translator, tables: Mapping[str, Rows]) -> Iterator[Block]:
    """How likely every model finds the held-out answers of every data set."""
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
