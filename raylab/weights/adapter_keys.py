"""The keys of an adapter's file, as the modules that they belong to.

Model: PEFT saves `base_model.model.<module>.lora_A.weight`. A model that was wrapped before it was
saved has more parts: the prefix twice, none, or `module.` before it; the name of the adapter
behind the factor (`lora_A.default.weight`), as PEFT has it in memory; names of wrappers inside
(`_orig_mod` of torch.compile, `_fsdp_wrapped_module` of FSDP, `_checkpoint_wrapped_module` of
activation checkpointing). None of these changes what the tensor means.
Invariant: two keys never become one, all keys have the prefix or none has, and a file holds one
adapter; anything else is refused with the keys.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from raylab.errors import ModelError

PREFIX = "base_model.model."
_WRAPPERS = re.compile(r"(^|\.)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_BEFORE = re.compile(rf"^(?:module\.)?((?:{re.escape(PREFIX)})*)")
_ADAPTER = re.compile(r"\.(lora_[A-Za-z_]+)\.(?!weight$|bias$)([^.]+)(?:(?=\.)|$)")
_MAGNITUDE = ".lora_magnitude_vector.weight"
_NAMED = 5


def module_names(keys: Iterable[str]) -> Mapping[str, str]:
    """Each of `keys` -> its name without prefixes, wrappers and the adapter's name.

    Raises ModelError.
    """
    found: dict[str, str] = {}
    adapters: dict[str, str] = {}
    has_prefix: dict[bool, str] = {}
    for key in keys:
        plain = _WRAPPERS.sub(r"\1", key)
        before = _BEFORE.match(plain)
        assert before is not None
        has_prefix.setdefault(bool(before.group(1)), key)
        name = plain[before.end() :]
        if named := _ADAPTER.search(name):
            adapters.setdefault(named.group(2), key)
            name = _ADAPTER.sub(r".\1", name)
        found[key] = name.removesuffix(".weight") if name.endswith(_MAGNITUDE) else name
    counts = Counter(found.values())
    doubled = [key for key in found if counts[found[key]] > 1]
    for wrong, expected in (
        (has_prefix.values() if len(has_prefix) > 1 else (), f"the prefix {PREFIX} at every key"),
        (adapters.values() if len(adapters) > 1 else (), "one adapter in a file"),
        (doubled, "every tensor once"),
    ):
        _refuse(sorted(wrong), expected)
    return found


def _refuse(keys: Sequence[str], expected: str) -> None:
    if keys:
        raise ModelError(
            "the adapter has tensors that are not read",
            found=f"{', '.join(keys[:_NAMED])}{', ...' if len(keys) > _NAMED else ''}",
            expected=f"{expected}, as PEFT saves them: {PREFIX}<module>.lora_A.weight",
        )
