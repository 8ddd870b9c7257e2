"""Reads the part of mergekit's YAML that raylab can carry out, and refuses the rest by name.

Model: one mapping with merge_method (a row of `raylab.spec.merge_methods.METHODS`), base_model,
what is merged (models, slices or modules: `raylab.spec.mergekit_layout`), parameters
(`raylab.spec.mergekit_settings`), dtype and out_dtype, and what `raylab.spec.output_tokenizer` and
`raylab.spec.output_template` read. Defaults are mergekit's: density 1, and no division by the
weights but for `ties`, `linear` and `della`.
Invariant: what comes back means what mergekit 0.1.5 documents, but for the differences that
tests/merge/test_peers.py pins: all arithmetic is in float64 whatever `dtype` says, DARE and DELLA
scale by 1 / probability unless `rescale_norm: l1` stands there, and ties at the threshold stay.
int8_mask only saves mergekit memory. What is refused is named with its line, before any model is
looked for. `name`, which published files have, is a label and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raylab.errors import InputError
from raylab.spec.merge_methods import METHODS
from raylab.spec.mergekit_file import Section, read_file, reference
from raylab.spec.mergekit_layout import read_layout
from raylab.spec.mergekit_settings import settings_in
from raylab.spec.merges import MergeRequest, request_merge
from raylab.spec.output_template import read_chat_template
from raylab.spec.output_tokenizer import read_tokenizer

_FIELDS = (
    "merge_method", "base_model", "models", "slices", "modules", "parameters", "dtype", "out_dtype",
    "tokenizer_source", "tokenizer", "chat_template", "name",
)  # fmt: skip
_DTYPES = ("bfloat16", "float16", "float32")


def requested(
    file: Path | None,
    method: str | None,
    models: Sequence[str] | None,
    *,
    scope: str | None,
    seed: int | None,
    **asked: Any,
) -> MergeRequest:
    """The request in `file`, or without one that of the arguments, see `request_merge`.

    Raises InputError where there is a file and anything but scope and seed beside it.
    """
    if file is None:
        return request_merge(method, models or [], scope=scope, seed=seed, **asked)
    beside = {"method": method, "models": models, **asked}
    twice = [name for name, value in beside.items() if value is not None]
    if twice:
        raise InputError(
            f"{file} says what is merged",
            found=f"{', '.join(twice)} beside it",
            expected="the file alone, or with a scope, a seed, and what an adapter is to be",
        )
    return read_mergekit(file, scope=scope, seed=seed)


def read_mergekit(file: Path, *, scope: str | None = None, seed: int | None = None) -> MergeRequest:
    """The request in `file`. scope None: "tensor", as mergekit trims. Raises InputError."""
    config = read_file(file)
    config.check_known(_FIELDS)
    method = config.value("merge_method")
    if not isinstance(method, str) or method not in METHODS:
        raise config.refused("merge_method", ", ".join(METHODS))
    row = METHODS[method]
    base = _base_model(config)
    layout = read_layout(config, method, base)
    return request_merge(
        method,
        layout.models,
        base=layout.base,
        scope=scope or ("tensor" if row.trims else None),
        seed=seed,
        dtype=_dtype(config),
        slices=layout.slices,
        tokenizer=read_tokenizer(config, layout.base),
        chat_template=read_chat_template(config),
        **settings_in(layout.levels, method, layout.places),
    )


def _base_model(config: Section) -> str | None:
    if config.value("base_model") is None:
        return None
    return reference(config, "base_model").name(None)


def _dtype(config: Section) -> str | None:
    for field in ("out_dtype", "dtype"):
        if config.value(field) not in (None, *_DTYPES):
            raise config.refused(field, ", ".join(_DTYPES))
    found: str | None = config.value("out_dtype") or config.value("dtype")
    return found
