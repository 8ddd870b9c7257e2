"""Rows with two answers -> a row with its rejected answer beside the chosen one.

Model: the conversation up to the answers stands beside them (a prompt, a list of messages), or
both sides are whole conversations that share their beginning. HH-RLHF writes such conversations
as one text. A prompt that stands beside whole conversations says the same again: where it does
not, a warning names the row. Answers that are scored or voted on are read by `ranked`.
Invariant: both answers follow the same turns; conversations that part before their last answer
are refused with the turn where they part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raylab.spec.data.calls import tools_of
from raylab.spec.data.cells import Cells, RowError, every, is_said, parsed
from raylab.spec.data.conversations import (
    MESSAGES,
    answer,
    asked,
    conversation,
    is_messages,
    messages_to_turns,
    refuse_beside,
    turns_of,
)
from raylab.spec.data.rows import Row, Turn
from raylab.spec.data.transcripts import asked_in_transcript, transcript


def preference(cells: Cells) -> Row:
    """The row of `chosen` and `rejected`: texts, messages, or whole conversations."""
    if _begins(cells, "chosen"):
        chosen, rejected = every(lambda: _whole(cells, "chosen"), lambda: _whole(cells, "rejected"))
        _compare_beside(cells, chosen)
        return pair(chosen, rejected)
    before, chosen, rejected = every(
        lambda: _before(cells),
        lambda: answer(cells, "chosen"),
        lambda: answer(cells, "rejected"),
    )
    return pair([*before, *chosen], [*before, *rejected])


def _begins(cells: Cells, part: str) -> bool:
    """Whether a part holds a whole conversation, and not an answer alone."""
    value = cells.get(part)
    if isinstance(value, str):
        return not _beside(cells) or _repeats_prompt(cells, value)
    return is_messages(value) and turns_of(cells, part)[0].role != "assistant"


def _repeats_prompt(cells: Cells, text: str) -> bool:
    """Whether a text is a transcript that begins with what the prompt beside it says."""
    turns, prompt = transcript(text), cells.get("prompt")
    if len(turns) < 2 or not isinstance(prompt, str):
        return False
    if before := asked_in_transcript(prompt):
        return turns[:-1] == before
    return turns[:-1] == [Turn("user", prompt.strip())]


def _beside(cells: Cells) -> str | None:
    """The part that holds the conversation up to the answers, if the record has one."""
    return next((p for p in ("prompt", "messages") if is_said(cells.get(p))), None)


def _whole(cells: Cells, part: str) -> list[Turn]:
    if is_messages(cells.get(part)):
        return turns_of(cells, part)
    text = cells.text(part, f"text or {MESSAGES}")
    turns = transcript(text)
    if "prompt" in cells.columns and not turns:
        cells.text("prompt")
    if not turns:
        raise RowError(
            f"column {cells.columns[part]!r} is an answer without a prompt, expected a column that "
            "holds the prompt (name it), messages, or a transcript '\\n\\nHuman: ...\\n\\n"
            "Assistant: ...'"
        )
    return turns


def _before(cells: Cells) -> list[Turn]:
    part = _beside(cells)
    if part is None:
        raise RowError("the answers have no prompt, expected a column that holds it (name it)")
    if part == "prompt" and is_said(cells.get("messages")):
        prompt, turns = asked(cells, "prompt"), turns_of(cells, "messages")
        if turns[: len(prompt)] != prompt:
            cells.unread.remarks.append(_says_else(cells, "messages"))
        return prompt
    if part == "prompt":
        return asked(cells, "prompt")
    refuse_beside(cells)
    return turns_of(cells, "messages")


def _compare_beside(cells: Cells, turns: Sequence[Turn]) -> None:
    """Whether what stands beside a whole conversation says the same; else a remark."""
    refuse_beside(cells)
    prompt, spoken = cells.get("prompt"), [t.text.strip() for t in turns if t.role == "user"]
    if isinstance(prompt, str) and prompt.strip():
        same = prompt.strip() in spoken or all(text in prompt for text in spoken)
    elif is_messages(prompt):
        same = _is_start(turns_of(cells, "prompt"), turns)
    else:
        same = True
    if not same:
        cells.unread.remarks.append(_says_else(cells, "prompt"))
    if is_messages(cells.get("messages")) and not _is_start(turns_of(cells, "messages"), turns):
        cells.unread.remarks.append(_says_else(cells, "messages"))


def _is_start(some: Sequence[Turn], turns: Sequence[Turn]) -> bool:
    return list(turns[: len(some)]) == list(some)


def _says_else(cells: Cells, part: str) -> str:
    return f"column {cells.columns[part]!r} is not used; it says something else than the others"


def pair(chosen: Sequence[Turn], rejected: Sequence[Turn]) -> Row:
    """The row of two conversations that part in their last answer. Raises RowError."""
    if chosen[-1].learned is False or rejected[-1].learned is False:
        raise RowError("an answer of the pair has the weight 0; both answers of a pair are learned")
    number = next(
        (n for n, both in enumerate(zip(chosen, rejected, strict=False)) if _differ(*both)),
        min(len(chosen), len(rejected)) - 1,
    )
    if len(chosen) != len(rejected) or number < len(chosen) - 1:
        raise RowError(
            "chosen and rejected answer different conversations: they part at turn "
            f"{number + 1} ({_shown(chosen, number)} and {_shown(rejected, number)}), expected "
            "that they part in the last answer alone"
        )
    row, other = conversation(chosen), conversation(rejected)
    return row._replace(rejected=other.turns[-1]._replace(learned=None))


def _differ(one: Turn, other: Turn) -> bool:
    return one[:3] != other[:3]


def _shown(turns: Sequence[Turn], number: int) -> str:
    turn = turns[number]
    return f"{turn.role} {turn.text!r:.40}"


def answers_to_messages(cells: Cells) -> Row:
    """The row of a conversation whose two answers stand in columns of their own."""
    before, chosen, rejected = every(
        lambda: turns_of(cells, "messages"),
        lambda: answer(cells, "chosen"),
        lambda: answer(cells, "rejected"),
    )
    if chosen[0].role != "assistant" or before[-1].role == "assistant":
        return preference(cells)
    return pair([*before, *chosen], [*before, *rejected])


def rejected_beside(cells: Cells) -> Row:
    """ms-swift: messages that end in the chosen answer, and the rejected one beside them."""
    chosen, rejected = every(lambda: turns_of(cells, "messages"), lambda: answer(cells, "rejected"))
    if chosen[-1].role != "assistant":
        raise cells.wrong("messages", "messages that end in the chosen answer")
    return pair(chosen, [*chosen[:-1], *rejected])


def openai_preference(cells: Cells) -> Row:
    """OpenAI's preference fine-tuning: `input` is an object with messages and tools."""
    asks = parsed(cells.get("messages"), "{")
    if not isinstance(asks, Mapping) or not isinstance(asks.get("messages"), list):
        raise cells.wrong("messages", "an object with 'messages'")
    for name in asks:
        if name not in ("messages", "tools"):
            cells.unread.fields[f"{cells.columns['messages']}.{name}"] = None
    before, chosen, rejected = every(
        lambda: messages_to_turns(asks["messages"], cells, cells.columns["messages"]),
        lambda: answer(cells, "chosen"),
        lambda: answer(cells, "rejected"),
    )
    row = pair([*before, *chosen], [*before, *rejected])
    return row._replace(tools=tools_of(asks.get("tools"), "tools"))
