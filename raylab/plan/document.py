"""A part of a plan as `raylab plan --json` has it.

Model: a part is a dataclass; its document has a value for each field, under the field's name.
Invariant: a document is made of what JSON knows; a part with other values says itself how they are
written.
"""

from __future__ import annotations

from typing import Any


class Documented:
    """The base of dataclasses that are parts of a plan."""

    @property
    def document(self) -> dict[str, Any]:
        """It as JSON."""
        return dict(vars(self))
