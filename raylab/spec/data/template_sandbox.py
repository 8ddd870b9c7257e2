"""The sandbox in which chat templates are rendered: Jinja, with the functions that they may call.

Model: what transformers 5.23 offers a template: loops with `break`, the markers of answers,
`raise_exception`, `tojson`, `dict`, `namespace`. `strftime_now` is missing, because a study sets
the date (`raylab.spec.data.prepared.frozen`).
Invariant: a template reaches no attribute of Python's own, changes nothing that it is given, and
calls nothing else. Jinja is imported when the first template is rendered.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

Spans = tuple[tuple[int, int], ...]
"""Parts of a text: (first character, one after the last) each."""


@dataclass
class _Seen:
    """What was rendered so far, and the spans of the markers in it."""

    parts: list[str] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)


_SEEN: ContextVar[_Seen | None] = ContextVar("seen", default=None)


def marked_spans(template: Any, given: Mapping[str, Any]) -> Spans:
    """The spans between the markers of answers in the text that `template` makes of `given`.

    Those that follow each other without a gap are one.
    """
    seen = _Seen()
    token = _SEEN.set(seen)
    try:
        # Jinja makes the text part by part, and evaluates a marker after the parts before it.
        for part in template.generate(**given):
            seen.parts.append(part)
    finally:
        _SEEN.reset(token)
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(seen.spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(stop, joined[-1][1])
        elif start < stop:
            joined.append((start, stop))
    return tuple(joined)


@lru_cache(maxsize=1)
def sandbox() -> Any:
    """A sandbox with the functions that chat templates may call.

    The markers of answers (`generation`) change no text; `marked_spans` sees them.
    """
    from jinja2 import TemplateError, nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError
    from jinja2.utils import Namespace

    class Markers(Extension):
        tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

        def _said(self, caller: Any) -> str:
            said, seen = str(caller()), _SEEN.get()
            if seen is not None:
                start = sum(map(len, seen.parts))
                seen.spans.append((start, start + len(said)))
            return said

    class PublicNamespace(Namespace):
        """A namespace whose names are public."""

        def __init__(*args: Any, **kwargs: Any) -> None:
            self, *rest = args
            named = dict(*rest, **kwargs)
            for name in named:
                _check_public(name, SecurityError)
            Namespace.__init__(self, named)

        def __setitem__(self, name: str, value: Any) -> None:
            _check_public(name, SecurityError)
            Namespace.__setitem__(self, name, value)

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def tojson(
        value: Any,
        ensure_ascii: bool = False,
        indent: Any = None,
        separators: Any = None,
        sort_keys: bool = False,
    ) -> str:
        return json.dumps(
            value,
            ensure_ascii=ensure_ascii,
            indent=indent,
            separators=separators,
            sort_keys=sort_keys,
        )

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Markers, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals |= {
        "raise_exception": raise_exception,
        "dict": _Dict(),
        "namespace": PublicNamespace,
    }
    return environment


class _Dict:
    """What a template may do with `dict`."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        """As dict.fromkeys."""
        return dict.fromkeys(*args)


def _check_public(name: Any, error: type[Exception]) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise error(f"a chat template stores no private name, such as {name!r}")
