"""Machine code of loops: made by LLVM of what numba compiled, kept on disk, and loaded.

Model: numba gives a loop as text of LLVM, in which only the loop itself is kept; LLVM makes an
object file of it. Behind its SHA-256 it lies in a directory that is named by the digest of all
sources that may hold a loop, the versions of numba and llvmlite, the CPU with its features, and the
variables of the environment that steer numba. LLVM's linker loads it into the process.
Invariant: only code that was written by a process which ran it is run, and only from a file that no
one could write who could not change this package. Code that is damaged, or that others may have
written, is made and kept anew; code that cannot be linked without numba, and where nothing can be
written, is made anew in each process.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

_PACKAGE = Path(__file__).parents[1]
_DIGEST_BYTES = hashlib.sha256().digest_size
_PACKAGES_WITH_LOOPS = ("compiled", "reduce", "merge")
_kept_alive: list[Any] = []
"""LLVM unloads code that nothing refers to."""


def load(name: str, compiled: Callable[[], str]) -> int:
    """The address of the loop `name`, whose text of LLVM `compiled` gives where no file has it."""
    file = directory() / f"{name}.o"
    kept = _kept(file)
    if kept is not None:
        # Code that calls a library which only numba loads, Intel's for vectors, cannot be linked.
        with suppress(RuntimeError):
            return _address(kept, name)
    code = _object_code(compiled(), name)
    address = _address(code, name)
    if kept is None:
        _keep(file, code)
    return address


@cache
def directory() -> Path:
    """Where this process keeps machine code: under NUMBA_CACHE_DIR if that is set, else beside the
    compiled modules of Python."""
    llvm = _llvm()
    settings = sorted(item for item in os.environ.items() if item[0].startswith("NUMBA_"))
    features = llvm.get_host_cpu_features().flatten()
    made_by = (version("numba"), version("llvmlite"), llvm.get_host_cpu_name(), features, settings)
    files = (f for name in _PACKAGES_WITH_LOOPS for f in (_PACKAGE / name).glob("*.py"))
    place = os.environ.get("NUMBA_CACHE_DIR") or _PACKAGE / "__pycache__"
    return Path(place) / f"loops-{digest_of(files, made_by)}"


def digest_of(files: Iterable[Path], made_by: Any) -> str:
    """16 hex digits of the names and bytes of `files`, and of `made_by` as text."""
    whole = hashlib.sha256(repr(made_by).encode())
    for file in sorted(files):
        whole.update(f"{file.name}:{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()[:16]


def _kept(file: Path) -> bytes | None:
    """The code in `file`; None where there is none, or another than was written."""
    try:
        # Opening a pipe does not wait.
        with os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:
            if not is_trusted(os.fstat(stream.fileno()), Path(__file__).stat()):
                return None
            whole = stream.read()
    except OSError:
        return None
    digest, code = whole[:_DIGEST_BYTES], whole[_DIGEST_BYTES:]
    return code if hashlib.sha256(code).digest() == digest else None


def is_trusted(kept: os.stat_result, package: os.stat_result) -> bool:
    """Whether a file of code was written by this user, root or the owner of the package, and nobody
    else may write to it; package: of one of its modules. A folder of NUMBA_CACHE_DIR may be one
    that others write to."""
    others = stat.S_IWGRP | stat.S_IWOTH
    # Some file systems say of every file that all may write to it.
    is_closed = not kept.st_mode & others & ~package.st_mode
    is_own = kept.st_uid in (os.geteuid(), 0, package.st_uid)
    return stat.S_ISREG(kept.st_mode) and is_own and is_closed


def _keep(file: Path, code: bytes) -> None:
    part = file.with_name(f"{file.name}.{uuid4().hex}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(part, flags, 0o644), "wb") as stream:
            stream.write(hashlib.sha256(code).digest() + code)
        part.replace(file)
    except OSError:
        # Of a disk that nothing is written to, removing what is not there is an error too.
        with suppress(OSError):
            part.unlink()


@cache
def _llvm() -> Any:
    """LLVM, ready to make and load code of this CPU."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


@cache
def _machine() -> Any:
    """This CPU, with the options that numba takes for it."""
    llvm = _llvm()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3,
        reloc="pic",
        codemodel="default",
    )


def _object_code(text: str, name: str) -> bytes:
    """An object file with the one function of `text` that others could call, as `name`."""
    llvm = _llvm()
    module = llvm.parse_assembly(text)
    defined = [s for s in (*module.functions, *module.global_variables) if not s.is_declaration]
    (loop,) = [s for s in defined if s.is_function and s.linkage == llvm.Linkage.external]
    loop.name = name
    for symbol in defined:
        if symbol.name != name:
            symbol.linkage = llvm.Linkage.internal
    passes = llvm.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    passes.run(module, llvm.create_pass_builder(_machine(), options))
    code: bytes = _machine().emit_object(module)
    return code


@cache
def _linker() -> Any:
    # LLVM's other linker maps a loop's code and its constants wherever there is room, and ends the
    # process where they are 2 GB apart, which happens in a worker of Ray with its shared memory.
    return _llvm().create_lljit_compiler(_machine(), use_jit_link=True)


def _address(code: bytes, name: str) -> int:
    """Link an object file into this process; where its function `name` is. Raises RuntimeError."""
    builder = _llvm().JITLibraryBuilder().add_object_img(code).add_current_process()
    # Of its own name, which stays taken where a file could not be linked.
    library = builder.export_symbol(name).link(_linker(), f"{name}.{uuid4().hex}")
    _kept_alive.append(library)
    address: int = library[name]
    return address
