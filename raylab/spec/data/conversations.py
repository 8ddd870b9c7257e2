"""Lists of messages -> turns: roles, texts, what else templates read, and what is learned.

Model: a message is an object with a role and a text, by the names of OpenAI (`role`, `content`) or
of ShareGPT (`from`, `value`). What templates read beside the text (reasoning, tool calls) is kept
in the form that transformers documents for them: tool calls with arguments that are objects, tools
as functions. `weight`, `train` and their like say which answers are learned.
Invariant: a conversation has at most one system turn, at its beginning; user and assistant take
turns, and the results of tools follow the turn that called them; its last turn is an answer that
is learned. A field that no template reads is named in a warning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raylab.spec.data.calls import calls_of, stable, written
from raylab.spec.data.cells import Cells, RowError, held, is_said, parsed
from raylab.spec.data.message_lists import ROLE_FIELDS, TEXT_FIELDS, messages_in
from raylab.spec.data.rows import Row, Turn
from raylab.spec.data.transcripts import asked_in_transcript, transcript

ROLES = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model", "bot", "ai"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "observation", "function", "tool_response", "ipython"), "tool"),
}
CALLS = ("function_call", "tool_call")
"""Roles of a turn whose text is a call, as LLaMA-Factory's ShareGPT has it."""
READ_BY_TEMPLATES = (
    "name", "reasoning", "reasoning_content", "thinking", "tool_call_id", "tool_calls",
)  # fmt: skip
UNREADABLE = {
    **dict.fromkeys(
        ("train_detail", "train_on", "mask", "loss_mask"),
        "says what is learned in another form; put it as 0 or 1 into 'weight'",
    ),
    **dict.fromkeys(("tools", "functions"), "stands in a turn; put the tools into a column"),
    "function_calls": "holds calls in another form; put them into 'tool_calls'",
    **dict.fromkeys(
        ("thought", "thoughts", "cot", "reasoning_details"),
        "holds reasoning in another form; put it as a text into 'reasoning_content'",
    ),
    **dict.fromkeys(("image", "images", "audio", "audios", "video", "videos"), "is no text"),
}
"""Fields of a turn that change what it means and that nothing here reads: an error."""
WEIGHTS = ("weight", "train", "training", "trainable", "train_on_turn", "learn", "loss",
           "loss_weight", "loss_scale")  # fmt: skip
"""Fields by which a turn says whether it is learned."""
MASKS = ("masked", "ignore_loss")
"""Fields by which a turn says that it is not learned; false says nothing."""
MESSAGES = "a list of messages"


def turns_of(cells: Cells, part: str) -> list[Turn]:
    """The turns of a part that holds messages, or one of them. Raises RowError."""
    value = parsed(cells.get(part), "[{")
    if isinstance(value, str) and (turns := transcript(value)):
        return turns
    messages = messages_in(value)
    if not messages:
        raise cells.wrong(part, MESSAGES)
    return messages_to_turns(messages, cells, cells.columns.get(part, part))


def messages_to_turns(messages: Sequence[Any], cells: Cells, column: str) -> list[Turn]:
    """A turn for each message of a column. Raises RowError."""
    return [
        _plain(message) or _turn(message, f"column {column!r}, turn {number}", cells)
        for number, message in enumerate(messages, 1)
    ]


def _plain(message: Any) -> Turn | None:
    """The turn of a message of a role and a text alone, as most are: a short way to the same."""
    if type(message) is not dict or len(message) != 2:
        return None
    role, text = message.get("role"), message.get("content")
    if role is None:
        role, text = message.get("from"), message.get("value")
    kind = ROLES.get(role) if type(role) is str else None
    return Turn(kind, text) if kind is not None and type(text) is str else None


def _turn(message: Any, where: str, cells: Cells) -> Turn:
    if not isinstance(message, Mapping):
        raise RowError(f"{where} holds {held(message)}, expected an object with "
                       "'role' and 'content'")  # fmt: skip
    role_key = next((key for key in ROLE_FIELDS if is_said(message.get(key))), None)
    text_key = next((key for key in TEXT_FIELDS if message.get(key) is not None), None)
    called = is_said(message.get("tool_calls")) or is_said(message.get("function_call"))
    has_text = any(key in message for key in TEXT_FIELDS)
    if role_key is None or not (has_text or called):
        names = ", ".join(map(repr, message)) or "no field"
        raise RowError(f"{where} has {names}, expected 'role' and 'content'")
    role = message[role_key]
    if isinstance(role, str) and role not in ROLES:
        role = role.lower()
    if not isinstance(role, str) or role not in (*ROLES, *CALLS):
        known = ", ".join((*ROLES, *CALLS))
        raise RowError(f"{where} is of the role {role!r}, not one of {known}")
    where = f"{where} ({role})"
    if text_key is None and not called:
        raise RowError(f"{where} holds nothing as its content, expected text")
    text = "" if text_key is None else _text(message[text_key], where)
    more, learned = _beside(message, {role_key, text_key}, where, cells)
    if role in CALLS:
        more, text = {**more, "tool_calls": calls_of(text, where)}, ""
    kind = ROLES.get(role, "assistant")
    if kind != "assistant" and learned:
        raise RowError(f"{where} is marked as learned; only answers are learned")
    return Turn(kind, text, written(more) if more else "", learned if kind == "assistant" else None)


