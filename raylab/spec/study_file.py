"""Reads a study file, and turns every mistake in it into one message with its line.

Model: the YAML text is parsed twice, into values and into a tree of nodes that know their
lines. pydantic judges the values; each of its complaints names a path of keys, and the node at
that path gives the line. Paths in a study are relative to the study file.
Invariant: a study that loads is valid and frozen; one that does not raises StudyError and
leaves no trace.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from raylab.errors import StudyError
from raylab.spec.study import Study
from raylab.spec.validation import check_references

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
        raise StudyError("\n".join(_explained(error, root, file))) from None
    problems = [
        _located(problem.location, root, file, problem.message)
        for problem in check_references(study)
    ]
    if problems:
        raise StudyError("\n".join(problems))
    return study


def _parse_yaml(text: str, file: Path) -> tuple[Any, Node | None]:
    yaml = YAML(typ="safe", pure=True)
    try:
        values, root = yaml.load(text), yaml.compose(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise StudyError(f"{file}, line {line}: not valid YAML: {error.problem}") from None
    except YAMLError as error:
        raise StudyError(f"{file}: not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise StudyError(
            f"{file} is not a study", found=type(values).__name__, expected="a mapping of fields"
        )
    return values, root


def _explained(error: ValidationError, root: Node | None, file: Path) -> Iterator[str]:
    """One line for each place in the file, with all that pydantic says of it."""
    places: dict[Location, list[str]] = {}
    for item in error.errors(include_url=False):
        location = _without_tags(tuple(item["loc"]), root)
        messages = places.setdefault(location, [])
        if (message := _message(item, location)) not in messages:
            messages.append(message)
    for location, messages in places.items():
        yield _located(location, root, file, ", or: ".join(messages))


def _without_tags(location: Location, root: Node | None) -> Location:
    """pydantic names the members of a union in a location; the file knows no such steps."""
    kept: list[str | int] = []
    node = root
    for step in location:
        child = _child_node(node, step)
        if child:
            node = child[1]
        elif isinstance(node, ScalarNode | SequenceNode) or node is None:
            continue
        kept.append(step)
    return tuple(kept)


def _message(item: Any, location: Location) -> str:
    if item["type"] == "extra_forbidden":
        return _unknown_field(location)
    if item["type"] == "missing":
        return "is missing"
    return f"{item['msg'].removeprefix('Value error, ')} (found {item['input']!r})"


def _unknown_field(location: Location) -> str:
    names = list(_field_names(location[:-1]))
    close = difflib.get_close_matches(str(location[-1]), names, n=1, cutoff=0.5)
    if close:
        return f"is not a known field; did you mean {close[0]}?"
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


def _line(node: Node | None, location: Location) -> int:
    """The line of the deepest node on the way to `location`; 1 where there is none."""
    line = 1
    for step in location:
        child = _child_node(node, step)
        if child is None:
            continue
        mark, node = child
        line = mark + 1
    return line


def _child_node(node: Node | None, step: str | int) -> tuple[int, Node] | None:
    if isinstance(node, MappingNode):
        for key, value in node.value:
            if key.value == str(step):
                return key.start_mark.line, value
    if isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
        value = node.value[step]
        return value.start_mark.line, value
    return None
