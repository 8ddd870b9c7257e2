"""Reads the part of mergekit's YAML that raylab can carry out, and refuses the rest by name.

Model: one mapping with merge_method (a row of `raylab.spec.merges.METHODS`), models (each with
`model` and its own weight and density), base_model, parameters (weight, density, lambda,
normalize, int8_mask, rescale), dtype and out_dtype, and tokenizer_source: base. A model's own
parameter comes before the common one. Defaults are mergekit's: density 1, and no division by
the weights but for `ties` and `linear`. A model that is the base itself adds nothing to a merge
of task vectors and is left out; `base+adapter` is the adapter. What `linear` calls its base_model
has to be listed: mergekit averages it with the models in any case.
Invariant: what comes back means what mergekit 0.1.5 documents, but for the differences that
tests/reduce/test_merge_peers.py pins: all arithmetic is in float64 whatever `dtype` says, DARE
scales by 1/density, and ties at the threshold stay. int8_mask only saves mergekit memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from raylab.errors import InputError
from raylab.spec.merges import METHODS, MergeRequest, request_merge

_FIELDS = (
    "merge_method", "base_model", "models", "parameters", "dtype", "out_dtype", "tokenizer_source",
)  # fmt: skip
_COMMON = ("weight", "density", "lambda", "normalize", "int8_mask", "rescale")
_OF_A_MODEL = ("weight", "density")
_DTYPES = ("bfloat16", "float16", "float32")
_NORMALIZED = ("ties", "linear")


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
    config = _load(file)
    _refuse_unknown(config, _FIELDS, str(file))
    method, base = config.get("merge_method"), config.get("base_model")
    if not isinstance(method, str) or method not in METHODS:
        raise InputError(
            f"{file}: this merge_method is not known", found=method, expected=", ".join(METHODS)
        )
    common = _mapping(config.get("parameters"), f"{file}: parameters")
    _refuse_unknown(common, _COMMON, f"{file}: parameters")
    _check_rescale(method, common)
    if config.get("tokenizer_source") not in (None, "base"):
        raise _refused("tokenizer_source", config["tokenizer_source"], "base")
    if not isinstance(base, str | None):
        raise _refused("base_model", base, "a path or an id")
    of_deltas = METHODS[method].of == "deltas"
    models = _models(config, base if of_deltas else None)
    if not of_deltas and base not in (None, *(name for name, _ in models)):
        raise _refused("base_model", base, f"one of the models: {method} counts it as one more")
    densities = [_number(own, common, "density", 1.0) for _, own in models]
    trims = METHODS[method].keeps != "all"
    if not trims and any("density" in own for own in (common, *(own for _, own in models))):
        raise _refused("density", "given", f"none, since {method} keeps all entries")
    largest = METHODS[method].keeps == "largest"
    return request_merge(
        method,
        [name for name, _ in models],
        base=base,
        weights=[_number(own, common, "weight", None) for _, own in models],
        density=densities if trims else None,
        scope=scope or ("tensor" if largest else None),
        scaling=_number({}, common, "lambda", None) if "lambda" in common else None,
        seed=seed,
        normalize=_flag(common, "normalize", method in _NORMALIZED),
        dtype=_dtype(config),
    )


def _load(file: Path) -> Mapping[str, Any]:
    try:
        config = YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise InputError(
            f"the merge file {file} cannot be read", found=str(error), expected="mergekit's YAML"
        ) from error
    return _mapping(config, str(file))


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InputError(f"{where} is no mapping", found=value, expected="names and values")
    return value


def _refuse_unknown(given: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    unknown = [str(name) for name in given if name not in known]
    if unknown:
        raise InputError(
            f"{where}: raylab does not read {', '.join(unknown)}",
            found=", ".join(f"{name}: {given[name]!r}" for name in given if name not in known),
            expected=f"of mergekit's fields here: {', '.join(known)}",
        )


def _refused(field: str, found: Any, expected: str) -> InputError:
    return InputError(f"mergekit's {field} is read in part", found=found, expected=expected)


def _models(config: Mapping[str, Any], base: str | None) -> list[tuple[str, Mapping[str, Any]]]:
    """(model, its own parameters) in the order of the file, without the base itself."""
    listed = config.get("models")
    if not isinstance(listed, list) or not listed:
        raise InputError("a merge file lists its models", found=listed, expected="models: [...]")
    found = []
    for entry in listed:
        entry = _mapping(entry, "models")
        _refuse_unknown(entry, ("model", "parameters"), "models")
        name = entry.get("model")
        if not isinstance(name, str):
            raise _refused("model", name, "a path or an id")
        own = _mapping(entry.get("parameters"), name)
        _refuse_unknown(own, _OF_A_MODEL, name)
        if base is None or name != base:
            found.append((_adapter_of(name, config.get("base_model")), own))
    return found


def _adapter_of(name: str, base: str | None) -> str:
    start, plus, adapter = name.partition("+")
    if not plus:
        return name
    if start != base:
        raise _refused("model+adapter", name, f"an adapter over the base_model: {base}+ADAPTER")
    return adapter


def _number(
    own: Mapping[str, Any], common: Mapping[str, Any], field: str, default: float | None
) -> float:
    value = own.get(field, common.get(field, default))
    if value is None:
        raise InputError(f"a model has no {field}", expected=f"{field} for every model, or for all")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refused(field, value, "one number; no gradient, no filter")
    return float(value)


def _flag(given: Mapping[str, Any], field: str, default: bool) -> bool:
    value = given.get(field, default)
    if value not in (True, False):
        raise _refused(field, value, "true or false")
    return bool(value)


def _check_rescale(method: str, common: Mapping[str, Any]) -> None:
    _flag(common, "int8_mask", False)
    drops = METHODS[method].keeps == "random"
    if _flag(common, "rescale", drops) != drops:
        raise _refused("rescale", common["rescale"], f"{str(drops).lower()} for {method}")


def _dtype(config: Mapping[str, Any]) -> str | None:
    for field in ("out_dtype", "dtype"):
        if config.get(field) not in (None, *_DTYPES):
            raise _refused(field, config[field], ", ".join(_DTYPES))
    found: str | None = config.get("out_dtype") or config.get("dtype")
    return found
