"""Reads the part of mergekit's YAML that raylab can carry out, and refuses the rest by name.

Model: one mapping with merge_method (a row of `raylab.spec.merge_methods.METHODS`), models (each
with `model` and its own parameters), base_model, parameters (`raylab.spec.mergekit_settings`),
dtype and out_dtype, and what `raylab.spec.output_tokenizer` reads. Defaults are
mergekit's: density 1, and no division by the weights but for `ties` and `linear`. A model that is
the base itself adds nothing to a merge of task vectors and is left out; `base+adapter` is the
adapter, and `other+adapter` the whole model that both make. What `linear` calls its base_model is
one of the models, the last where it is not listed: mergekit averages it with them in any case.
Invariant: what comes back means what mergekit 0.1.5 documents, but for the differences that
tests/merge/test_peers.py pins: all arithmetic is in float64 whatever `dtype` says, DARE and DELLA
scale by 1 / probability unless `rescale_norm: l1` stands there, and ties at the threshold stay.
int8_mask only saves mergekit memory. What is refused is named with its line, before any model is
looked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raylab.errors import InputError
from raylab.spec.merge_methods import METHODS
from raylab.spec.mergekit_file import Section, read_file, reference
from raylab.spec.mergekit_settings import Level, Levels, settings_in
from raylab.spec.merges import MergeRequest, request_merge
from raylab.spec.output_tokenizer import read_tokenizer

_FIELDS = (
    "merge_method", "base_model", "models", "parameters", "dtype", "out_dtype", "tokenizer_source",
    "tokenizer",
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
            expected="the file alone, or with a scope and a seed",
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
    models = _models(config, base, leaves_base_out=row.of != "values")
    if row.of == "values" and base and all(name != base for name, _ in models):
        models.append((base, config.empty))
    if method == "slerp":
        models = _from_base(config, models, base)
    levels = Levels([[Level(own)] for _, own in models], [Level(config.section("parameters"))])
    return request_merge(
        method,
        [name for name, _ in models],
        base=base,
        scope=scope or ("tensor" if row.trims else None),
        seed=seed,
        dtype=_dtype(config),
        tokenizer=read_tokenizer(config, base),
        **settings_in(levels, method, [own for _, own in models]),
    )


def _models(
    config: Section, base: str | None, *, leaves_base_out: bool
) -> list[tuple[str, Section]]:
    """(model, its own parameters) in the order of the file."""
    found = []
    for entry in config.sections("models"):
        entry.check_known(("model", "parameters"))
        name = reference(entry, "model").name(base)
        own = entry.section("parameters")
        if name != base or not leaves_base_out:
            found.append((name, own))
    return found


def _base_model(config: Section) -> str | None:
    if config.value("base_model") is None:
        return None
    base, adapter = reference(config, "base_model")
    if adapter:
        raise config.refused("base_model", "a checkpoint, no adapter")
    return base


def _from_base(
    config: Section, models: list[tuple[str, Section]], base: str | None
) -> list[tuple[str, Section]]:
    """The two models of slerp, which starts at the base_model."""
    if base is None:
        raise config.refused("base_model", "slerp's first model")
    return sorted(models, key=lambda model: model[0] != base)


def _dtype(config: Section) -> str | None:
    for field in ("out_dtype", "dtype"):
        if config.value(field) not in (None, *_DTYPES):
            raise config.refused(field, ", ".join(_DTYPES))
    found: str | None = config.value("out_dtype") or config.value("dtype")
    return found
