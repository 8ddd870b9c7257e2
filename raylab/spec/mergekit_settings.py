"""The settings of a mergekit file, each from all the levels of the file that may have it.

Model: `parameters` stand beside a model or source, beside a slice, in a module, and at the top of
the file. A level is one of these mappings, with the slice that it is for. A setting is a number, a
gradient, or a list of these with filters; the parts of a higher level come before those of a lower
one, which count for the tensors that no part before them matches.
Invariant: every level is read. What a level has and mergekit would not look at is refused with its
line, so that nothing asked is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from raylab.errors import InputError
from raylab.spec.merge_methods import METHODS, MergeMethod
from raylab.spec.merge_parameters import ParameterRow
from raylab.spec.merge_settings import Part, Setting, setting_of
from raylab.spec.mergekit_file import Section
from raylab.spec.merges import Rescale

_NUMBER, _FLAG = ParameterRow(None), ParameterRow(None, "flag")
_OF_ENTRIES = {
    "lambda": _NUMBER,
    "normalize": _FLAG,
    "int8_mask": _FLAG,
    "rescale": _FLAG,
    "rescale_norm": _FLAG,
}
_OF_TENSORS = {"int8_mask": _FLAG}
_OF_MATRICES = {"lambda": _NUMBER, "int8_mask": _FLAG}
_COMMON = {"entries": _OF_ENTRIES, "tensors": _OF_TENSORS, "matrices": _OF_MATRICES}
"""By what a method combines."""
_BY_MODEL = {"weight": _NUMBER, "density": _NUMBER}
_DENSITY = ParameterRow(1.0)
_NORMALIZED = ("ties", "linear", "della")
_WEIGHTS = {"karcher": 1.0}
"""Where mergekit weighs all models alike, and knows no weight."""
_WORDS = {
    "number": "a number, a gradient of numbers",
    "whole": "a whole number",
    "flag": "true or false, or a list of these for layers",
}


class Level(NamedTuple):
    """One mapping of parameters; slice: of the request that it is for, None for all."""

    section: Section
    slice: int | None = None


class Levels(NamedTuple):
    """All levels, the highest first: `of_models` those of each input, `shared` those that all
    inputs of their slice have."""

    of_models: Sequence[Sequence[Level]]
    shared: Sequence[Level]

    def check_known(self, row: MergeMethod) -> None:
        """Raise InputError where a level has a name that the method does not have there."""
        by_model = rows_by_model(row)
        for levels in self.of_models:
            for level in levels:
                level.section.check_known([*by_model])
        for level in self.shared:
            level.section.check_known([*by_model, *rows_of_all(row)])

    def of_model(self, number: int, name: str, row: ParameterRow) -> Setting | None:
        """A setting of input `number`; None where no level has it. Raises InputError."""
        own = self.of_models[number]
        slices = {level.slice for level in own}
        shared = [level for level in self.shared if level.slice in (None, *slices)]
        return _setting([*own, *shared], name, row)

    def of_all(self, name: str, row: ParameterRow) -> Setting | None:
        """A setting that all inputs share; None where no level has it. Raises InputError."""
        return _setting(self.shared, name, row)

    def refuse(self, name: str, why: str) -> None:
        """Raise InputError where a level has `name`."""
        for level in (*(level for levels in self.of_models for level in levels), *self.shared):
            if level.section.value(name) is not None:
                raise level.section.refused(name, why)


def rows_by_model(row: MergeMethod) -> dict[str, ParameterRow]:
    """What each model of a merge may have of its own."""
    own = {name: parameter for name, parameter in row.parameters.items() if parameter.by_model}
    return {**_BY_MODEL, **own}


def rows_of_all(row: MergeMethod) -> dict[str, ParameterRow]:
    """What all models of a merge share."""
    own = {name: parameter for name, parameter in row.parameters.items() if not parameter.by_model}
    return {**_COMMON[row.combines], **own}


def _setting(levels: Sequence[Level], name: str, row: ParameterRow) -> Setting | None:
    parts = [part for level in levels for part in _parts(level, name, row)]
    if not parts:
        return None
    if row.default is not None:
        parts.append(Part((row.default,)))
    return setting_of(parts)


def _parts(level: Level, name: str, row: ParameterRow) -> list[Part]:
    section, value = level.section, level.section.value(name)
    if value is None:
        return []
    points = _points(value, row)
    if points:
        return [Part(points, slice=level.slice, written=section.where_of(name))]
    listed = value if isinstance(value, list) else [value]
    if not listed or not all(isinstance(item, Mapping) for item in listed):
        raise section.refused(
            name, f"{_WORDS[row.kind]}, or a list of {{filter, value}} with these"
        )
    found = []
    for item in section.sections(name):
        item.check_known(("filter", "value"))
        points, text = _points(item.value("value"), row), item.value("filter")
        if not points:
            raise item.refused("value", _WORDS[row.kind])
        if not isinstance(text, str | None):
            raise item.refused("filter", "a part of the names of tensors")
        matched = None if text in ("*", "") else text
        found.append(Part(points, matched, level.slice, item.where_of("filter")))
    return found


def _points(value: Any, row: ParameterRow) -> tuple[float, ...]:
    """A number or flag, or those of a gradient; empty if it is neither."""
    listed = value if isinstance(value, list) else [value]
    if row.kind == "flag":
        # mergekit takes 0 and 1 as flags.
        is_known = all(isinstance(item, int | float) and item in (0, 1) for item in listed)
        return tuple(bool(item) for item in listed) if is_known else ()
    kinds = (int,) if row.kind == "whole" else (int, float)
    if not all(isinstance(item, kinds) and not isinstance(item, bool) for item in listed):
        return ()
    try:
        return tuple(listed if row.kind == "whole" else map(float, listed))
    except OverflowError:
        return ()


def settings_in(levels: Levels, method: str, places: Sequence[Section]) -> dict[str, Any]:
    """What `levels` say, as arguments of `request_merge`; places: where each input stands.

    Raises InputError for what the method does not take, and for a weight that is missing.
    """
    row = METHODS[method]
    levels.check_known(row)
    levels.of_all("int8_mask", _FLAG)
    found: dict[str, Any] = {}
    if row.weighs:
        default = _WEIGHTS.get(method)
        found["weights"] = _weights(levels, places, default)
    else:
        levels.refuse("weight", f"none, since {method} has no weights")
    if row.keeps == "all":
        levels.refuse("density", f"none, since {method} keeps all entries")
    else:
        found["density"] = _of_models(levels, "density", _DENSITY)
    if row.scales:
        found["scaling"] = levels.of_all("lambda", ParameterRow(1.0))
    if row.combines == "entries":
        if row.of == "values":
            levels.refuse("lambda", f"none, since {method} combines values")
        normalizes = ParameterRow(method in _NORMALIZED, "flag")
        found["normalize"] = levels.of_all("normalize", normalizes)
        if found["normalize"] is None:
            found["normalize"] = normalizes.default
        found["rescale"], found["rescales"] = _rescale(levels, row)
    found["parameters"], found["own"] = _parameters(levels, row)
    return found


def _weights(levels: Levels, places: Sequence[Section], default: float | None) -> list[Setting]:
    weight = ParameterRow(default)
    found = [levels.of_model(number, "weight", weight) for number in range(len(places))]
    for setting, place in zip(found, places, strict=True):
        if setting is None and default is None:
            raise InputError(
                f"{place.where}: a model has no weight",
                expected="weight for every model, or for all",
            )
    return [cast(float, default) if setting is None else setting for setting in found]


def _of_models(levels: Levels, name: str, row: ParameterRow) -> list[Setting]:
    """A setting of every input, by default that of `row`."""
    found = [levels.of_model(number, name, row) for number in range(len(levels.of_models))]
    return [cast(float, row.default) if setting is None else setting for setting in found]


def _parameters(
    levels: Levels, row: MergeMethod
) -> tuple[dict[str, Setting], list[dict[str, Setting]]]:
    """The method's own: those that are the same for all inputs, and those of each input."""
    shared: dict[str, Setting] = {}
    own: list[dict[str, Setting]] = [{} for _ in levels.of_models]
    for name, parameter in row.parameters.items():
        if not parameter.by_model:
            if (setting := levels.of_all(name, parameter)) is not None:
                shared[name] = setting
            continue
        found = _of_models(levels, name, parameter)
        if len(set(found)) == 1:
            shared[name] = found[0]
            continue
        for mine, setting in zip(own, found, strict=True):
            mine[name] = setting
    return shared, own


def _rescale(levels: Levels, row: MergeMethod) -> tuple[Rescale, Setting]:
    """`rescale: true` restores the L1 norm; where entries are drawn they have 1 / probability
    unless rescale_norm is l1."""
    default = row.draws
    is_on = levels.of_all("rescale", ParameterRow(default, "flag"))
    is_on = default if is_on is None else is_on
    for section, _ in levels.shared:
        norm = section.value("rescale_norm")
        if norm not in (None, "l1") or (norm and is_on is False):
            raise section.refused("rescale_norm", "l1, where rescale is true")
        if row.keeps == "all" and section.value("rescale"):
            raise section.refused("rescale", "false, since all entries are kept")
    if is_on is False:
        return "none", True
    asks_l1 = any(section.value("rescale_norm") for section, _ in levels.shared)
    return ("l1" if asks_l1 or not row.draws else "density"), is_on
