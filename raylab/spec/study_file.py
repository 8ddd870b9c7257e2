"""Reads a study file, and turns every mistake in it into one message with its line.

Model: the YAML text is parsed into a tree of nodes that know their lines, and the tree into
values. pydantic judges the values; each of its complaints names a path of keys, and the node at
that path gives the line. Paths in a study are relative to the study file.
Invariant: a study that loads is valid and frozen; one that does not raises StudyError and
leaves no trace.
"""

from __future__ import annotations

import io
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.nodes import Node, ScalarNode

from raylab.errors import StudyError, excerpt
from raylab.number_format import MISSING, either
from raylab.spec.merge_variants import with_names_as_swept
from raylab.spec.proposals import close_names
from raylab.spec.study import Study
from raylab.spec.swept_names import WrittenFloat, with_spelling, written
from raylab.spec.validation import check_references
from raylab.spec.yaml_text import YamlFault, below, parse

Location = tuple[str | int, ...]


def load_study(path: str | Path) -> Study:
    """Read and validate the study at `path`; paths inside it become absolute.

    Raises StudyError with every mistake found, each with line, field, value and expectation.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(
            f"the study file {file} cannot be read",
            found=str(error),
            expected="a YAML file in UTF-8",
            todo="check the path; `raylab schema` prints the fields of a study file",
        ) from error
    return parse_study(text, file)


def parse_study(text: str, file: Path) -> Study:
    """Validate the YAML `text`; `file` names it in messages and anchors its relative paths."""
    values, root = _parse_yaml(text, file)
    try:
        study = Study.model_validate(values).anchored(file.resolve().parent)
    except ValidationError as error:
        raise StudyError("\n".join(_explained(error, values, root, file))) from None
    problems = [
        _located(problem.location, root, file, problem.message)
        for problem in check_references(study)
    ]
    if problems:
        raise StudyError("\n".join(problems))
    return with_names_as_swept(study)


def study_values(study: Study) -> dict[str, Any]:
    """The fields of `study` as JSON has them; a swept number is a WrittenFloat."""
    values = study.model_dump(mode="json", exclude_none=True)
    for kind, items in (("recipes", study.recipes), ("merges", study.merges)):
        for name, item in items.items():
            values[kind][name]["sweep"] = {key: list(found) for key, found in item.sweep.items()}
    return values


def field_text(value: Any) -> str:
    """A field of a study as a study writes it: 3e-4; 42, 100; method: sft, data: D0."""
    if value is None:
        return MISSING
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_inner_text(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_inner_text, value))
    return written(value)


def _inner_text(value: Any) -> str:
    text = field_text(value)
    if isinstance(value, Mapping):
        return f"{{{text}}}"
    return f"[{text}]" if isinstance(value, list | tuple) else text


def study_text(study: Study) -> str:
    """`study` as YAML, which `parse_study` reads as the same study with the same names."""
    yaml = YAML(typ="safe", pure=True)
    # The order of a sweep's parameters is that of its names.
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.representer.add_representer(WrittenFloat, _represent_written)
    buffer = io.StringIO()
    yaml.dump(study_values(study), buffer)
    return buffer.getvalue()


def _represent_written(representer: Any, value: WrittenFloat) -> Any:
    return representer.represent_scalar("tag:yaml.org,2002:float", str(value))


def _parse_yaml(text: str, file: Path) -> tuple[Any, Node | None]:
    try:
        values, root = parse(text)
    except YamlFault as fault:
        raise StudyError(f"{file}, line {fault.line}: not valid YAML: {fault.problem}") from None
    if not isinstance(values, dict):
        raise StudyError(
            f"{file} is not a study", found=type(values).__name__, expected="a mapping of fields"
        )
    _keep_spelling(values, root)
    return values, root


def _keep_spelling(values: dict[str, Any], root: Node | None) -> None:
    """Replace the numbers of sweeps in `values` by ones that know how the file writes them."""
    for path, listed in _sweeps(values):
        for index, value in enumerate(listed):
            node = _node_at(root, (*path, index))
            if isinstance(node, ScalarNode):
                listed[index] = with_spelling(value, node.value)


def _sweeps(values: Any) -> Iterator[tuple[Location, list[Any]]]:
    """(location, values) of each list of a sweep, in a study that may be wrong."""
    kinds = ("recipes", "merges")
    found = [(kind, name, item) for kind in kinds for name, item in _items(values.get(kind))]
    for kind, name, item in found:
        for key, listed in _items(item.get("sweep")) if isinstance(item, dict) else ():
            if isinstance(listed, list):
                yield (kind, name, "sweep", key), listed


def _items(value: Any) -> list[tuple[Any, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _explained(error: ValidationError, values: Any, root: Node | None, file: Path) -> Iterator[str]:
    """One line for each place in the file, with all that pydantic says of it."""
    places: dict[Location, list[str]] = {}
    for item in error.errors(include_url=False):
        location = _without_tags(tuple(item["loc"]), values, item["type"])
        messages = places.setdefault(location, [])
        if (message := _message(item, location)) not in messages:
            messages.append(message)
    for location, messages in places.items():
        # Where a member of a union complains of a part, the others' complaints are of no use.
        if not any(other[: len(location)] == location != other for other in places):
            yield _located(location, root, file, ", or: ".join(messages))


def _without_tags(location: Location, values: Any, kind: str) -> Location:
    """pydantic names the members of a union in a location; the file knows no such steps."""
    kept: list[str | int] = []
    for index, step in enumerate(location):
        is_missing = kind == "missing" and index == len(location) - 1
        below = _steps(values)
        if str(step) in below:
            values = below[str(step)]
        elif not is_missing:
            continue
        kept.append(step)
    return tuple(kept)


def _steps(values: Any) -> dict[str, Any]:
    """What lies one step below `values`, by the text of the step."""
    if isinstance(values, dict):
        return {str(key): value for key, value in values.items()}
    return {
        str(index): value for index, value in enumerate(values if isinstance(values, list) else ())
    }


_KINDS = {
    "tuple_type": "Input should be a list",
    "model_type": "Input should be a mapping of fields",
    "dict_type": "Input should be a mapping",
}
"""What pydantic says in the words of Python, by the type of the error."""


def _message(item: Any, location: Location) -> str:
    if item["type"] == "extra_forbidden":
        return _unknown_field(location)
    if item["type"] == "missing":
        return "is missing"
    said = _KINDS.get(item["type"], item["msg"].removeprefix("Value error, "))
    return f"{said} (found {excerpt(repr(item['input']), 500)})"


def _unknown_field(location: Location) -> str:
    names = list(_field_names(location[:-1]))
    close = close_names(str(location[-1]), names)
    if close:
        return f"is not a known field; did you mean {either(close)}?"
    return f"is not a known field; known here: {', '.join(sorted(names)) or 'none'}"


def _field_names(location: Location) -> Iterator[str]:
    """The field names allowed at `location` of a study, over all members of unions."""
    annotations: list[Any] = [Study]
    for step in location:
        annotations = [part for kind in annotations for part in _below(kind, step)]
    for kind in annotations:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from kind.model_fields


def _below(kind: Any, step: str | int) -> Iterator[Any]:
    """The annotations below `kind` at one step: a field, a mapping value or a sequence item."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        field = kind.model_fields.get(str(step))
        yield from _members(field.annotation) if field else ()
    elif get_origin(kind) in (dict, tuple, list):
        yield from _members(get_args(kind)[-1 if get_origin(kind) is dict else 0])


def _members(kind: Any) -> Iterator[Any]:
    if get_origin(kind) in (Union, types.UnionType):
        for part in get_args(kind):
            yield from _members(part)
    else:
        yield kind


def _located(location: Location, root: Node | None, file: Path, message: str) -> str:
    field = ".".join(str(step) for step in location) or "the study"
    return f"{file}, line {_line(root, location)}: {field}: {message}"


def _node_at(node: Node | None, location: Location) -> Node | None:
    for step in location:
        child = below(node, step)
        node = child[1] if child else None
    return node


def _line(node: Node | None, location: Location) -> int:
    """The line of the deepest node on the way to `location`; 1 where there is none."""
    line = 1
    for step in location:
        child = below(node, step)
        if child is not None:
            line, node = child
    return line
