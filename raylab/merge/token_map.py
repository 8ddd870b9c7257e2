"""Tokens -> rows: where every row of the output's embedding and head comes from.

Model: a member that has a token keeps its own row. What a member gets for a token that it lacks is
the first rule of RULES that applies:

    asked   the token has a word of its own in the request
    only    one member has it: that member's row, so that no other says anything of it
    base    the base model has it: its row, so that the member's task vector is zero there
    mean    several have it, and no base model: the mean of their rows
    zero    nobody has it

With `force` what is asked counts for all members. A row of no token (a gap of the ids, or what
`pad_to` adds) is the mean of a member's rows of tokens (Hewitt 2021, "Initializing New Word
Embeddings for Pretrained Language Models"). Rows of a member's matrix beyond its tokenizer, or of
tokens that the output lacks, are left out.
Invariant: the account is complete: every token is in all members, or filled by one rule; every row
is a token's, or padding; every row of a member's matrix is used by a token, or left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raylab.errors import InputError, ModelError
from raylab.merge.output_vocabulary import Member, OutputVocabulary
from raylab.spec.output_tokenizer import OutputTokenizer, TokenRow
from raylab.weights.row_map import FILLED, PADDING, RowMap, Source

_NAMED = 5
"""Tokens of a rule that the account names."""
_SAID = {
    "asked": "with a row that was asked for",
    "only": "in one model alone",
    "base": "lacking in a model, where the base model's row stands",
    "mean": "lacking in a model, where a mean stands",
    "zero": "in no model, of zeros",
}


@dataclass(frozen=True)
class Case:
    """A token that a member lacks, or that is forced.

    having: the members that count and have it, with their rows; base: the base model's, where there
    is one; asked: the sources that the request names.
    """

    having: tuple[Source, ...]
    base: Source | None
    asked: tuple[Source, ...] | None


RULES: Mapping[str, Callable[[Case], tuple[Source, ...] | None]] = {
    "asked": lambda case: case.asked,
    "only": lambda case: case.having if len(case.having) == 1 else None,
    "base": lambda case: (case.base,) if case.base else None,
    "mean": lambda case: case.having or None,
    "zero": lambda case: (),
}
"""By name, in order: the rows whose mean a member gets; None where the rule does not apply."""


@dataclass(frozen=True)
class TokenMap:
    """The map of rows, and its account as the record has it."""

    rows: RowMap
    account: Mapping[str, Any]


def map_tokens(
    asked: OutputTokenizer,
    members: Sequence[Member],
    output: OutputVocabulary,
    *,
    has_base: bool,
) -> TokenMap:
    """The map of the members' rows; `has_base`: whether members[0] is a base model.

    Raises InputError and ModelError where a row that is asked for does not exist.
    """
    token_of = {id: token for token, id in output.ids.items()}
    size = max(token_of) + 1
    size += -size % asked.pad_to
    own = tuple(np.full(size, PADDING, dtype=np.int64) for _ in members)
    for rows, member in zip(own, members, strict=True):
        for id, token in token_of.items():
            rows[id] = member.vocabulary.get(token, FILLED)
    fills: dict[int, tuple[Source, ...]] = {}
    rules: dict[str, list[str]] = {name: [] for name in RULES}
    chosen = {t: _asked_sources(t, row, members) for t, row in asked.tokens.items() if row}
    stacked = np.stack(own)
    forced = {output.ids[t] for t, row in asked.tokens.items() if row and row.force}
    for id in sorted({*np.flatnonzero((stacked == FILLED).any(axis=0)).tolist(), *forced}):
        token = token_of[id]
        held = [(i, int(row)) for i, row in enumerate(stacked[:, id]) if row >= 0]
        having = tuple(source for source in held if members[source[0]].counts)
        base = held[0] if has_base and held and held[0][0] == 0 else None
        rule, fills[id] = _filled(Case(having, base, chosen.get(token)))
        rules[rule].append(token)
        if id in forced:
            for rows in own:
                rows[id] = FILLED
    found = RowMap(own, fills)
    return TokenMap(found, _account(asked, members, output, found, rules))


def _filled(case: Case) -> tuple[str, tuple[Source, ...]]:
    for name, rule in RULES.items():
        sources = rule(case)
        if sources is not None:
            return name, sources
    raise AssertionError("the last rule applies always")


def _asked_sources(token: str, row: TokenRow, members: Sequence[Member]) -> tuple[Source, ...]:
    if row.model is None:
        return ()
    number = next((i for i, m in enumerate(members) if m.name == row.model), None)
    if number is None:
        raise InputError(
            f"the row of the token {token!r} is to come from a model that is not merged",
            found=row.model,
            expected=", ".join(dict.fromkeys(member.name for member in members)),
        )
    member, wanted = members[number], token if row.token is None else row.token
    place = member.vocabulary.get(wanted) if isinstance(wanted, str) else wanted
    if place is None or place >= member.rows:
        raise ModelError(
            f"the row of the token {token!r} is to come from one that {row.model} has not",
            found=repr(wanted),
            expected=f"a token of it, or a number below {member.rows}",
        )
    return ((number, place),)


def _account(
    asked: OutputTokenizer,
    members: Sequence[Member],
    output: OutputVocabulary,
    found: RowMap,
    rules: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    tokens = len({*output.ids.values()})
    filled = {name: len(listed) for name, listed in rules.items()}
    having = Counter(t for m in members if m.counts for t in m.vocabulary if t in output.ids)
    return {
        "source": asked.source,
        "tokens": tokens,
        "rows": found.rows,
        "padding": found.rows - tokens,
        "in_all": tokens - sum(filled.values()),
        "filled": filled,
        "examples": {name: list(listed[:_NAMED]) for name, listed in rules.items() if listed},
        "added": len(output.added),
        **({"literal": output.literal} if output.literal else {}),
        "models": [
            _account_of(member, number, found, having, output)
            for number, member in enumerate(members)
            if member.counts
        ],
    }


def token_lines(account: Mapping[str, Any]) -> list[str]:
    """The account of `map_tokens` for the terminal: all tokens, then each member."""
    filled = [f"{count:,} {_SAID[rule]}" for rule, count in account["filled"].items() if count]
    counts = [f"{account['in_all']:,} in all models", *filled]
    lines = [f"  {account['tokens']:,} tokens ({account['source']}): {', '.join(counts)}"]
    if account["padding"]:
        lines[0] += f"; {account['padding']:,} rows of no token"
    if account.get("literal"):
        lines.append(
            f"  {account['literal']:,} words of other tokenizers are added tokens: text has them "
            "letter for letter, or not at all"
        )
    for row in account["models"]:
        parts = [f"{row['tokens']:,} tokens, {row['only']:,} in it alone"]
        if row["left_out"]:
            parts.append(f"{row['left_out']:,} of {row['rows']:,} rows left out")
        if row.get("without_row"):
            parts.append(f"{row['without_row']:,} tokens have no row")
        if "tokenizer" in row:
            parts.append("no tokenizer of its own: the base model's is taken")
        lines.append(f"  {row['model']}: {', '.join(parts)}")
    return lines


def _account_of(
    member: Member,
    number: int,
    found: RowMap,
    having: Counter[str],
    output: OutputVocabulary,
) -> dict[str, Any]:
    own = found.own[number]
    used = len(np.unique(own[own >= 0]))
    without_row = len(member.known) - len(member.vocabulary)
    return {
        "model": member.name,
        **({"tokenizer": "assumed"} if member.is_assumed else {}),
        "rows": member.rows,
        "tokens": len(member.vocabulary),
        **({"without_row": without_row} if without_row else {}),
        "only": sum(having[token] == 1 for token in member.vocabulary if token in output.ids),
        "used": used,
        "left_out": member.rows - used,
    }
