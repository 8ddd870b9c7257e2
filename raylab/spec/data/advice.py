"""Advice on columns that fit no format: which of them may be the prompt, the answer, the turns.

Model: columns have usual names, from which the advice says how the user may name them.
Invariant: advice decides nothing. One name has many uses, and the user says which.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

Spelling = Callable[[str], str]
"""How a user writes a field of a data set."""

USUAL = {
    "messages": ("messages", "conversations", "conversation", "dialogue", "dialog", "chat", "data",
                 "turns", "transcript"),
    "prompt": ("prompt", "instruction", "question", "query", "problem", "input", "inputs", "text",
               "source", "質問", "指示"),
    "completion": ("completion", "response", "answer", "output", "outputs", "target", "targets",
                   "solution", "回答", "応答", "出力"),
    "chosen": ("chosen", "chosen_response", "response_chosen", "preferred", "accepted",
               "better_response", "response_j", "winner"),
    "rejected": ("rejected", "rejected_response", "response_rejected", "dispreferred", "refused",
                 "worse_response", "response_k", "loser"),
}  # fmt: skip
"""Usual names of the columns of a part, in small letters, the likeliest first."""

_CHOICES = (("prompt", "chosen", "rejected"), ("messages",), ("prompt", "completion"))
"""Parts that make a row together, the first choice first."""

_PARTS = {"system": "system", "history": "history", "tools": "tools", "functions": "tools",
          "input": "context", "context": "context", "document": "context"}  # fmt: skip
"""Words in the names of columns that carry meaning, and the part that each may be."""


def carries_meaning(column: str, form: str, parts: Collection[str], called: Spelling) -> str:
    """The problem of a column that the format `form`, which reads `parts`, has no use for."""
    found = (part for word, part in _PARTS.items() if word in column.lower() and part in parts)
    part = next(found, None)
    named = f"name it ({called(part)}), " if part else ""
    if column.lower().startswith(("chosen", "rejected")):
        named = f"name both answers ({called('chosen')} and {called('rejected')}), "
    return (
        f"column {column!r} carries meaning, and the format {form} has no use for it: put it into "
        f"the texts, {named}choose another {called('format')}, or leave it out with "
        f"{called('ignore')}"
    )


def fits_none(
    near: Mapping[str, Collection[str]],
    every: Collection[str],
    columns: Collection[str],
    called: Spelling,
) -> str:
    """The problem of columns that fit no format, and what may help.

    near: the columns that each format needs which has one of `columns`; every: all formats.
    """
    needs = [f"{name} {', '.join(map(repr, needed))}" for name, needed in near.items()]
    some = "; ".join(needs) or f"{', '.join(every)}; docs/data.md shows a row of each"
    named = f"name columns, as in {called('prompt')} and {called('completion')}"
    return (
        f"its columns are {', '.join(columns)}, which fit no format ({some}): {named}"
        f"{_perhaps(columns, called)}"
    )


def _perhaps(columns: Collection[str], called: Spelling) -> str:
    """What the usual names of columns say about them."""
    lower = {column.lower(): column for column in reversed([*columns])}
    found = {
        part: next((lower[name] for name in names if name in lower), None)
        for part, names in USUAL.items()
    }
    for parts in _CHOICES:
        if all(found[part] for part in parts):
            return f" (perhaps {', '.join(f'{called(part)} {found[part]!r}' for part in parts)})"
    return (
        "; rows of other shapes need their turns in a column of messages, or a prompt and its "
        "answer (for pairs: `chosen` and `rejected`) in columns of their own"
    )
