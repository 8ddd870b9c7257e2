"""The text of a YAML file as values, and as a tree of nodes that know their lines.

Model: ruamel composes nodes of the text, and makes values of these. An alias stands for all that
its anchor holds, so that a few lines may stand for more values than a memory has, or for one that
holds itself: nodes are counted before values are made.
Invariant: what comes back is a finite tree of values as small as its text and few aliases make it;
any text that has none raises YamlFault.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from raylab.errors import excerpt

_MOST_BY_ALIASES = 100_000
"""Nodes that aliases may add to those of the text."""
_DEEPEST = 100


class YamlFault(ValueError):
    """What is wrong with a text; line: where, from 1 on."""

    def __init__(self, problem: str, line: int = 1) -> None:
        super().__init__(problem)
        self.problem, self.line = problem, line


class SeveralDocuments(YamlFault):
    """A text holds more than one."""


def parse(text: str) -> tuple[Any, Node | None]:
    """The values in `text`, and the root of its nodes; None and None without any. Raises
    YamlFault."""
    yaml = YAML(typ="safe", pure=True)
    try:
        roots = list(yaml.compose_all(text))
        if len(roots) > 1:
            found = f"{len(roots)} YAML documents, with `---` between them"
            raise SeveralDocuments(found, roots[1].start_mark.line + 1)
        root = roots[0] if roots else None
        if root is None:
            return None, None
        _Tree().check(root)
        return _values(yaml, root), root
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlFault(str(error.problem or error), mark.line + 1 if mark else 1) from None
    except YAMLError as error:
        raise YamlFault(str(error)) from None
    except RecursionError:
        raise YamlFault(f"values lie more than {_DEEPEST} deep in others") from None


def _values(yaml: YAML, root: Node) -> Any:
    try:
        return yaml.constructor.construct_document(root)
    except (ValueError, ArithmeticError, LookupError, TypeError) as error:
        raise _fault_of_a_scalar(yaml, root) or YamlFault(str(error)) from None


def _fault_of_a_scalar(yaml: YAML, root: Node) -> YamlFault | None:
    """The first text that is not of the kind that it looks like, or is said to be."""
    for node in scalars(root):
        try:
            yaml.constructor.construct_document(node)
        except (ValueError, ArithmeticError, LookupError, TypeError):
            kind = str(node.tag).rsplit(":", 1)[-1]
            return YamlFault(f"{excerpt(node.value, 80)} is no {kind}", node.start_mark.line + 1)
    return None


def scalars(node: Node) -> Iterator[ScalarNode]:
    """`node` and those below it that hold no others; those of an alias once more."""
    if isinstance(node, ScalarNode):
        yield node
    for child in children(node):
        yield from scalars(child)


def children(node: Node) -> list[Node]:
    """The nodes that one holds: keys and values, or items."""
    if isinstance(node, MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, SequenceNode) else []


def below(node: Node | None, step: object) -> tuple[int, Node] | None:
    """The line, from 1 on, and the node of the field or item `step` of one; None without it."""
    if isinstance(node, MappingNode):
        # Fields of an anchor that is merged in (`<<`) stand before those that replace them.
        for key, value in reversed(node.value):
            if key.value == str(step):
                return key.start_mark.line + 1, value
    if isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
        value = node.value[step]
        return value.start_mark.line + 1, value
    return None


class _Tree:
    """Measures what lies below each node, aliases as what they stand for."""

    def __init__(self) -> None:
        self._measured: dict[int, tuple[int, int]] = {}
        self._above: set[int] = set()

    def check(self, node: Node) -> tuple[int, int]:
        """How many nodes `node` and all below it are, and how deep they lie. Raises YamlFault."""
        key, line = id(node), node.start_mark.line + 1
        if key in self._above:
            raise YamlFault("an anchor holds itself", line)
        if key in self._measured:
            return self._measured[key]
        self._above.add(key)
        found = [self.check(child) for child in children(node)]
        self._above.remove(key)
        size, depth = 1 + sum(size for size, _ in found), 1 + max((d for _, d in found), default=0)
        self._measured[key] = size, depth
        if depth > _DEEPEST:
            raise YamlFault(f"values lie more than {_DEEPEST} deep in others", line)
        if size > len(self._measured) + _MOST_BY_ALIASES:
            raise YamlFault("its aliases stand for too many values", line)
        return size, depth
