"""A loop: a function of Python that runs as machine code.

Model: `njit` leaves a function as it is until it is first called; then its code comes from disk or
from numba (`raylab.compiled.machine_code`). numba compiles a copy of the function, whose globals
are numba's own functions in the place of loops and of what `from_numba` names; so a module of loops
imports no numba.
Invariant: a call runs without Python's lock. It raises ArithmeticError where the loop itself would
raise an exception.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module
from types import FunctionType
from typing import Any, cast

from raylab.compiled import machine_code
from raylab.compiled.types import Signature

_ALWAYS = {"nogil": True, "_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""Of numba's options: no lock, no memory of numba's own, and no way to it through Python's objects,
which would need numba in the process."""
_lock = threading.RLock()


class Loop:
    """A compiled function; `njit` makes it."""

    def __init__(
        self, function: Callable[..., Any], signatures: Sequence[Signature], options: dict[str, Any]
    ) -> None:
        """Nothing is compiled or loaded yet."""
        self.function, self.signatures, self._options = function, tuple(signatures), options
        self._loaded: dict[int, Callable[..., int]] = {}
        self.__doc__, self.__name__ = function.__doc__, function.__name__

    def __call__(self, *values: Any) -> Any:
        """Run it on values of the types of its signature, or of the first that fits. Raises
        TypeError where none does."""
        for place, signature in enumerate(self.signatures):
            try:
                words = signature.words(values)
            except TypeError:
                if place + 1 == len(self.signatures):
                    raise
                continue
            return self._run(place, signature, words)
        raise TypeError(f"{self.__name__} has no signature, so only other loops can call it")

    def _run(self, place: int, signature: Signature, words: Sequence[Any]) -> Any:
        run = self._loaded.get(place) or self._load(place)
        # numba's functions take where the result goes and where an exception goes (numba 0.68.1,
        # `numba/core/callconv.py`, CPUCallConv), then the arguments; they return 0 if all is well.
        result = (signature.returns.c_type if signature.returns else ctypes.c_int64)()
        error = ctypes.c_void_p()
        status = run(ctypes.addressof(result), ctypes.addressof(error), *words)
        if status != 0:
            raise ArithmeticError(f"{self.__name__} ended with the status {status} of numba")
        return result.value if signature.returns else None

    def _load(self, place: int) -> Callable[..., int]:
        with _lock:
            if place not in self._loaded:
                name = f"{self.function.__module__}.{self.__name__}.{place}"
                address = machine_code.load(name, lambda: self._compiled(self.signatures[place]))
                c_types = (ctypes.c_void_p, ctypes.c_void_p, *self.signatures[place].c_types)
                self._loaded[place] = ctypes.CFUNCTYPE(ctypes.c_int32, *c_types)(address)
            return self._loaded[place]

    def _compiled(self, signature: Signature) -> str:
        """LLVM's text of it, optimised by numba."""
        from numba import types

        wanted = signature.to_numba(types)
        self.for_numba.compile(wanted)
        return cast(str, self.for_numba.inspect_llvm(wanted.args))

    @cached_property
    def for_numba(self) -> Any:
        """numba's own function for it."""
        from numba import njit

        known = self.function.__globals__
        inside = dict(known)
        copy = FunctionType(self.function.__code__, inside, self.__name__)
        with _compiling():
            found = njit(**_ALWAYS, **self._options)(copy)
        for name in self.function.__code__.co_names:
            match known.get(name):
                case Loop() as loop:
                    inside[name] = found if loop is self else loop.for_numba
                case from_numba() as other:
                    inside[name] = other.for_numba
        return found


@contextmanager
def _compiling() -> Iterator[None]:
    """Within, NUMBA_DISABLE_JIT, by which users look into loops of their own, says nothing: Python
    cannot run what `from_numba` names."""
    from numba import config

    before, config.DISABLE_JIT = config.DISABLE_JIT, 0
    try:
        yield
    finally:
        config.DISABLE_JIT = before


class from_numba:
    """Something of a module that imports numba, for loops to call: an intrinsic."""

    def __init__(self, module: str, name: str) -> None:
        """Nothing is imported yet."""
        self._module, self._name = module, name

    def __call__(self, *values: Any) -> Any:
        """Only loops call it: it has no meaning outside of compiled code."""
        raise TypeError(f"{self._name} can be called in loops alone")

    @property
    def for_numba(self) -> Any:
        """What numba takes for it."""
        return getattr(import_module(self._module), self._name)


def njit(
    signature: Signature | Sequence[Signature] | None = None, **options: Any
) -> Callable[[Callable[..., Any]], Loop]:
    """A decorator that makes a function a loop. Without a signature, other loops alone can call it.

    options: those of numba that change the code: `fastmath`, `error_model`, `inline`. Indices are
    not checked, and no lock is held.
    """
    signatures = [signature] if isinstance(signature, Signature) else (signature or ())
    return lambda function: Loop(function, signatures, options)
