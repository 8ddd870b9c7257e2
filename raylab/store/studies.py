"""The studies of one OUT: the one that ran last, and those of other names that ran before it.

Model: results in OUT/trials belong to every study that plans them. The study that ran last has
OUT/study.yaml, plan.json, tables/ and report/. When a study of another name begins, `make_room`
moves these four to OUT/studies/<the former study's name>/, which reads like an OUT of its own.
Invariant: no table and no report of a study of another name is overwritten. The files of a study
are complete at one of the two places at any moment; study.yaml tells whose the first one is.
"""

from __future__ import annotations

from pathlib import Path

from raylab.errors import StudyError
from raylab.spec.study_file import parse_study
from raylab.store.filesystem import REPORT, STUDY, TABLES, Store
from raylab.store.study_plan import PLAN, StudyPlan, read_plan

STUDIES = "studies"
_MOVED = ".moved"
"""There while the files at the former place, which are at the new one, are being deleted."""
_PAGES = (".html", ".md")


def study_at(store: Store) -> str | None:
    """The name of the study that ran last; None if there is none, or it cannot be read."""
    if plan := read_plan(store):
        return plan.study
    text = store.read_if_there(STUDY)
    try:
        return parse_study(text.decode(errors="replace"), Path(STUDY)).name if text else None
    except StudyError:
        return None


def store_of_study(store: Store, name: str) -> Store | None:
    """The store whose tables and report are those of the study `name`; None if it has none.

    A store without a study may hold the tables of any.
    """
    last = study_at(store)
    if last == name:
        return store
    moved = _place(store, name)
    if study_at(moved) == name:
        return moved
    return store if last is None else None


def other_studies(store: Store) -> list[Store]:
    """The places of the studies that ran before, and have another name than the last one."""
    places = [_place(store, name) for name in store.names(STUDIES)]
    last = study_at(store)
    return [place for place in places if study_at(place) not in (last, None)]


def other_plans(store: Store) -> list[StudyPlan]:
    """The plans of the studies that ran before."""
    plans = (read_plan(place) for place in other_studies(store))
    return [plan for plan in plans if plan]


def make_room(store: Store, name: str) -> str | None:
    """Move what a study of another name than `name` left to a place of its own.

    Returns the name of that study, or None. Only for a driver that holds the lease.
    """
    if store.exists(_MOVED):
        _delete_moved(store)
    former = study_at(store)
    if former in (name, None):
        return None
    assert former is not None
    target = _place(store, former)
    store.delete(f"{STUDIES}/{former}")
    for folder in (TABLES, REPORT):
        for file in store.files(folder):
            target.write(f"{folder}/{file}", _moved(store, target, f"{folder}/{file}"))
    for key in (STUDY, PLAN):
        if (data := store.read_if_there(key)) is not None:
            target.write(key, data)
    store.write(_MOVED, former.encode())
    _delete_moved(store)
    return former


def _delete_moved(store: Store) -> None:
    for key in (PLAN, STUDY, REPORT, TABLES, _MOVED):
        store.delete(key)


def forget_former_place(store: Store, name: str) -> None:
    """Delete what `make_room` once moved of the study `name`, which has new tables at OUT."""
    store.delete(f"{STUDIES}/{name}")


def _place(store: Store, name: str) -> Store:
    return store.within(f"{STUDIES}/{name}")


def _moved(store: Store, target: Store, key: str) -> bytes:
    """The content of a file; a page names the new places of the files beside it."""
    data = store.read(key)
    if key.endswith(_PAGES):
        for folder in (TABLES, REPORT):
            data = data.replace(store.address(folder).encode(), target.address(folder).encode())
    return data
