"""Slices of a merge: an output whose layers are those of models in another order.

Model: a module of the output (`raylab.spec.modules`; the whole model where a request names none)
is cut into slices, one after the other. A slice has as many layers of each of its sources, merged
as whole models are. What lies before the layers is merged of the models of the first slice, and
what comes after them of the models of the last one.
Invariant: slices say nothing of tensors: what a model has in a layer is known when it is opened.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """Layers of input number `model` of the request, from `first` on."""

    model: int
    first: int = 0


@dataclass(frozen=True)
class Slice:
    """Some layers of the output.

    sources: in the order in which the method takes models. layers: how many; None: all that the
    models have. base: the first of the base model's layers; None: no base model is needed. module:
    None for the whole model.
    """

    sources: tuple[Source, ...]
    layers: int | None = None
    base: int | None = None
    module: str | None = None
