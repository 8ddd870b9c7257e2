"""Identity: a fingerprint of everything that determines a result, and of nothing else.

Model: a value is written in one canonical form (JSON, sorted keys, shortest floats) and hashed
with SHA-256; a fingerprint is the first 16 hex digits. A trial's identity is a flat mapping of
named fields, so that two identities can be compared field by field.
Invariant: equal values give equal fingerprints in every process and on every machine; a value
whose form is not stable (NaN, a set, an object) is refused, never hashed. Paths, devices, hosts
and library versions are not part of any identity.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from raylab.number_format import exact_setting

DIGITS = 16


def canonical(value: Any) -> str:
    """The one form in which `value` is hashed. Raises TypeError for values without one."""
    return _written(_stable(value, "value"))


def fingerprint(value: Any) -> str:
    """16 hex digits that stand for `value`."""
    return _digest(canonical(value))


def written_items(value: list[Any]) -> bytes:
    """The items of a list in the list's canonical form: lists and mappings of texts, truth values
    and None, which are written as they are, in a fifth of the time."""
    return _written(value)[1:-1].encode()


def fingerprint_of_items(parts: Iterable[bytes]) -> str:
    """The fingerprint of the list that has the items of all `parts`, each of `written_items`."""
    digest, between = hashlib.sha256(b"["), b""
    for part in filter(None, parts):
        digest.update(between)
        digest.update(part)
        between = b","
    digest.update(b"]")
    return digest.hexdigest()[:DIGITS]


def changed_fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """The fields in which two identities differ, as `field: old -> new`, in order."""
    for key in sorted({*old, *new}):
        before, after = old.get(key, "absent"), new.get(key, "absent")
        if canonical(before) != canonical(after):
            yield f"{key}: {_shown(before)} -> {_shown(after)}"


def _written(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def _shown(value: Any) -> str:
    return exact_setting(value) if type(value) is float and math.isfinite(value) else str(value)


def _stable(value: Any, where: str) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{where} is {value}, which has no stable form")
        return value
    if isinstance(value, Mapping):
        return {_key(key, where): _stable(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_stable(item, f"{where}[{index}]") for index, item in enumerate(value)]
    raise TypeError(f"{where} is a {type(value).__name__}, which has no stable form")


def _key(key: Any, where: str) -> str:
    if not isinstance(key, str):
        raise TypeError(f"{where} has the key {key!r}; keys must be text")
    return key
