"""The evaluation of trained models: prompts, decoding, and limits for the rates of answers.

Model: a model answers held-out prompts greedily, and if asked by sampling too; rates of its
greedy answers are held against limits, and a model that breaks one is marked.
Invariant: nothing here changes a trained adapter, so nothing here is part of a trial's id; what
says how answers are judged afterwards (`JUDGED_LATER`) does not even ask again.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, field_validator

from raylab.spec.sources import Frozen

Share = Annotated[float, Field(ge=0, le=1)]


class Ending(Frozen):
    """A style of the study's own."""

    ending: str = Field(min_length=1)
    """A regular expression for the end of a sentence, before its closing punctuation."""

    @field_validator("ending")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from error
        return pattern


class Limits(Frozen):
    """The limits of rates beyond which a model is marked; null: no limit.

    A limit that the data's own answers to the same prompts break says nothing of the model, and
    is not applied: an English study needs no other limits, and a limit on style holds for the
    models that were trained towards the style.
    """

    japanese_rate: Share | None = 0.5
    """The least share of answers that are Japanese."""
    stopped_rate: Share | None = 0.5
    """The least share that end by themselves within `max_new_tokens`."""
    repetition_rate: Share | None = 0.3
    """The most that repeat themselves."""
    distinct_rate: Share | None = 0.1
    """The least share of answers that are distinct."""
    style_rate: Share | None = None
    """The least share in the study's style."""


LIMITS = Limits()
"""The limits of a study that gives none."""


class Evaluation(Frozen):
    """The prompts and decoding for trained models. They change no adapter and no trial id."""

    prompts: int = Field(default=32, ge=0)
    """How many held-out prompts are answered, greedily."""
    max_new_tokens: int = Field(default=64, ge=1)
    sampled: int = Field(default=0, ge=0)
    """How many more answers are drawn for each prompt, from random states of their own that
    follow from the trial's seed (`init`, where it is not one number). The trials table counts
    greedy answers alone."""
    temperature: float = Field(default=1.0, gt=0)
    """Of sampled answers."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Of sampled answers: draw among the likeliest tokens that together have this probability."""
    likelihoods: bool = True
    """Take the likelihood of the held-out answers of every data set."""
    functions: bool | None = None
    """Compare what all models of a base model predict, token by token, on held-out answers and on
    their own (tables `functions`, `cka`, `differing_tokens`); null: where there are held-out
    answers."""
    style: str | Ending | None = None
    """The ending rule that `style_rate` counts: one of `raylab.spec.scoring.styles.STYLES`, or
    `{ending: <regular expression>}`."""
    limits: Limits = LIMITS
    """Limits; a model beyond one is marked in every table and in the report."""
    leave_out_marked: bool = False
    """Do not compare models that are marked; the table of comparisons says so."""
    every_epochs: float | None = Field(default=1.0, gt=0)
    """How often the held-out loss is taken while training; null: only at the end."""


JUDGED_LATER = frozenset({"limits", "leave_out_marked", "every_epochs", "functions"})
"""Fields that do not change the prompts or the decoding."""
