"""The errors raylab raises for its users: one base class, one exit status each.

Model: a message has four parts: what is wrong, the value found, what was expected, and what to
do next. Every error survives pickling, because it may cross from a worker to the driver.
Invariant: an input that is wrong exits with 2, before anything was written; everything that
goes wrong while work is under way exits with 1.
"""

from __future__ import annotations

from typing import Any


class RaylabError(ValueError):
    """Base of all errors meant for users; `cause` is the word the trial table shows."""

    exit_status = 1
    cause = "error"

    def __init__(self, what: str, *, found: Any = None, expected: str = "", todo: str = "") -> None:
        self.what, self.found, self.expected, self.todo = what, found, expected, todo
        super().__init__(self.message)

    @property
    def message(self) -> str:
        """The whole message on one or more lines, without the parts that were not given."""
        parts = [self.what]
        if self.found is not None:
            parts.append(f"found: {self.found}")
        if self.expected:
            parts.append(f"expected: {self.expected}")
        if self.todo:
            parts.append(f"to do: {self.todo}")
        return "\n  ".join(parts)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.what, self.found, self.expected, self.todo)


def _rebuild(
    kind: type[RaylabError], what: str, found: Any, expected: str, todo: str
) -> RaylabError:
    return kind(what, found=found, expected=expected, todo=todo)


class InputError(RaylabError):
    """Something the user gave is wrong: an option, a path, a model."""

    exit_status = 2


class StudyError(InputError):
    """The study file does not say something that can be done."""


class DataError(InputError):
    """A data set cannot be used as it is."""

    cause = "bad_data"


class ModelError(InputError):
    """A model, adapter or checkpoint cannot be read, or two of them cannot be compared."""


class StoreError(RaylabError):
    """The store holds something damaged, or could not be read or written."""


class OutError(InputError):
    """OUT is not a place that can be written."""


class LeaseError(RaylabError):
    """Another driver holds OUT, or has taken it over."""


class NonFiniteError(RaylabError):
    """A loss or a weight became NaN or infinite."""

    cause = "non_finite"


class ClusterError(RaylabError):
    """Ray could not be reached, or a worker was lost for good."""
