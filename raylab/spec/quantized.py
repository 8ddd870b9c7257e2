"""Quantised checkpoints: by which method, and whether the installed packages can take it back.

Model: transformers writes the settings of a quantisation into config.json. METHODS has a row for
each method that transformers can undo on a CPU: by loading with `dequantize=True`, or layer by
layer after loading. All others need the model that the quantised one was made from.
Invariant: nothing here imports transformers or reads a weight.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class QuantizationMethod:
    """One row. packages: (what is imported, what pip installs); config: transformers' class."""

    title: str
    undone: Literal["when it is loaded", "layer by layer"]
    config: str = ""
    packages: tuple[tuple[str, str], ...] = ()

    @property
    def missing(self) -> list[str]:
        """What pip would have to install."""
        return [pip for name, pip in self.packages if importlib.util.find_spec(name) is None]


METHODS: dict[str, QuantizationMethod] = {
    "bitsandbytes": QuantizationMethod(
        "bitsandbytes in 4 or 8 bits",
        "layer by layer",
        packages=(("bitsandbytes", "bitsandbytes"), ("accelerate", "accelerate")),
    ),
    "fp8": QuantizationMethod(
        "fp8 with a scale for each block (weight_scale_inv)",
        "when it is loaded",
        "FineGrainedFP8Config",
        (("accelerate", "accelerate"),),
    ),
    "mxfp4": QuantizationMethod(
        "MXFP4 (gpt-oss)",
        "when it is loaded",
        "Mxfp4Config",
        (("accelerate", "accelerate"),),
    ),
    "compressed-tensors": QuantizationMethod(
        "compressed-tensors",
        "when it is loaded",
        "CompressedTensorsConfig",
        (("compressed_tensors", "compressed-tensors"), ("accelerate", "accelerate")),
    ),
}
_KEYS = ("quantization_config", "compression_config", "quantization")


def quantization_of(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The settings of the quantisation in a model's config; None for a model in full precision."""
    parts = [config, *(part for part in config.values() if isinstance(part, dict))]
    found = (part.get(key) for part in parts for key in _KEYS)
    return next((settings for settings in found if settings and isinstance(settings, dict)), None)


def method_of(settings: Mapping[str, Any]) -> str:
    """The name of the method, as transformers takes it; older bitsandbytes files have none."""
    if settings.get("load_in_4bit") or settings.get("load_in_8bit"):
        return "bitsandbytes"
    return str(settings.get("quant_method") or "unknown").lower()


def way_out(settings: Mapping[str, Any]) -> str:
    """What to do with a model of these settings that full precision is asked of."""
    row = METHODS.get(method_of(settings))
    if row is None:
        return (
            f"take the model that it was made from; {method_of(settings)} is none of what "
            f"--dequantize takes back ({', '.join(METHODS)})"
        )
    if row.missing:
        return (
            f"`pip install {' '.join(row.missing)}`, then `raylab diff` and `raylab merge` with "
            "--dequantize, or take the model that it was made from"
        )
    return (
        "`raylab diff` and `raylab merge` with --dequantize take a copy in full precision; the "
        "model that it was made from is more exact"
    )
