"""One row of a data set as a model will see it, with what is learned of it marked.

Model: by turns, each with its role, what it holds, and whether it is learned; with a tokenizer as
its chat template frames it. Without marks of the data, `learn` says what is learned. In text the
learned part stands in brackets, which need no colour.
Invariant: JSON has the whole row; text cuts long turns and says by how much.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from raylab.spec.data.framing import Framed, Framer, FramingError, Learn, learned_turns
from raylab.spec.data.rows import Row, Turn

BEGIN, END = "[[", "]]"
_LONGEST = 600


def example_of(
    row: Row, place: str, framer: Framer | None = None, learn: Learn = "last"
) -> dict[str, Any]:
    """The document of a row: its turns, its tools, its rejected answer, and its framed text.

    `framed` is there where a framer frames the row; `learned_spans` are the characters of it that
    are learned, as (first, one after the last).
    """
    learned = learned_turns(row, learn)
    shown: dict[str, Any] = {
        "row": place,
        "turns": [_turn(turn, number in learned) for number, turn in enumerate(row.turns)],
    }
    try:
        if framer:
            framed = framer.frame(row, learn)
            shown |= {"framed": framed.text, "learned_spans": [list(s) for s in framed.learned]}
    except FramingError:
        pass  # It is shown by turns; what is wrong is a problem of the data set.
    if tools := row.tools_given:
        shown["tools"] = tools
    if row.rejected:
        shown["rejected"] = _turn(row.rejected, False)
    return shown


def _turn(turn: Turn, learned: bool) -> dict[str, Any]:
    more = json.loads(turn.more) if turn.more else {}
    return {"role": turn.role, "text": turn.text, **more, "learned": learned}


def example_lines(shown: Mapping[str, Any]) -> Iterator[str]:
    """The lines that show an example in a terminal."""
    yield f"example, row {shown['row']} (what is learned stands in {BEGIN} {END}):"
    if "framed" in shown:
        spans = tuple((first, after) for first, after in shown["learned_spans"])
        yield from _indented(Framed(shown["framed"], spans).marked(BEGIN, END))
    elif "tools" in shown:
        yield from _indented(f"[tools] {json.dumps(shown['tools'], ensure_ascii=False)}")
    for turn in () if "framed" in shown else shown["turns"]:
        said = _said(turn)
        yield from _indented(
            f"[{turn['role']}] {BEGIN}{said}{END}"
            if turn["learned"]
            else f"[{turn['role']}] {said}"
        )
    if "rejected" in shown:
        yield from _indented(f"[rejected] {_said(shown['rejected'])}")


def _said(turn: Mapping[str, Any]) -> str:
    """The text of a turn, cut where it is long, and its other fields."""
    more = {k: v for k, v in turn.items() if k not in ("role", "text", "learned")}
    parts = [json.dumps(more, ensure_ascii=False)] if more else []
    return " ".join([*parts, *([cut(turn["text"])] if turn["text"] else [])])


def cut(text: str, most: int = _LONGEST) -> str:
    """The beginning and the end of a long text."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]} ... ({len(text) - 2 * half} characters) ... {text[-half:]}"


def _indented(text: str) -> Iterator[str]:
    """The lines of a text; what would steer a terminal is written out."""
    for line in text.split("\n"):
        plain = "".join(c if c.isprintable() or c == "\t" else repr(c)[1:-1] for c in line)
        yield f"  {plain}"
