"""Which tokenizer a merge's output has, and what stands in rows of tokens that a model lacks.

Model: a source is `union` (the tokens of all models), `base` (the tokenizer of the base model, or
of the first model where there is none), or a model, whose tokenizer it is. For a token a row may
be named: of a model, of another token of a model, or zeros; the token is added to the tokenizer if
it is not in it.
Invariant: what is asked can be carried out as far as its words go; whether a model has a token is
known when the models are open (`raylab.merge.token_map`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from raylab.errors import InputError
from raylab.spec.mergekit_file import Section, reference

UNION, BASE = "union", "base"
_FIELDS = ("source", "tokens", "pad_to_multiple_of")
_ROW = "MODEL, {kind: model_token, model: ..., token or token_id: ...}, or {kind: zero}"


@dataclass(frozen=True)
class TokenRow:
    """The row that models get for a token that they lack, or with `force` all models.

    model: whose row it is; None: zeros. token: another token of that model, or the number of a row;
    None: the token itself.
    """

    model: str | None
    token: str | int | None = None
    force: bool = False


@dataclass(frozen=True)
class OutputTokenizer:
    """What is asked of the output's tokenizer.

    source: union, base, or a model as it is named. tokens: tokens that the output has in any case,
    with their rows; None: what a token without a word of its own gets. pad_to: the number of rows
    is a multiple of it.
    """

    source: str = UNION
    tokens: Mapping[str, TokenRow | None] = field(default_factory=dict)
    pad_to: int = 1


def asked_tokenizer(source: str | None) -> OutputTokenizer | None:
    """What the command line asks for. Raises InputError."""
    if source is None:
        return None
    if not source.strip():
        raise InputError(
            "a tokenizer has no name", found=repr(source), expected="union, base, or a model"
        )
    return OutputTokenizer(source)


def read_tokenizer(config: Section, base: str | None) -> OutputTokenizer | None:
    """`tokenizer_source` or `tokenizer` of mergekit's file; None without either.

    base: the file's base model. Raises InputError.
    """
    source, whole = config.value("tokenizer_source"), config.value("tokenizer")
    if whole is None:
        return (
            None if source is None else OutputTokenizer(_source(config, "tokenizer_source", base))
        )
    if source is not None:
        raise config.refused("tokenizer", "tokenizer_source or tokenizer, not both")
    found = config.section("tokenizer")
    found.check_known(_FIELDS)
    pad = found.value("pad_to_multiple_of")
    if not (pad is None or (type(pad) is int and pad > 0)):
        raise found.refused("pad_to_multiple_of", "a whole number from 1 on")
    given = found.value("source")
    listed = found.section("tokens")
    return OutputTokenizer(
        source=UNION if given is None else _source(found, "source", base),
        tokens={_name(token, listed): _row(listed.section(token), base) for token in listed.values},
        pad_to=pad or 1,
    )


def _name(token: object, listed: Section) -> str:
    """The token that a field of `listed` names. Raises InputError."""
    if not isinstance(token, str | int) or isinstance(token, bool):
        raise InputError(
            f"{listed.file}, line {listed.line_of(token)}: a token is a text",
            found=repr(token),
            expected="a token in quotes",
        )
    return str(token)


def _source(section: Section, field: str, base: str | None) -> str:
    value = section.value(field)
    return str(value) if value in (UNION, BASE) else reference(section, field).name(base)


def _row(section: Section, base: str | None) -> TokenRow | None:
    """What one entry of `tokens` says."""
    section.check_known(("source", "force"))
    source, force = section.value("source"), section.value("force")
    if force not in (None, True, False):
        raise section.refused("force", "true or false")
    if source is None:
        if force:
            raise section.refused("force", "a source beside it")
        return None
    kind = source.get("kind") if isinstance(source, Mapping) else None
    if kind is None:
        return TokenRow(reference(section, "source").name(base), force=bool(force))
    whole = section.section("source")
    if kind == "zero":
        whole.check_known(("kind",))
        return TokenRow(None, force=bool(force))
    if kind != "model_token":
        raise section.refused("source", _ROW)
    whole.check_known(("kind", "model", "token", "token_id"))
    return TokenRow(reference(whole, "model").name(base), _token(whole), bool(force))


def _token(section: Section) -> str | int:
    """The one of `token` and `token_id` that is given."""
    token, id = section.value("token"), section.value("token_id")
    if isinstance(token, str) and id is None:
        return token
    if token is None and type(id) is int and id >= 0:
        return id
    raise section.refused("token" if id is None else "token_id", "a token, or its id as token_id")
