"""Trees of messages, as Open Assistant publishes them -> one conversation for each tree.

Model: a tree is a message with its replies, nested, or one record for each message with the id of
the message that it replies to. From the root on, the reply of the best rank is followed (0 is the
best; a reply without a rank comes after those that have one; then the order of the file counts).
The conversation ends with the last answer on this path. Deleted messages are not followed.
Invariant: every message is on a path, is counted as left out, or is an error; a tree without an
answer is left out and counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from raylab.spec.data.cells import Cells, LeftOut, RowError, held, is_said
from raylab.spec.data.conversations import ROLES, conversation, messages_to_turns
from raylab.spec.data.rows import Row

Outcome = Row | RowError | LeftOut
OFF_PATH = "a reply of a better rank is followed (one conversation of each tree is learned)"
DELETED = "the message is deleted, or replies to one that is"
NO_ANSWER = "the tree has no answer"
_READ = ("message_id", "parent_id", "text", "role", "rank", "deleted", "replies")
NOT_ANSWERED = "no answer follows the message"

Node = tuple[str, Cells]
"""The place of a message, and the message."""


def rows_of_messages(nodes: Sequence[Node]) -> Iterator[tuple[str, Outcome]]:
    """(place, outcome) of every message; a row has the place of its last answer."""
    counts = Counter(str(cells.get("id")) for _, cells in nodes)
    replies: dict[str, list[Node]] = {}
    roots: list[Node] = []
    sound: list[Node] = []
    for place, cells in nodes:
        if problem := _problem(cells, counts):
            yield place, problem
            continue
        sound.append((place, cells))
        parent = cells.get("parent")
        (replies.setdefault(str(parent), []) if is_said(parent) else roots).append((place, cells))
    reached: set[str] = set()
    for root in roots:
        path = list(_path(root, replies))
        reached |= {place for place, _ in path}
        yield from _outcomes(path)
    dead = _below_deleted(sound)
    for place, cells in sound:
        if place not in reached:
            yield place, LeftOut(DELETED if str(cells.get("id")) in dead else OFF_PATH)


def _problem(cells: Cells, counts: Mapping[str, int]) -> RowError | None:
    identity, parent, rank = (cells.get(part) for part in ("id", "parent", "rank"))
    if not is_said(identity):
        return cells.wrong("id", "the id of the message")
    if counts[str(identity)] > 1:
        return RowError(f"the id of column {cells.columns['id']!r} is that of another message too")
    if is_said(parent) and str(parent) not in counts:
        return RowError(f"no message has the id that column {cells.columns['parent']!r} holds")
    return None if _rank(rank) is not None else cells.wrong("rank", "a number")


def _rank(value: Any) -> float | None:
    """The rank of a reply; infinite: none is said; None: it is no number."""
    if not is_said(value):
        return math.inf
    try:
        rank = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return rank if math.isfinite(rank) else None


def _is_deleted(value: Any) -> bool:
    return str(value).lower() == "true"


def _path(root: Node, replies: Mapping[str, Sequence[Node]]) -> Iterator[Node]:
    """The messages from a root on. Each id is there once, so the path ends."""
    there: Sequence[Node] = [root]
    while there:
        alive = [node for node in there if not _is_deleted(node[1].get("deleted"))]
        if not alive:
            return
        best = min(alive, key=lambda node: _rank(node[1].get("rank")) or 0.0)
        yield best
        there = replies.get(str(best[1].get("id")), ())


def _below_deleted(nodes: Sequence[Node]) -> set[str]:
    """The ids of deleted messages and of all that reply to them."""
    parents = {str(cells.get("id")): str(cells.get("parent")) for _, cells in nodes}
    dead = {str(c.get("id")) for _, c in nodes if _is_deleted(c.get("deleted"))}
    found: set[str] = set()
    for start in parents:
        line, node = [], start
        while node in parents and node not in dead and node not in line:
            line.append(node)
            node = parents[node]
        found |= {*line} if node in dead else set()
    return found | dead


def _outcomes(path: Sequence[Node]) -> Iterator[tuple[str, Outcome]]:
    """The row of a path, at the place of its answer, and what stands behind that."""
    messages = [{"role": c.get("role"), "content": c.get("messages")} for _, c in path]
    end = _end(messages)
    if end == 0:
        yield from ((place, LeftOut(NO_ANSWER)) for place, _ in path)
        return
    place, cells = path[end - 1]
    try:
        turns = messages_to_turns(messages[:end], cells, cells.columns["messages"])
        yield place, conversation(turns)
    except RowError as error:
        yield place, error
    yield from ((behind, LeftOut(NOT_ANSWERED)) for behind, _ in path[end:])


def _end(messages: Sequence[Mapping[str, Any]]) -> int:
    """How many messages there are up to the last answer."""
    answers = [n for n, m in enumerate(messages, 1) if ROLES.get(str(m["role"])) == "assistant"]
    return answers[-1] if answers else 0


def row_of_tree(cells: Cells) -> Row:
    """The conversation of a nested tree. Raises RowError, LeftOut."""
    root = cells.get("messages")
    if not isinstance(root, Mapping):
        raise cells.wrong("messages", "a message with its 'replies'")
    path: list[Mapping[str, Any]] = []
    there: list[Any] = [root]
    while there:
        if wrong := [reply for reply in there if not isinstance(reply, Mapping)]:
            raise RowError(f"'replies' holds {held(wrong[0])}, expected messages")
        ranks = [_rank(reply.get("rank")) for reply in there]
        if None in ranks:
            raise RowError("the 'rank' of a reply is no number")
        alive = [
            (rank, n) for n, rank in enumerate(ranks) if not _is_deleted(there[n].get("deleted"))
        ]
        if len(there) > 1:
            cells.unread.remarks.append(f"replies are not learned where {OFF_PATH}")
        if not alive:
            break
        path.append(there[min(alive)[1]])
        replies = path[-1].get("replies") or []
        if not isinstance(replies, list):
            raise RowError(f"'replies' holds {held(replies)}, expected a list of messages")
        there = replies
    unread = (key for node in path for key in node if key not in _READ)
    cells.unread.fields.update(dict.fromkeys(unread))
    messages = [{"role": node.get("role"), "content": node.get("text")} for node in path]
    if not (end := _end(messages)):
        raise LeftOut(NO_ANSWER)
    return conversation(messages_to_turns(messages[:end], cells, cells.columns["messages"]))
