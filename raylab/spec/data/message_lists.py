"""The shapes in which data sets keep a conversation -> a list of messages.

Model: most have a list of objects with a role and a text. Others have texts that take turns, as
LIMA, pairs of a question and its answer, as Capybara, or an object of lists, as `datasets` keeps a
sequence of objects.
Invariant: nothing is left out; a list of another shape comes back as it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

ROLE_FIELDS, TEXT_FIELDS = ("role", "from"), ("content", "value", "text")
"""The fields of a message that may hold its role and its text, the first that is there."""
_MESSAGE = {*ROLE_FIELDS, *TEXT_FIELDS}
_PAIRS = (("input", "output"), ("human", "assistant"), ("user", "assistant"))
"""The fields of a question and its answer that are one item of a list."""


def messages_in(value: Any) -> list[Any]:
    """The messages of a cell; empty where it holds none."""
    value = _rows(value)
    messages = [value] if isinstance(value, Mapping) else value
    return _messages(messages) if isinstance(messages, list) and messages else []


def _messages(values: list[Any]) -> list[Any]:
    """Messages for texts that take turns, as LIMA has them, and for pairs, as Capybara has them.

    Other lists come back unchanged.
    """
    first = values[0]
    if isinstance(first, Mapping) and not _MESSAGE.isdisjoint(first):
        return values
    if all(isinstance(value, str) for value in values):
        roles = itertools.cycle(("user", "assistant"))
        return [{"role": role, "content": text} for role, text in zip(roles, values, strict=False)]
    pair = next((pair for pair in _PAIRS if _are_pairs(values, pair)), None)
    if pair is None:
        return values
    return [
        message
        for value in values
        for message in (
            {"role": "user", "content": value[pair[0]]},
            {**{k: v for k, v in value.items() if k not in pair},
             "role": "assistant", "content": value[pair[1]]},
        )
    ]  # fmt: skip


def _rows(value: Any) -> Any:
    """A list of objects for an object of lists, as `datasets` keeps a sequence of objects."""
    lists = list(value.values()) if isinstance(value, Mapping) else []
    if not lists or not all(isinstance(items, list) for items in lists):
        return value
    if len({len(items) for items in lists}) != 1:
        return value
    return [dict(zip(value, items, strict=True)) for items in zip(*lists, strict=True)]


def _are_pairs(values: Sequence[Any], pair: tuple[str, str]) -> bool:
    return all(
        isinstance(value, Mapping) and value.keys() >= {*pair} and not _MESSAGE & value.keys()
        for value in values
    )
