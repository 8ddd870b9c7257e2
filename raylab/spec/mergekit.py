"""Reads the part of mergekit's YAML that raylab can carry out, and refuses the rest by name.

Model: one mapping with merge_method (a row of `raylab.spec.merge_methods.METHODS`), models (each
with `model` and its own weight and density), base_model, parameters (those of the models, lambda,
normalize, int8_mask, rescale), dtype and out_dtype, and tokenizer_source: base. A weight or a
density is a number, a gradient, or a list of these with filters. A model's own parameter comes
before the common one, which counts for the tensors that no own filter matches. Defaults are
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

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raylab.errors import InputError
from raylab.spec.merge_methods import METHODS
from raylab.spec.merge_settings import Part, Setting, setting_of
from raylab.spec.mergekit_file import Section, read_file, reference
from raylab.spec.merges import MergeRequest, Rescale, request_merge

_FIELDS = (
    "merge_method", "base_model", "models", "parameters", "dtype", "out_dtype", "tokenizer_source",
)  # fmt: skip
_COMMON = ("weight", "density", "lambda", "normalize", "int8_mask", "rescale", "rescale_norm")
_OF_A_MODEL = ("weight", "density")
_DTYPES = ("bfloat16", "float16", "float32")
_NORMALIZED = ("ties", "linear", "della")
_WEIGHTS = {"karcher": 1.0}
"""Where mergekit weighs all models alike, and knows no weight."""
_SETTING = "a number, a gradient of numbers, or a list of {filter, value} with these"


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
    common = config.section("parameters")
    shared = _COMMON if row.combines == "entries" else ("weight", "int8_mask")
    common.check_known((*shared, *row.parameters))
    _flag(common, "int8_mask", False)
    if config.value("tokenizer_source") not in (None, "base"):
        raise config.refused("tokenizer_source", "base")
    base = _base_model(config)
    models = _models(config, base, leaves_base_out=row.of != "values")
    if row.of == "values" and base and all(name != base for name, _ in models):
        models.append((base, config.empty))
    if method == "slerp":
        models = _from_base(config, models, base)
    trims = row.keeps != "all"
    for section in (common, *(own for _, own in models)):
        if not trims and section.value("density") is not None:
            raise section.refused("density", f"none, since {method} keeps all entries")
    return request_merge(
        method,
        [name for name, _ in models],
        base=base,
        weights=_weights(method, common, models),
        density=[_setting(own, common, "density", 1.0) for _, own in models] if trims else None,
        scope=scope or ("tensor" if row.trims else None),
        scaling=_lambda(common),
        seed=seed,
        normalize=_flag(common, "normalize", method in _NORMALIZED),
        rescale=_rescale(method, common),
        dtype=_dtype(config),
        parameters={
            name: common.value(name) for name in row.parameters if common.value(name) is not None
        },
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
        own.check_known(_OF_A_MODEL)
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


def _weights(
    method: str, common: Section, models: list[tuple[str, Section]]
) -> list[Setting] | None:
    if METHODS[method].weighs:
        default = _WEIGHTS.get(method)
        return [_setting(own, common, "weight", default) for _, own in models]
    for section in (common, *(own for _, own in models)):
        if section.value("weight") is not None:
            raise section.refused("weight", f"none, since {method} has no weights")
    return None


def _setting(own: Section, common: Section, field: str, default: float | None) -> Setting:
    parts = [part for section in (own, common) for part in _parts(section, field)]
    if default is not None:
        parts.append(Part((default,)))
    if not parts:
        raise InputError(
            f"{own.where}: a model has no {field}", expected=f"{field} for every model, or for all"
        )
    return setting_of(parts)


def _parts(section: Section, field: str) -> list[Part]:
    value = section.value(field)
    if value is None:
        return []
    points = _points(value)
    if points:
        return [Part(points)]
    listed = value if isinstance(value, list) else [value]
    if not listed or not all(isinstance(item, Mapping) for item in listed):
        raise section.refused(field, _SETTING)
    found = []
    for item in section.sections(field):
        item.check_known(("filter", "value"))
        points, text = _points(item.value("value")), item.value("filter")
        if not points:
            raise item.refused("value", "a number, or a gradient of numbers")
        if not isinstance(text, str | None):
            raise item.refused("filter", "a part of the names of tensors")
        found.append(Part(points, None if text in ("*", "") else text))
    return found


def _points(value: Any) -> tuple[float, ...]:
    """A number, or the numbers of a gradient; empty if it is neither."""
    listed = value if isinstance(value, list) else [value]
    if all(isinstance(item, int | float) and not isinstance(item, bool) for item in listed):
        return tuple(map(float, listed))
    return ()


def _lambda(common: Section) -> float | None:
    points = _points(common.value("lambda"))
    if common.value("lambda") is not None and len(points) != 1:
        raise common.refused("lambda", "one number")
    return points[0] if points else None


def _flag(given: Section, field: str, default: bool) -> bool:
    value = given.value(field)
    if value not in (None, True, False):
        raise given.refused(field, "true or false")
    return default if value is None else bool(value)


def _rescale(method: str, common: Section) -> Rescale | None:
    """`rescale: true` restores the L1 norm; DARE has 1 / density unless rescale_norm is l1."""
    row, norm = METHODS[method], common.value("rescale_norm")
    is_on = _flag(common, "rescale", row.draws)
    if norm not in (None, "l1") or (norm and not is_on):
        raise common.refused("rescale_norm", "l1, where rescale is true")
    if is_on and row.keeps == "all":
        raise common.refused("rescale", f"false, since {method} keeps all entries")
    if not is_on:
        return "none"
    return "l1" if norm or not row.draws else "density"


def _dtype(config: Section) -> str | None:
    for field in ("out_dtype", "dtype"):
        if config.value(field) not in (None, *_DTYPES):
            raise config.refused(field, ", ".join(_DTYPES))
    found: str | None = config.value("out_dtype") or config.value("dtype")
    return found
