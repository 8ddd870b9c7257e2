"""What the report says of answers that fall short, and of answers that models did not give.

Model: a marked model is an item with what it is marked for and an example; a comparison that was
left out is one with the reason; how likely held-out answers are is a table with a column for
each data set.
Invariant: pure functions of rows; nothing to say gives no block.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from raylab.report.blocks import Block, Column, Grid, Item, Items
from raylab.report.numbers import number, plural
from raylab.report.summary import Rows

_MOST_NAMED = 3


def mark_blocks(tables: Mapping[str, Rows]) -> Iterator[Block]:
    """Every marked trial and merge: what for, an example, and what rests on it."""
    found = [row for row in tables["trials"] if row["marked"]]
    if found:
        items = (_marked(row["name"], row["marks"], tables["norms"]) for row in found)
        yield Items(tuple(items))


def _marked(name: str, marks: str, norms: Rows) -> Item:
    resting = [row["comparison"] for row in norms if name in (row["a"], row["b"])]
    return Item(name, f"marked: {marks}.{_listed('Compared in', resting)}", "fair")


def _listed(what: str, names: Sequence[str]) -> str:
    unique = list(dict.fromkeys(names))
    if not unique:
        return ""
    more = f" and {len(unique) - _MOST_NAMED} more" if len(unique) > _MOST_NAMED else ""
    return f" {what} {', '.join(unique[:_MOST_NAMED])}{more}."


def left_out_blocks(tables: Mapping[str, Rows]) -> Iterator[Block]:
    """The comparisons that are not measured because the study leaves out marked models."""
    found = [row for row in tables["comparisons"] if "left out:" in (row["message"] or "")]
    if found:
        yield Items(tuple(Item(row["comparison"], row["message"], "fair") for row in found))


def likelihood_blocks(tables: Mapping[str, Rows]) -> Iterator[Block]:
    """How likely every model finds the held-out answers of every data set."""
    rows = tables["likelihoods"]
    if not rows:
        return
    columns = list(dict.fromkeys(row["data"] for row in rows))
    cells = {(row["name"], row["data"]): number(row["log_probability"]) for row in rows}
    names = dict.fromkeys(row["name"] for row in rows)
    yield Grid(
        "How likely held-out answers are",
        (Column("trial", "text"), *map(Column, columns)),
        tuple((name, *(cells.get((name, data), "") for data in columns)) for name in names),
        note=f"All {plural(len(names), 'model')}. The mean log-probability of a token of the "
        "answers that each data set has for held-out prompts, in nats.",
    )
