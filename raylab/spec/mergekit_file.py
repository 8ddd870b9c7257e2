"""mergekit's YAML file as sections that know their lines, so that a refusal says where.

Model: a section is a mapping of the file. A field without a value is as one that is not there. A
reference is a model as mergekit writes it, and perhaps an adapter over it. mergekit reads YAML 1.1,
raylab 1.2; a number that is another one there is refused.
Invariant: every error names the file, and the line of the field where it has one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml.nodes import Node

from raylab.errors import InputError
from raylab.spec.yaml_text import SeveralDocuments, YamlFault, below, parse, scalars

_OCTAL = re.compile("[-+]?0[o0-9_]")
"""010 is 8 in YAML 1.1, and 10 in YAML 1.2; 0o10 is a text, and 8."""


@dataclass(frozen=True)
class Section:
    """A mapping of `file`, under the field `name` of the mapping above it."""

    file: Path
    name: str
    values: Mapping[str, Any]
    node: Node | None
    line: int
    """Where it starts, from 1 on."""

    @property
    def where(self) -> str:
        """File and line of the section."""
        return f"{self.file}, line {self.line}"

    def where_of(self, field: str) -> str:
        """File and line of `field`."""
        return f"{self.file}, line {self.line_of(field)}"

    @property
    def empty(self) -> Section:
        """A section without fields, at the same place."""
        return Section(self.file, self.name, {}, None, self.line)

    def value(self, field: str) -> Any:
        """The value of `field`, None without one."""
        return self.values.get(field)

    def section(self, field: str) -> Section:
        """The mapping under `field`; empty where there is none. Raises InputError."""
        value = self.value(field)
        if not isinstance(value, Mapping | None):
            raise self.refused(field, "a mapping of names and values")
        return Section(self.file, field, value or {}, self._node_of(field), self.line_of(field))

    def sections(self, field: str) -> Iterator[Section]:
        """The mappings that are listed under `field`, or the one there. Raises InputError."""
        value = self.value(field)
        listed = [value] if isinstance(value, Mapping) else value
        if not isinstance(listed, list) or not listed:
            raise self.refused(field, "a list of mappings")
        node = self._node_of(field)
        for place, item in enumerate(listed):
            if not isinstance(item, Mapping):
                raise self.refused(field, "a list of mappings")
            _, own = below(node, place) or (0, node)
            line = own.start_mark.line + 1 if own else self.line
            yield Section(self.file, field, item, own, line)

    def check_known(self, known: Collection[str]) -> None:
        """Raise InputError where the section has other fields than `known`."""
        unknown = [field for field in self.values if field not in known]
        if unknown:
            raise InputError(
                f"{self.where_of(unknown[0])}: raylab does not read "
                f"{', '.join(map(str, unknown))}" + (f" in {self.name}" if self.name else ""),
                found=", ".join(f"{field}: {self.values[field]!r}" for field in unknown),
                expected=f"of mergekit's fields here: {', '.join(known)}",
                todo=self._instead(unknown, known),
            )

    def _instead(self, unknown: Collection[str], known: Collection[str]) -> str:
        """What to write in the place of fields that are not known."""
        if "revision" in unknown:
            return "give the revision with the model: `model: ID@REVISION`"
        if "parameters" in known:
            return "put settings of the method under `parameters`; remove what mergekit ignores"
        return "remove it, since mergekit 0.1.5 ignores it" if self.name == "parameters" else ""

    def refused(self, field: str, expected: str) -> InputError:
        """The error that the value of `field` is none that raylab reads, or that there is none."""
        value = self.value(field)
        what = f"there is no {field}" if value is None else f"this {field} is not read"
        return InputError(
            f"{self.where_of(field)}: {what}",
            found=repr(value) if isinstance(value, str) else value,
            expected=expected,
        )

    def line_of(self, field: Any) -> int:
        """The line of `field`, from 1 on; that of the section for a field that it does not have."""
        found = below(self.node, field)
        return found[0] if found else self.line

    def _node_of(self, field: str) -> Node | None:
        found = below(self.node, field)
        return found[1] if found else None


def read_file(file: Path) -> Section:
    """The mapping that `file` holds. Raises InputError."""
    what = f"the merge file {file} cannot be read"
    try:
        values, root = parse(file.read_text(encoding="utf-8"))
        _check_numbers(root)
    except SeveralDocuments as several:
        raise InputError(
            f"{file} has several merges",
            found=str(several),
            expected="one merge",
            todo="give each a file, and name the folder of one as the model of another",
        ) from several
    except YamlFault as fault:
        found = f"line {fault.line}: {fault.problem}"
        raise InputError(what, found=found, expected="mergekit's YAML") from fault
    except (OSError, ValueError) as error:
        raise InputError(what, found=str(error), expected="mergekit's YAML") from error
    if not isinstance(values, Mapping | None):
        raise InputError(f"{file} is no mapping", found=values, expected="names and values")
    return Section(file, "", values or {}, root, 1)


def _check_numbers(root: Node | None) -> None:
    """Raise YamlFault where YAML 1.1 takes a whole number for another one, or for a text."""
    for node in scalars(root) if root else ():
        if node.tag == "tag:yaml.org,2002:int" and _OCTAL.match(node.value):
            problem = f"mergekit reads {node.value} otherwise; write it without the 0 at its start"
            raise YamlFault(problem, node.start_mark.line + 1)


class Reference(NamedTuple):
    """A model, and an adapter over it, each as raylab names it: a path or ID@REVISION."""

    model: str
    adapter: str | None = None

    def name(self, base: str | None) -> str:
        """The model of a merge with this base model: an adapter over it goes by its own name."""
        if self.adapter is None:
            return self.model
        return self.adapter if self.model == base else f"{self.model}+{self.adapter}"


def reference(section: Section, field: str) -> Reference:
    """What `field` says: MODEL+ADAPTER, or a mapping. Raises InputError."""
    value = section.value(field)
    if isinstance(value, str) and value.count("+") <= 1:
        name, plus, adapter = value.partition("+")
        if name and (adapter or not plus):
            return Reference(name, adapter or None)
    if isinstance(value, Mapping):
        whole = section.section(field)
        whole.check_known(("model", "lora"))
        lora = whole.value("lora")
        return Reference(_path(whole, "model"), None if lora is None else _path(whole, "lora"))
    raise section.refused(field, "PATH, ID@REVISION, MODEL+ADAPTER, or {model: ..., lora: ...}")


def _path(section: Section, field: str) -> str:
    """PATH or ID@REVISION of a text, or of {path: ..., revision: ...}."""
    value = section.value(field)
    if isinstance(value, Mapping):
        whole = section.section(field)
        whole.check_known(("path", "revision"))
        path, revision = whole.value("path"), whole.value("revision")
        if isinstance(path, str) and path and isinstance(revision, str | None):
            return f"{path}@{revision}" if revision else path
        value = None
    if isinstance(value, str) and value:
        return value
    raise section.refused(field, "PATH, ID@REVISION, or {path: ..., revision: ...}")
