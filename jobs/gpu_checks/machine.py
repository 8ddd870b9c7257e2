"""The machine that a run is about: its device, and the versions that its findings belong to."""

from __future__ import annotations

from typing import Any

from bench_reduce import machine

from raylab.errors import InputError

_LIBRARIES = (
    "torch", "transformers", "peft", "trl", "bitsandbytes", "accelerate", "ray", "numba",
    "safetensors", "numpy",
)  # fmt: skip
_OPTIONAL = ("triton",)


def chosen_device(asked: str) -> str:
    """ "cuda" or "cpu"; `auto` takes a GPU where there is one. Raises InputError."""
    import torch

    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        raise InputError(
            "torch sees no GPU here",
            found=f"torch {torch.__version__}, CUDA {torch.version.cuda or 'not built in'}",
            expected="a GPU, its driver, and a torch that is built for them",
            todo="install the torch build of your CUDA, or give --device cpu",
        )
    return "cuda" if there and asked != "cpu" else "cpu"


def described(device: str) -> dict[str, Any]:
    """The processor, the GPU and the libraries, as the document holds them."""
    import torch

    found = machine(_LIBRARIES) | _optional_versions()
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "gpu": properties.name,
            "gpu_memory_gb": round(properties.total_memory / 1e9, 1),
            "capability": f"{properties.major}.{properties.minor}",
            "processors": properties.multi_processor_count,
            "cuda": torch.version.cuda,
        }
    return found


def _optional_versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in _OPTIONAL:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
