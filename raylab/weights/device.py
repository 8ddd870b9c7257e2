"""Where differences and merges are computed: on the CPU, or on the GPU of this process.

Model: asked for `auto`, a computation takes a GPU where there is one and its work is large; what is
large, the computation says.
Invariant: a GPU that is asked for and not there, or too small, is one message.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from raylab.errors import DeviceMemoryError, InputError
from raylab.spec.study import Device

_DEVICE_FILES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd")
"""Of NVIDIA's driver, of Windows' subsystem for Linux, and of AMD's driver."""


def may_have_gpu() -> bool:
    """Whether it is worth to import torch and ask it for a GPU: a driver is there."""
    return any(Path(file).exists() for file in _DEVICE_FILES)


def choose_device(
    device: Device, *, is_large: bool, has_gpu: bool, verb: str
) -> Literal["cpu", "cuda"]:
    """The device on which to do what `verb` names. Raises InputError where a GPU is asked for and
    there is none."""
    if device == "cuda" and not has_gpu:
        raise InputError(
            f"this process has no GPU to {verb} on",
            found="no CUDA device that torch can use",
            expected="--device auto or cpu here",
            todo="`raylab doctor` shows what a node has",
        )
    if device == "auto":
        return "cuda" if has_gpu and is_large else "cpu"
    return device


@contextmanager
def gpu_memory(verb: str, *, todo: str, taken: str = "") -> Iterator[None]:
    """Within, memory of the GPU that does not suffice raises DeviceMemoryError; `taken` says for
    what it was asked."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryError(
            f"the memory of the GPU does not suffice to {verb}",
            found=str(error).partition("\n")[0] + taken,
            expected="some GB that nothing else uses",
            todo=todo,
        ) from error
