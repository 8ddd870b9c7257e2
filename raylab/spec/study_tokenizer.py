"""The tokenizer of a merge's output, as a study asks for it.

Model: `tokenizer:` of a merge is a source (union, base, or a finished model of the study), or a
mapping with the fields that mergekit's `tokenizer:` has. The row of a token comes from a model of
the merge, called as its `models` call it, or from `base`, its base model.
Invariant: a source alone, and a mapping that says no more, ask for the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, Self

from pydantic import Field, StrictBool, StrictInt, model_validator

from raylab.spec.output_tokenizer import BASE, UNION, OutputTokenizer, TokenRow, asked_tokenizer
from raylab.spec.proposals import unknown
from raylab.spec.sources import Frozen
from raylab.spec.swept_names import by_value


class RowSource(Frozen):
    """The row of another token of a model (`model_token`), or zeros (`zero`)."""

    kind: Literal["model_token", "zero"]
    model: str | None = None
    token: str | None = None
    token_id: StrictInt | None = Field(default=None, ge=0)
    """The number of the row, in the place of `token`."""

    @model_validator(mode="after")
    def _of_kind(self) -> Self:
        given = [k for k in ("model", "token", "token_id") if getattr(self, k) is not None]
        if self.kind == "zero" and given:
            raise ValueError(f"kind zero takes no {given[0]}")
        if self.kind == "model_token" and given not in (["model", "token"], ["model", "token_id"]):
            raise ValueError("kind model_token takes a `model`, and `token` or `token_id`")
        return self


class AskedToken(Frozen):
    """A token that the output has in any case."""

    source: str | RowSource | None = None
    """Whose row models get that lack it: a model of the merge, `base`, or a mapping; null: as for
    any other token."""
    force: StrictBool = False
    """All models get that row, also those that have the token."""

    @model_validator(mode="after")
    def _has_source(self) -> Self:
        if self.force and self.source is None:
            raise ValueError("`force` takes a `source` beside it")
        return self

    @property
    def model(self) -> str | None:
        """The model that the row is of."""
        return self.source.model if isinstance(self.source, RowSource) else self.source

    def row(self, names: Mapping[str, str]) -> TokenRow | None:
        """What is asked; `names`: of models in the request, by their names in the study."""
        if self.source is None:
            return None
        # A name that is none of the merge's is refused by `wrong_names`.
        name = None if self.model is None else names.get(by_value(self.model), self.model)
        if not isinstance(self.source, RowSource):
            return TokenRow(name, force=self.force)
        own = self.source.token if self.source.token_id is None else self.source.token_id
        return TokenRow(name, own, self.force)


class MergeTokenizer(Frozen):
    """The output's tokenizer, its tokens with rows of their own, and the number of its rows."""

    source: str = UNION
    """`union`, `base`, or a finished model."""
    tokens: dict[str, AskedToken] = Field(default_factory=dict)
    """By token: where its row comes from. Tokens that the tokenizer lacks are added."""
    pad_to_multiple_of: StrictInt = Field(default=1, ge=1)
    """The number of rows is a multiple of it."""


def requested_tokenizer(
    asked: str | MergeTokenizer | None, names: Mapping[str, str], base: str
) -> OutputTokenizer | None:
    """What a request asks for; `names`: of its models, by their names in the study.

    Raises InputError.
    """
    if not isinstance(asked, MergeTokenizer):
        return asked_tokenizer(asked)
    known = {BASE: base, **{by_value(name): found for name, found in names.items()}}
    rows = {token: found.row(known) for token, found in asked.tokens.items()}
    return OutputTokenizer(asked.source, rows, asked.pad_to_multiple_of)


def wrong_names(
    asked: str | MergeTokenizer, models: tuple[str, ...], finished: list[str]
) -> Iterator[tuple[tuple[str, ...], str]]:
    """(place below `tokenizer`, message) for each name that is no source. models: of the merge;
    finished: of the study."""
    is_mapping = isinstance(asked, MergeTokenizer)
    source = asked.source if isinstance(asked, MergeTokenizer) else asked
    if source not in (known := [UNION, BASE, *finished]):
        yield ("source",) * is_mapping, unknown("tokenizer of a merge", source, known)
    if not isinstance(asked, MergeTokenizer):
        return
    of_merge = {by_value(name) for name in (BASE, *models)}
    for token, found in asked.tokens.items():
        if found.model is not None and by_value(found.model) not in of_merge:
            what = unknown("model of the merge", found.model, [BASE, *models])
            yield ("tokens", token, "source"), what
