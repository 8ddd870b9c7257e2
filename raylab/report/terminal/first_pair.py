"""The first pair of a study in a terminal: how large its difference is, and what its models answer.

Model: `pair_lines` takes the norms of one comparison and the answers of both models to the prompts
that they share. Prompts whose answers differ come first.
Invariant: one line for each text, cut to a terminal's usual width; a text of several lines is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.cells import cell_len, chop_cells

from raylab.number_format import short

_PROMPTS = 3
_WIDTH = 100
"""Columns of a line; a letter of Japanese takes two."""

Row = Mapping[str, Any]


def pair_lines(norms: Row, answers_a: Sequence[Row], answers_b: Sequence[Row]) -> Iterator[str]:
    """Lines on one comparison: its norms, then some prompts with the first answers of both.

    norms: the comparison's own row of table `norms`. answers: rows of `samples.jsonl`.
    """
    a, b = norms["a"], norms["b"]
    yield f"first pair: {a} - {b}  L2 {short(norms['l2'])}  L1 {short(norms['l1'])}"
    of_a, of_b = (
        {row["prompt"]: row["answer"] for row in rows if not row.get("draw")}
        for rows in (answers_a, answers_b)
    )
    shared = [prompt for prompt in of_a if prompt in of_b]
    prompts = sorted(shared, key=lambda prompt: of_a[prompt] == of_b[prompt])
    column = max(len(a), len(b))
    for prompt in prompts[:_PROMPTS]:
        yield _cut(f"  {prompt}")
        yield _cut(f"    {a:<{column}}  {of_a[prompt]}")
        yield _cut(f"    {b:<{column}}  {of_b[prompt]}")


def _cut(text: str) -> str:
    """`text` as one line of at most _WIDTH columns."""
    line = text.replace("\n", " ")
    return line if cell_len(line) <= _WIDTH else chop_cells(line, _WIDTH - 1)[0] + "…"
