"""What was printed earlier, beside what was measured.

Model: each printed norm belongs to a pair of trials; the row of the norms table with the same two
sides, in either order, is what was measured, and the ratio is measured over printed.
Invariant: a pure function of rows; every printed value has a row, one that was not measured too.
"""

from __future__ import annotations

from collections.abc import Iterator

from raylab.number_format import number
from raylab.report.page.blocks import Block, Column, Grid
from raylab.report.study_tables import VIEW, Row, Rows
from raylab.report.words import Translator
from raylab.spec.published_norms import Printed
from raylab.spec.recipes import trial_name
from raylab.spec.study import Study

_NORMS = tuple(
    f"{norm}_{what}" for norm in ("l1", "l2") for what in ("printed", "measured", "ratio")
)
_COLUMNS = ("pair", "seed", *_NORMS, "source")


def reference_blocks(translate: Translator, study: Study, norms: Rows) -> Iterator[Block]:
    """One table of what the study says was printed; nothing where it says nothing."""
    if not study.reference:
        return
    measured = {
        frozenset((row["a"], row["b"])): row
        for row in norms
        if row["level"] == "all" and row["view"] == VIEW
    }
    lines = tuple(_line(printed, _found(study, printed, measured)) for printed in study.reference)
    columns = tuple(
        Column(translate.column(name), "text" if name in ("pair", "source") else "number")
        for name in _COLUMNS
    )
    note = translate("note-printed")
    yield Grid(translate("grid-printed"), columns, lines, note=note, name="printed")


def _found(study: Study, printed: Printed, measured: dict[frozenset[str], Row]) -> Row | None:
    base = printed.base_model or next(iter(study.base_models))
    names = (trial_name(base, recipe, printed.seed) for recipe in printed.pair)
    return measured.get(frozenset(names))


def _line(printed: Printed, row: Row | None) -> tuple[str, ...]:
    cells = [" vs ".join(printed.pair), str(printed.seed)]
    if printed.base_model:
        cells[0] = f"{printed.base_model}: {cells[0]}"
    for key in ("l1", "l2"):
        value, found = getattr(printed, key), row[key] if row else None
        ratio = found / value if found is not None and value else None
        cells += [number(value), number(found), number(ratio)]
    return (*cells, printed.source)
