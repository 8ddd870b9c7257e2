"""The best schedule of a few trials, by trying every order, and what makes a schedule valid."""

from __future__ import annotations

import itertools


def best_makespan(parents, durations, slots):
    """The least time in which all trials can end; some list schedule always reaches it."""
    return min(_list_makespan(order, parents, durations, slots) for order in _orders(parents))


def _orders(parents):
    """Every order in which parents come before children."""
    for order in itertools.permutations(parents):
        place = {name: index for index, name in enumerate(order)}
        if all(p not in place or place[p] < place[name] for name, p in parents.items()):
            yield order


def _list_makespan(order, parents, durations, slots):
    """Each trial in `order` starts as early as its parent and the first free slot allow."""
    free, ends = [0] * slots, {}
    for name in order:
        slot = min(range(slots), key=free.__getitem__)
        ends[name] = free[slot] = max(free[slot], ends.get(parents[name], 0)) + durations[name]
    return max(ends.values(), default=0)


def problems(placed, parents, durations, slots):
    """Everything that forbids this schedule, in words; an empty list for a valid one."""
    by_name = {item.name: item for item in placed}
    found = [] if sorted(by_name) == sorted(parents) and len(placed) == len(parents) else ["names"]
    for item in placed:
        if item.end - item.start != durations[item.name] or not 0 <= item.slot < slots:
            found.append(f"{item.name} has another duration or slot")
        if parents[item.name] in by_name and by_name[parents[item.name]].end > item.start:
            found.append(f"{item.name} before its parent")
    for one, other in itertools.combinations(placed, 2):
        if one.slot == other.slot and one.start < other.end and other.start < one.end:
            found.append(f"{one.name} and {other.name} at once")
    return found + [f"{i.name} waited" for i in placed if _waited(i, placed, parents, slots)]


def _waited(item, placed, parents, slots):
    """Whether a slot was free at some moment between its being ready and its start."""
    ready = next((other.end for other in placed if other.name == parents[item.name]), 0)
    moments = {other.end for other in placed} | {0, ready}
    return any(
        sum(other.start <= moment < other.end for other in placed) < slots
        for moment in moments
        if ready <= moment < item.start
    )
