"""Inputs outside the study file: base models, finished models, data sets.

Model: each is at a local path or on a hub; a data set may also be other data sets in a row.
Paths are relative to the study file until `anchored` makes them absolute, and reads a chat
template that is a file: so the template travels with the study.
Invariant: exactly one place is given, and what belongs to the other is refused. Nothing else here
touches a file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from raylab.spec.data.templates import read_template, template_text
from raylab.spec.seeds import Seed

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)]


class Frozen(BaseModel):
    """Base of all parts of a study: unknown fields are refused, values cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)


def _absolute(path: str | None, root: Path) -> str | None:
    return None if path is None else str((root / Path(path).expanduser()).resolve())


class Located(Frozen):
    """Something at a local path or on a hub, exactly one of the two."""

    path: str | None = None
    """A local path, relative to the study file."""
    hub: str | None = None
    """A Hugging Face id."""
    revision: str | None = None
    """A commit, tag or branch of the hub id; a commit makes the study reproducible."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.path is None) == (self.hub is None):
            raise ValueError("give exactly one of `path` and `hub`")
        if self.revision is not None and self.hub is None:
            raise ValueError("`revision` belongs to a `hub` id")
        return self

    def anchored(self, root: Path) -> Self:
        """The same with its path made absolute from `root`."""
        return self.model_copy(update={"path": _absolute(self.path, root)})


class BaseModelRef(Located):
    """A base model, from which trainings start."""

    trust_remote_code: bool = False
    """Run the Python code that comes with the model. Off unless you have read it."""
    chat_template: str | None = None
    """How prompts and answers are framed, where not as the model itself does: the name of one of
    `raylab.spec.data.templates.NAMED`, a file relative to the study file, or a Jinja template."""

    @property
    def template(self) -> str | None:
        """The Jinja text of its chat template; None: the model's own."""
        return template_text(self.chat_template)

    def anchored(self, root: Path) -> Self:
        """The same with its path made absolute, and its chat template read, from `root`."""
        found = super().anchored(root)
        if self.chat_template is None:
            return found
        return found.model_copy(update={"chat_template": read_template(self.chat_template, root)})


class FinishedModel(Located):
    """A model that joins comparisons and is never trained: a checkpoint or an adapter."""

    base_model: Name
    """The study's base model that it came from."""
    method: str = "unknown"
    data: str = "unknown"
    seed: Seed | None = None
    """Those that it was trained with, where known: a number, or `{init: 42, order: 7}`."""


def _names(value: object) -> object:
    """Names in one text, with commas between them, as options have them."""
    return tuple(value.split(",")) if isinstance(value, str) else value


COLUMNS = (
    "prompt", "completion", "chosen", "rejected", "messages", "system", "context", "history",
    "tools", "label",
)  # fmt: skip
"""The parts of a row whose columns a study may name."""


class DataSet(Frozen):
    """Rows of prompts and answers: files, a hub id, or other data sets in a row."""

    path: str | None = None
    """A .jsonl (.ndjson, .jsonlines), .json, .csv, .parquet or .arrow file, or a text of these
    that is compressed as .gz, .bz2 or .zst; a directory of one kind of them, or one that
    `save_to_disk` wrote; relative to the study file."""
    hub: str | None = None
    """A Hugging Face data set id."""
    revision: str | None = None
    """A commit, tag or branch of the hub id; a commit makes the study reproducible."""
    config: str | None = None
    """The configuration (subset) of the hub data set, where it has several."""
    data_files: str | tuple[str, ...] | None = None
    """The files of the hub data set that are read, as names or patterns; none: those it names."""
    split: str = "train"
    """The split of the hub data set, or of a directory that `save_to_disk` wrote."""
    concat: tuple[Name, ...] | None = Field(default=None, min_length=1)
    """Names of data sets of this study, one after another."""
    format: (
        Literal[
            "text", "preference", "messages", "sharegpt", "sharegpt-preference",
            "swift-preference", "alpaca", "dolly", "kto", "helpsteer3", "helpsteer2",
            "ultrafeedback", "nectar", "shp", "saferlhf", "openai-preference", "oasst",
            "oasst-tree",
        ]
        | None
    ) = None  # fmt: skip
    """The format of the columns; without it, the columns must fit exactly one format."""
    prompt: str | None = None
    """The column that holds the prompt."""
    completion: str | None = None
    """The column that holds the answer."""
    chosen: str | None = None
    """The column that holds the preferred answer."""
    rejected: str | None = None
    """The column that holds the answer that is not preferred."""
    messages: str | None = None
    """The column that holds a whole conversation, or in a tree the text of a message."""
    system: str | None = None
    """The column that holds the system prompt."""
    context: str | None = None
    """The column whose text follows the prompt, after an empty line."""
    history: str | None = None
    """The column that holds earlier turns, as pairs [question, answer]."""
    tools: str | None = None
    """The column that holds the tools that the model may call."""
    label: str | None = None
    """The column that says whether an answer is one to learn (KTO)."""
    ignore: Annotated[tuple[str, ...], BeforeValidator(_names)] = ()
    """Columns that are not used on purpose."""
    key: str | None = None
    """The column by which DPO pairs rows of two data sets; none: by the prompt."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [key for key in ("path", "hub", "concat") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of `path`, `hub` and `concat`")
        read = [key for key in ("format", "key", *COLUMNS, "ignore") if getattr(self, key)]
        if self.concat is not None and read:
            raise ValueError(f"`{read[0]}` belongs to the data sets that are joined")
        for key in ("revision", "config", "data_files"):
            if getattr(self, key) is not None and self.hub is None:
                raise ValueError(f"`{key}` belongs to a `hub` id")
        return self

    def anchored(self, root: Path) -> Self:
        """The same with its path made absolute from `root`."""
        return self.model_copy(update={"path": _absolute(self.path, root)})