def _text(value: Any, where: str) -> str:
    """The text of a message: a text, or the texts of its parts, joined as templates join them."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value:
        return "".join(_part(part, where) for part in value)
    raise RowError(f"{where} holds {held(value)} as its content, expected text or parts of text")


def _part(part: Any, where: str) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type", "text") if isinstance(part, Mapping) else held(part)
    if kind not in ("text", "input_text", "output_text") or not isinstance(part.get("text"), str):
        raise RowError(f"{where} has a part of the type {kind!r}; raylab trains on text alone")
    return str(part["text"])


def _beside(
    message: Mapping[str, Any], read: set[str | None], where: str, cells: Cells
) -> tuple[dict[str, Any], bool | None]:
    """The fields beside role and text that templates read; whether the turn is learned."""
    more: dict[str, Any] = {}
    learned = None
    for key, value in message.items():
        if key in read or not is_said(value):
            continue
        if key in WEIGHTS:
            learned = _learned(key, value, where)
        elif key in MASKS:
            learned = False if _learned(key, value, where) else learned
        elif key in ("tool_calls", "function_call"):
            more["tool_calls"] = calls_of(value, where)
        elif key in READ_BY_TEMPLATES:
            more[key] = stable(value, f"{where}: {key}")
        elif key in UNREADABLE:
            raise RowError(f"{where}: the field {key!r} {UNREADABLE[key]}")
        else:
            cells.unread.fields[key] = None
    return more, learned


def _learned(key: str, value: Any, where: str) -> bool:
    if value not in (0, 1):
        raise RowError(
            f"{where} has the {key} {value!r}; a turn is learned or not, expected 0 or 1"
        )
    return bool(value)


def conversation(turns: Sequence[Turn]) -> Row:
    """The row that ends at the last learned answer of `turns`. Raises RowError."""
    answers = [n for n, turn in enumerate(turns) if turn.role == "assistant"]
    if answers and turns[answers[-1]].learned is False:
        learned = [n for n in answers if turns[n].learned is not False]
        if not learned:
            raise RowError("no answer is learned: the weights of all of them are 0")
        turns = turns[: learned[-1] + 1]
    _check_order(turns)
    for number, turn in enumerate(turns, 1):
        # Without a system turn some templates write a prompt of their own: an empty one says none.
        if turn.role != "system" and not turn.text.strip() and "tool_calls" not in turn.more:
            raise RowError(f"a turn is empty: turn {number} ({turn.role})")
    return Row(tuple(turns))


_FOLLOWS: Mapping[str, tuple[str, ...]] = {
    "": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("tool", "assistant"),
}
"""The roles that may follow a turn of a role."""


def _check_order(turns: Sequence[Turn]) -> None:
    spoken = turns[1:] if turns and turns[0].role == "system" else turns
    before = ""
    for turn in spoken:
        if turn.role not in _FOLLOWS[before]:
            break
        before = turn.role
    else:
        if before == "assistant":
            return
    raise RowError(
        f"the turns are {', '.join(turn.role for turn in turns)}; expected user and assistant in "
        "turn, ending with assistant (a system turn first; a tool after the answer that calls it)"
    )


# Prompts and answers that stand in columns of their own


def is_messages(value: Any) -> bool:
    """Whether a cell holds messages, or one."""
    items = value if isinstance(value, list) else [value]
    return bool(items) and all(isinstance(item, Mapping) for item in items)


def asked(cells: Cells, part: str) -> list[Turn]:
    """The turns before the answer: `history`, then the prompt with its context; or messages."""
    if is_messages(cells.get(part)):
        refuse_beside(cells)
        return turns_of(cells, part)
    prompt = cells.text(part, f"text or {MESSAGES}")
    if turns := asked_in_transcript(prompt):
        refuse_beside(cells)
        return turns
    context = cells.optional_text("context")
    return [*_history(cells), Turn("user", f"{prompt}\n\n{context}" if context else prompt)]


def refuse_beside(cells: Cells) -> None:
    """Raises RowError where a context or earlier turns stand beside messages."""
    for part in ("context", "history"):
        if is_said(cells.get(part)):
            raise RowError(
                f"column {cells.columns[part]!r} stands beside messages, which have their own "
                "turns; put it into them"
            )


def _history(cells: Cells) -> list[Turn]:
    """Alpaca's earlier turns: a list of questions with their answers."""
    history = parsed(cells.get("history"))
    if not is_said(history):
        return []
    turns: list[Turn] = []
    for pair in history if isinstance(history, list) else [history]:
        texts = list(pair) if isinstance(pair, (list, tuple)) else []
        if len(texts) != 2 or not all(isinstance(text, str) and text.strip() for text in texts):
            raise cells.wrong("history", "a list of pairs [question, answer]")
        turns += [Turn("user", texts[0]), Turn("assistant", texts[1])]
    return turns


def answer(cells: Cells, part: str) -> list[Turn]:
    """The turns of an answer: one of a text, or messages. Each answer among them is learned."""
    value = cells.get(part)
    if not is_messages(value):
        return [Turn("assistant", cells.text(part, f"text or {MESSAGES}"))]
    turns = turns_of(cells, part)
    if len(turns) == 1 or turns[0].role != "assistant":
        return turns
    return [
        turn._replace(learned=True) if turn[0] == "assistant" and turn.learned is None else turn
        for turn in turns
    ]
