"""The types of a loop's arguments, as numba writes them, without numba.

Model: a number, an array of numbers (C order, aligned), and a signature, which says what a
function returns and takes. `to_numba` gives numba's own; `words` gives the numbers that a call
hands over. numba's functions take an array as the fields of its structure (numba 0.68.1,
`numba/core/datamodel/models.py`, ArrayModel): owner, parent, entries, bytes of an entry, address,
shape, strides. Of these, only the owner is not the array's own: 0, as Python owns it.
Invariant: `words` raises TypeError where a value is not what the type says.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Number:
    """A number of a dtype of numpy; indexed, an array of such numbers."""

    dtype: str
    c_type: Any

    def __getitem__(self, axes: slice | tuple[slice, ...]) -> Array:
        return Array(self, len(axes) if isinstance(axes, tuple) else 1, "C")

    def __call__(self, *arguments: Number | Array) -> Signature:
        """The signature of a loop that returns such a number."""
        return Signature(self, arguments)

    @property
    def c_types(self) -> tuple[Any, ...]:
        """The types of `words` for ctypes."""
        return (self.c_type,)

    def words(self, value: Any) -> tuple[Any, ...]:
        """What a call hands over."""
        return (float(value) if self.dtype.startswith("float") else int(value),)

    def to_numba(self, numba_types: Any) -> Any:
        """numba's own type of it."""
        return getattr(numba_types, "boolean" if self.dtype == "bool" else self.dtype)


@dataclass(frozen=True)
class Array:
    """An array of `ndim` axes in C order; `readonly`: the loop does not write to it."""

    entry: Number
    ndim: int
    layout: str
    readonly: bool = False

    @property
    def c_types(self) -> tuple[Any, ...]:
        """The types of `words` for ctypes."""
        size, address = ctypes.c_int64, ctypes.c_void_p
        return address, address, size, size, address, *((size,) * (2 * self.ndim))

    def words(self, value: Any) -> tuple[Any, ...]:
        """What a call hands over: the fields of numba's structure. Raises TypeError."""
        if not self._is_one(value):
            wanted = f"{self.ndim}-D {self.entry.dtype} in C order"
            raise TypeError(f"{_described(value)} instead of {wanted}")
        address = value.__array_interface__["data"][0]
        return 0, 0, value.size, value.itemsize, address, *value.shape, *value.strides

    def _is_one(self, value: Any) -> bool:
        return (
            isinstance(value, np.ndarray)
            and value.dtype.name == self.entry.dtype
            and value.ndim == self.ndim
            and value.flags.c_contiguous
            and value.flags.aligned
            and (self.readonly or value.flags.writeable)
        )

    def to_numba(self, numba_types: Any) -> Any:
        """numba's own type of it."""
        entry = self.entry.to_numba(numba_types)
        return numba_types.Array(entry, self.ndim, self.layout, readonly=self.readonly)


def _described(value: Any) -> str:
    if not isinstance(value, np.ndarray):
        return f"a {type(value).__name__}"
    kept = "" if value.flags.writeable else "read-only "
    return f"a {kept}{value.ndim}-D array of {value.dtype.name}, strides {value.strides}"


@dataclass(frozen=True)
class Signature:
    """What a loop returns, None for nothing, and what it takes."""

    returns: Number | None
    arguments: tuple[Number | Array, ...]

    @property
    def c_types(self) -> tuple[Any, ...]:
        """The types of `words` of all arguments for ctypes."""
        return tuple(each for argument in self.arguments for each in argument.c_types)

    def words(self, values: Sequence[Any]) -> list[Any]:
        """What a call with `values` hands over. Raises TypeError."""
        pairs = zip(self.arguments, values, strict=True)
        return [word for argument, value in pairs for word in argument.words(value)]

    def to_numba(self, numba_types: Any) -> Any:
        """numba's own signature."""
        returns = numba_types.void if self.returns is None else self.returns.to_numba(numba_types)
        return returns(*(argument.to_numba(numba_types) for argument in self.arguments))


def void(*arguments: Number | Array) -> Signature:
    """The signature of a loop that returns nothing."""
    return Signature(None, arguments)


boolean = Number("bool", ctypes.c_uint8)
uint8 = Number("uint8", ctypes.c_uint8)
int16 = Number("int16", ctypes.c_int16)
uint16 = Number("uint16", ctypes.c_uint16)
int32 = Number("int32", ctypes.c_int32)
uint32 = Number("uint32", ctypes.c_uint32)
int64 = Number("int64", ctypes.c_int64)
uint64 = Number("uint64", ctypes.c_uint64)
float32 = Number("float32", ctypes.c_float)
float64 = Number("float64", ctypes.c_double)
