"""What OUT holds beside the results of a study, so that no report leaves anything out in silence.

Model: a finished result that the plan of a study lacks belongs to another study in OUT, or to an
earlier version of this one.
Invariant: every finished result in OUT is a row of the study, or is counted here. Nothing is
written.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from raylab.number_format import plural
from raylab.store.filesystem import REPORT, Store
from raylab.store.records import read_records
from raylab.store.studies import other_plans, other_studies, study_at
from raylab.store.study_plan import StudyPlan

_SHOWN = 5


def left_out(store: Store, plan: StudyPlan) -> list[str]:
    """The names of the finished results in `store` that `plan` lacks, sorted.

    A result of another study in the store has the name that this study gives it, and its study.
    """
    ids = {item.id for item in plan.results}
    others = other_plans(store)
    names = []
    for record in read_records(store).sound.values():
        if record.id in ids:
            continue
        owner = next((other for other in others if other.result(record.id)), None)
        names.append(f"{owner.named(record).name} ({owner.study})" if owner else record.name)
    return sorted(names)


def lines_of(store: Store, study: str, names: Sequence[str]) -> list[str]:
    """Lines for a terminal: what the tables of `study` leave out, and where other studies lie.

    names: those of `left_out`.
    """
    lines = []
    if names:
        lines.append(
            f"OUT holds {plural(len(names), 'finished result')} that the study {study} does not "
            f"have; its tables leave them out: {some_of(names)}"
        )
    last = study_at(store)
    if last not in (study, None):
        lines.append(f"the study {last} ran last; its report: {store.address(REPORT)}")
    for other in other_studies(store):
        if (name := study_at(other)) != study:
            lines.append(f"the study {name} ran before; its report: {other.address(REPORT)}")
    return lines


def missing_rows(wanted: Sequence[str], found: Collection[str]) -> str | None:
    """A line if tables that have rows for `found` lack some of `wanted`, or have others."""
    lacking = [name for name in wanted if name not in found]
    foreign = [name for name in found if name not in wanted]
    if not lacking and not foreign:
        return None
    parts = []
    if lacking:
        parts.append(f"lack {len(lacking)} of {plural(len(wanted), 'row')} ({some_of(lacking)})")
    if foreign:
        parts.append(f"have {len(foreign)} that the study does not name ({some_of(foreign)})")
    return f"the tables are those of another version of the study: they {' and '.join(parts)}"


def some_of(names: Sequence[str]) -> str:
    """The first few of `names`, and how many more there are."""
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
