"""What the store holds of a plan: the one answer for every verb, table and worker.

Model: a result belongs to a planned trial or merge if it has its id. Its folder keeps the name
that it was made under, so a recipe, a base model, a data set or a merge that only changes its name
costs nothing: `find_results` gives every planned item the folder that the store has for its id.
Two names of one id are one training: both have the folder of the first. `distinct` leaves what is
to be made, once.
Invariant: nothing is written. Which folder an id has depends on the store and the plan alone. The
records speak of data sets by the names that the plan gives them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from raylab.plan.cache import Questions
from raylab.plan.finished_parents import FinishedParent
from raylab.plan.merges import Asked, PlannedMerge
from raylab.store.filesystem import Store
from raylab.store.records import Record, folders_by_id, read_records

Item = TypeVar("Item", bound=Asked)


@dataclass(frozen=True)
class StoredResults:
    """A plan with the folders of its results, and all sound records of the store by id.

    damaged: a message for each record that cannot be used.
    """

    planned: tuple[Asked, ...]
    records: Mapping[str, Record]
    damaged: tuple[str, ...] = ()

    @property
    def left_out(self) -> list[Record]:
        """The finished results in the store that are none of the plan's."""
        ids = {item.id for item in self.planned}
        return [record for id, record in self.records.items() if id not in ids]


def find_results(
    planned: Sequence[Asked], store: Store, questions: Questions | None = None
) -> StoredResults:
    """What `store` holds of `planned`. Raises StoreError.

    With the study's `questions`, a record that was asked the same under other names of data sets
    has the names of `questions`.
    """
    sound, damaged = read_records(store)
    folders = folders_by_id(store) | {record.id: record.folder for record in sound.values()}
    located = []
    for item in planned:
        folder = folders.setdefault(item.id, item.folder)
        located.append(replace(item, stored_as=folder))
    records = {id: questions.named(record) for id, record in sound.items()} if questions else sound
    return StoredResults(tuple(located), records, tuple(damaged))


def distinct(planned: Iterable[Item]) -> list[Item]:
    """Each training and merge once, under the first of its names, which others refer to as well."""
    items = list(planned)
    first: dict[str, str] = {}
    names = {item.name: first.setdefault(item.id, item.name) for item in items}
    return [_renamed(item, names) for item in items if names[item.name] == item.name]


def _renamed(item: Item, names: Mapping[str, str]) -> Item:
    """`item`, whose parents or models have the names in `names`."""
    if isinstance(item, FinishedParent):
        return item
    if isinstance(item, PlannedMerge):
        return replace(item, needs=tuple(dict.fromkeys(names.get(n, n) for n in item.needs)))
    parent = None if item.parent is None else names.get(item.parent, item.parent)
    return replace(item, parent=parent, lineage=tuple(names.get(n, n) for n in item.lineage))
