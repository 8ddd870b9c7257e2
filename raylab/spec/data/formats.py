"""Data formats: each gives the columns of a data set their meaning; a row of FORMATS.

Model: the format of a data set is the one that its study names; else the one whose columns are
all there. Of two formats, where one can read all that the other needs and needs more, it is the
one that needs more; two that are left are an ambiguity for the study to decide. Columns that a
study names stand in for those that a format would look for. A column that no part takes is
named in a warning; one that is known to carry meaning is an error, unless the study ignores it.
Invariant: a row that is returned has no empty text, and its turns alternate; which format a data
set has depends on its columns alone, and nothing is guessed from what its texts say.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from raylab.spec.data.advice import Spelling, fits_none
from raylab.spec.data.cells import Cells, every
from raylab.spec.data.conversations import answer, asked, conversation, turns_of
from raylab.spec.data.layout import Format, make
from raylab.spec.data.preferences import (
    answers_to_messages,
    openai_preference,
    preference,
    rejected_beside,
)
from raylab.spec.data.ranked import best_and_worst, by_sign, first_where
from raylab.spec.data.rows import Row, Turn
from raylab.spec.data.trees import row_of_tree, rows_of_messages
from raylab.spec.sources import COLUMNS, DataSet

MEANINGFUL = {
    "system", "system_prompt", "history", "input", "context", "documents", "tools", "functions",
    "label", "weight", "reasoning", "reasoning_content", "thinking", "image", "images", "audio",
    "audios", "video", "videos", "chat_template_kwargs", "system_message", "rejected_response",
    "rejected_messages", "weights", "loss_weight", "loss_scale", "sample_weight", "train_on",
    "thought", "thoughts", "cot", "chain_of_thought", "tool_calls", "function_call",
    "system_instruction", "system_prompts", "chat_history", "conversation_history", "loss_mask",
    "train_mask", "reasoning_trace", "rationale", "chosen", "rejected",
}  # fmt: skip
"""Columns that change what a row means, in small letters with underscores: not to use one that says
something is an error."""


_SIDES = ("chosen", "rejected")
"""How the columns of the two answers of a pair begin; a study may take one of them alone."""


def study_field(name: str) -> str:
    """A field of a data set as a study has it."""
    return f"`{name}:`"


def option(name: str) -> str:
    """A field of a data set as the command line has it."""
    return f"`--{name}`"


def format_of(
    data: DataSet, columns: Collection[str], called: Spelling = study_field
) -> tuple[str | None, str]:
    """(the name of the format of a data set with `columns`, or None; the problems)."""
    columns = [column for column in columns if column not in data.ignore]
    named = [part for part in COLUMNS if getattr(data, part) is not None]
    possible = _possible(data, named)
    fitting = _fitting(data, possible, columns)
    best = _alike(data, [n for n in fitting if not any(_less(n, other) for other in fitting)])
    if len(best) != 1:
        possible = [n for n in possible if not any(_less(other, n) for other in possible)]
    if len(best) == 1:
        needed = FORMATS[best[0]].columns
        beside = {part: getattr(data, part) for part in ("key", *named) if part not in needed}
        missing = [
            f"{column!r} ({called(part)})"
            for part, column in beside.items()
            if column is not None and column not in columns
        ]
    elif len(possible) == 1:
        names = FORMATS[possible[0]].names(data)
        missing = [
            repr(c) + (f" ({called(part)})" if part in named else "")
            for part, c in names.items()
            if c not in columns
        ]
    else:
        return None, _undecided(best, possible, columns, called)
    name = best[0] if best else possible[0]
    if elsewhere := [part for part in named if part not in FORMATS[name].parts]:
        return None, f"the format {name} has no part {' and '.join(map(called, elsewhere))}"
    there = f"; it has the columns {', '.join(columns)}"
    lacking = f"it lacks the column {' and '.join(missing)}{there}" if missing else ""
    return (None if missing else name), lacking


def _possible(data: DataSet, named: Collection[str]) -> list[str]:
    if data.format is not None:
        return [data.format]
    return [name for name, form in FORMATS.items() if {*named} <= form.parts]


def _fitting(data: DataSet, names: Collection[str], columns: Collection[str]) -> list[str]:
    return [n for n in names if {*FORMATS[n].names(data).values()} <= {*columns}]


def _alike(data: DataSet, names: Sequence[str]) -> list[str]:
    """The first of the formats that read the same columns of this data set in the same way."""
    first: dict[object, str] = {}
    for name in names:
        form = FORMATS[name]
        first.setdefault((form.read, tuple(sorted(form.names(data).items()))), name)
    return list(first.values())


def _less(name: str, other: str) -> bool:
    """Whether the format `other` reads all that `name` needs, and needs more."""
    one, two = FORMATS[name], FORMATS[other]
    return {*one.columns.values()} <= two.known and not {*two.columns.values()} <= one.known


def _undecided(
    best: list[str], possible: list[str], columns: Collection[str], called: Spelling
) -> str:
    if best:
        there = f"its columns are {', '.join(columns)}"
        return f"{there}, which fit {' and '.join(best)}: say which with {called('format')}"
    needed = {name: [*FORMATS[name].columns.values()] for name in possible}
    near = {name: names for name, names in needed.items() if {*names} & {*columns}}
    return fits_none(near, possible, columns, called)


def left_over(
    name: str, data: DataSet, columns: Collection[str]
) -> tuple[Sequence[str], Sequence[str]]:
    """(columns that are known to carry meaning, other columns) that the format `name` leaves.

    What an alternative reading of the same rows would take is no loss where the study chose.
    """
    taken = {*FORMATS[name].taken(data, columns).values(), data.key, *data.ignore}
    free = [column for column in columns if column not in taken]
    others = _fitting(DataSet(path="."), FORMATS, columns) if data.format else []
    elsewhere = {column for other in others for column in FORMATS[other].known}
    if (data.completion or "").startswith(_SIDES):
        elsewhere |= {column for column in free if column.startswith(_SIDES)}
    meant = [
        column
        for column in free
        if column.lower().replace(" ", "_") in MEANINGFUL and column not in elsewhere
    ]
    return meant, [column for column in free if column not in meant]


# The formats


def _of(question: str, reply: str) -> Callable[[Cells], Row]:
    """The reader of a prompt and an answer, each in its column."""

    def read(cells: Cells) -> Row:
        prompt, text = cells.get(question), cells.get(reply)
        # Most rows of most data sets are two texts: this way is the short one to the same row.
        is_plain = "context" not in cells.columns and "history" not in cells.columns
        is_plain &= type(prompt) is type(text) is str and not prompt.rstrip().endswith("Assistant:")
        if is_plain and prompt.strip() and text.strip():
            return Row((Turn("user", prompt), Turn("assistant", text)))
        before, learned = every(lambda: asked(cells, question), lambda: answer(cells, reply))
        return conversation([*before, *learned])

    return read


def _messages(cells: Cells) -> Row:
    return conversation(turns_of(cells, "messages"))


_TEXT = _of("prompt", "completion")
_LABEL = "label=label|kto_tag"
_PROMPTED = "history context=context|input"

FORMATS: dict[str, Format] = {
    "text": make(
        "prompt completion", _TEXT, '{"prompt": "...", "completion": "..."}', optional=_PROMPTED
    ),
    "preference": make(
        "chosen rejected",
        preference,
        '{"prompt": "...", "chosen": "...", "rejected": "..."}',
        optional=f"prompt=prompt|question|instruction|input messages {_PROMPTED}",
    ),
    "messages": make(
        "messages",
        _messages,
        '{"messages": [{"role": "user", "content": "..."}, ...]}',
        optional=_LABEL,
    ),
    "sharegpt": make(
        "messages=conversations",
        _messages,
        '{"conversations": [{"from": "human", "value": "..."}, ...]}',
        optional=_LABEL,
    ),
    "sharegpt-preference": make(
        "messages=conversations chosen rejected",
        answers_to_messages,
        '{"conversations": [...], "chosen": {"from": "gpt", "value": "..."}, "rejected": {...}}',
    ),
    "swift-preference": make(
        "messages rejected=rejected_response",
        rejected_beside,
        '{"messages": [..., {"role": "assistant", "content": "..."}], "rejected_response": "..."}',
    ),
    "alpaca": make(
        "instruction output",
        _of("instruction", "output"),
        '{"instruction": "...", "input": "...", "output": "..."}',
        optional=f"history context=input|context {_LABEL}",
    ),
    "dolly": make(
        "instruction response",
        _of("instruction", "response"),
        '{"instruction": "...", "context": "...", "response": "..."}',
        optional=f"{_PROMPTED} {_LABEL}",
    ),
    "kto": make(
        "prompt completion label",
        _TEXT,
        '{"prompt": "...", "completion": "...", "label": true}',
        optional=_PROMPTED,
    ),
    "helpsteer3": make(
        "context response1 response2 preference=overall_preference",
        by_sign,
        '{"context": [...], "response1": "...", "response2": "...", "overall_preference": -2}',
    ),
    "helpsteer2": make(
        "context=prompt response1=response_1 response2=response_2 preference=preference_strength",
        by_sign,
        '{"prompt": "...", "response_1": "...", "response_2": "...", "preference_strength": 2}',
    ),
    "ultrafeedback": make(
        "prompt=instruction answers=completions",
        best_and_worst("response", "overall_score"),
        '{"instruction": "...", "completions": [{"response": "...", "overall_score": 8}, ...]}',
    ),
    "nectar": make(
        "prompt answers",
        best_and_worst("answer", "rank"),
        '{"prompt": "...", "answers": [{"answer": "...", "rank": 1}, ...]}',
    ),
    "shp": make(
        "prompt=history response1=human_ref_A response2=human_ref_B preference=labels",
        first_where(1, 0),
        '{"history": "...", "human_ref_A": "...", "human_ref_B": "...", "labels": 1}',
    ),
    "saferlhf": make(
        "prompt response1=response_0 response2=response_1 preference=better_response_id",
        first_where(0, 1),
        '{"prompt": "...", "response_0": "...", "response_1": "...", "better_response_id": 0}',
    ),
    "openai-preference": make(
        "messages=input chosen=preferred_output rejected=non_preferred_output",
        openai_preference,
        '{"input": {"messages": [...]}, "preferred_output": [...], "non_preferred_output": [...]}',
    ),
    "oasst": make(
        "id=message_id parent=parent_id role messages=text",
        _messages,
        '{"message_id": "...", "parent_id": null, "role": "prompter", "text": "...", "rank": 0}',
        optional="rank deleted",
        together=rows_of_messages,
    ),
    "oasst-tree": make(
        "tree=message_tree_id messages=prompt",
        row_of_tree,
        '{"message_tree_id": "...", "prompt": {"role": "prompter", "text": "...", "replies": []}}',
    ),
}
