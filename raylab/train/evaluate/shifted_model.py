"""A base model plus a weighted sum of task vectors of LoRA adapters, without a merged checkpoint.

Model: the task vector of an adapter at one layer is s B A, of rank r. The sum of several, each
times its share c, is one product of rank r_1 + r_2 + ...: [c_1 s_1 B_1, c_2 s_2 B_2, ...] times
[A_1; A_2; ...]. A forward hook adds this product to the layer's output; the layer itself stays as
it is held, quantised or not.
Invariant: nothing of the base model changes. A sum depends on its adapters and shares alone, not
on the sums before it. An adapter that is more than products of two factors is refused: DoRA,
tensors that are saved whole, biases, experts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from raylab.errors import ModelError
from raylab.weights.adapter import Adapter


@dataclass(frozen=True)
class Factors:
    """inner: (r, inputs), outer: (outputs, r), float32: y = outer @ inner @ x, scale included."""

    inner: torch.Tensor
    outer: torch.Tensor


class ShiftedModel:
    """A base model to which task vectors can be added."""

    def __init__(self, model: nn.Module) -> None:
        """`model` in eval mode; nothing is added yet."""
        self.model = model
        self._modules = dict(model.named_modules())
        self._opened: dict[Path, Mapping[str, Factors]] = {}

    @contextmanager
    def shifted(self, shares: Mapping[Path, float]) -> Iterator[nn.Module]:
        """Within, the model has the task vectors of these adapters added, each times its share.

        Raises ModelError for an adapter that does not fit.
        """
        # Those of the point before are often those of this one; others are let go.
        self._opened = {path: one for path, one in self._opened.items() if path in shares}
        for path in shares:
            if path not in self._opened:
                self._opened[path] = self._factors(path)
        parts: dict[str, list[Factors]] = {}
        for path, share in shares.items():
            for name, found in self._opened[path].items():
                parts.setdefault(name, []).append(Factors(found.inner, found.outer * share))
        hooks = [
            self._modules[name].register_forward_hook(_Product(found))
            for name, found in parts.items()
        ]
        try:
            yield self.model
        finally:
            for hook in hooks:
                hook.remove()

    def _factors(self, directory: Path) -> dict[str, Factors]:
        """The factors of an adapter by module, on the device of the module."""
        adapter = Adapter.open(directory)
        others = [name for name in adapter.names if name not in adapter.low_rank]
        if others:
            raise _misfit(directory, others[0], "a product of two factors, as plain LoRA has it")
        return {
            name.removesuffix(".weight"): self._of_module(directory, adapter, name)
            for name in adapter.names
        }

    def _of_module(self, directory: Path, adapter: Adapter, name: str) -> Factors:
        module = self._modules.get(name.removesuffix(".weight"))
        if module is None:
            raise _misfit(directory, name, "a module of the base model")
        if not isinstance(module, nn.Linear | Conv1D | nn.Embedding):
            raise _misfit(directory, name, "a linear layer or an embedding")
        if hasattr(module, "embed_scale"):
            raise _misfit(directory, name, "an embedding that is not scaled")
        inner, outer, scale = adapter.factors(name)
        if name in adapter.conv1d or isinstance(module, nn.Embedding):
            # The stored weight is (inputs, outputs), and so is the product of these factors.
            inner, outer = outer.T, inner.T
        device = next(module.parameters()).device
        return Factors(inner.to(device), (outer * scale).to(device))


class _Product:
    """Adds a sum of products to a layer's output."""

    def __init__(self, parts: list[Factors]) -> None:
        self._inner = torch.cat([part.inner for part in parts])
        self._outer = torch.cat([part.outer for part in parts], dim=1)

    def __call__(self, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: Any) -> Any:
        x = inputs[0]
        with torch.autocast(x.device.type, enabled=False):
            if isinstance(module, nn.Embedding):
                low = functional.embedding(x, self._inner.T)
            else:
                low = functional.linear(x.to(self._inner.dtype), self._inner)
            term = functional.linear(low, self._outer)
        return output + term.to(output.dtype)


def _misfit(directory: Path, name: str, expected: str) -> ModelError:
    return ModelError(
        "an adapter's task vector cannot be added beside the base model",
        found=f"{directory} changes {name}",
        expected=expected,
    )
