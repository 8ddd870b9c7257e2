"""The errors that raylab raises for its users: one base class, each with an exit status.

Model: a message has four parts: the problem, the value found, the value expected, and the next
step for the user. Every error can be pickled, because workers send it to the driver.
Invariant: a wrong input exits with status 2, before anything is written. Every error during the
work exits with status 1.
"""

from __future__ import annotations

from typing import Any

_LONGEST = 4000
"""Characters that a message shows of what was found."""


def excerpt(value: object, most: int = _LONGEST) -> str:
    """`value` as text, which says what is left out where it is long."""
    text = str(value)
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"


class RaylabError(ValueError):
    """Base of all errors for users. cause: the word in the column `cause` of the trials table."""

    exit_status = 1
    cause = "error"

    def __init__(self, what: str, *, found: Any = None, expected: str = "", todo: str = "") -> None:
        self.what, self.found, self.expected, self.todo = what, found, expected, todo
        super().__init__(self.message)

    @property
    def message(self) -> str:
        """The parts of the message that were given, each on its own line."""
        parts = [self.what]
        if self.found is not None:
            parts.append(f"found: {excerpt(self.found)}")
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
    """An input of the user is wrong: an option, a path, a model."""

    exit_status = 2


class StudyError(InputError):
    """The study file is wrong, or asks for something impossible."""


class DataError(InputError):
    """A data set cannot be used."""

    cause = "bad_data"


class ModelError(InputError):
    """A model, adapter or checkpoint cannot be read, or two models cannot be compared."""


class StoreError(RaylabError):
    """The store is damaged, or cannot be read or written."""


class OutError(InputError):
    """OUT cannot be written."""


class LeaseError(RaylabError):
    """Another driver works on OUT, or has taken it over."""


class DeviceMemoryError(RaylabError):
    """The memory of a GPU does not suffice."""

    cause = "oom"


class NonFiniteError(RaylabError):
    """A loss or a weight is NaN or infinite."""

    cause = "non_finite"


class ClusterError(RaylabError):
    """Ray cannot be reached, or a worker is permanently lost."""
