"""Where every tensor of the output comes from: which tensor of which model.

Model: an origin names a tensor of each model that is merged, and of the base model. Where the
request has slices, the layers of an output come from layers of other numbers; else every tensor
has its own name in all models. The rest of a merge asks for rows of an output's tensor and knows
nothing of slices.
The base of a tensor is what task vectors are taken from, and what is copied where no model changes
it: a tensor of the template or, where a slice has no base model, of its first model.
Invariant: all tensors of an origin exist and have its shape. No tensor of a layer that is used is
left out.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from raylab.errors import ModelError
from raylab.spec.layer_names import layer_name
from raylab.spec.merge_settings import Spot, spots_of
from raylab.spec.merges import MergeRequest
from raylab.spec.modules import DEFAULT, Module, modules_of
from raylab.spec.slices import Slice
from raylab.spec.tied import HEADS
from raylab.weights import Shape
from raylab.weights.checkpoint import StoredWeights
from raylab.weights.mapped_rows import ModelView

_BEFORE = re.compile(r"emb|wte|wpe|relative_pe|patch|\b(ln|layernorm)_pre\b|\bconv\d")
"""Parts of the names of tensors outside the layers that lie before them."""
TEMPLATE = None
"""In the place of a model's number: the checkpoint whose config the output has."""


@dataclass(frozen=True)
class Origin:
    """sources: by the number of an input, its tensor, in the order in which the method takes them.
    base: (an input or the template, its tensor). layer: (number, count) in the slice, None outside
    the layers; slice: the number of the slice, where there are any."""

    shape: Shape
    base: tuple[int | None, str]
    sources: Mapping[int, str]
    layer: tuple[int, int] | None = None
    slice: int | None = None


Arrangement = Mapping[str, Origin]
"""By tensor of the output."""


def arrange(
    request: MergeRequest,
    template: StoredWeights,
    models: Sequence[ModelView],
    shapes: Mapping[str, Shape],
) -> Arrangement:
    """The origins of an output of `request`. shapes: of the tensors of the template that an output
    without slices has. Raises ModelError."""
    if request.slices:
        return dict(_Arranger(request, template, models, shapes).origins())
    spots, sources = spots_of(shapes), range(len(models))
    return {
        name: Origin(shape, (TEMPLATE, name), dict.fromkeys(sources, name), spots[name].layer)
        for name, shape in shapes.items()
    }


def spots_in(arrangement: Arrangement, model: int | None = None) -> dict[str, Spot]:
    """Where filters and gradients find every tensor: of input `model`, by its own names; None: by
    the output's."""
    return {
        name: Spot(name if model is None else origin.sources[model], origin.layer, origin.slice)
        for name, origin in arrangement.items()
        if model is None or model in origin.sources
    }


class _Arranger:
    """Makes the origins of an output with slices."""

    def __init__(
        self,
        request: MergeRequest,
        template: StoredWeights,
        models: Sequence[ModelView],
        shapes: Mapping[str, Shape],
    ) -> None:
        self._request, self._models, self._shapes = request, models, shapes
        self._template = template

    def origins(self) -> Iterator[tuple[str, Origin]]:
        """Every tensor of the output. Raises ModelError."""
        named = {one.module for one in self._request.slices}
        modules = modules_of(self._shapes)
        if named == {None} and len(modules) == 1:
            named = {*modules}
        if named != {*modules}:
            raise ModelError(
                f"the model has {len(modules)} modules, and the merge says of others what they are",
                found=", ".join(sorted(name or "slices" for name in named)),
                expected=f"modules: {', '.join(modules)}",
            )
        for name, module in modules.items():
            mine = [
                (number, one)
                for number, one in enumerate(self._request.slices)
                if (one.module or DEFAULT) == name
            ]
            yield from self._module(module, mine)

    def _module(
        self, module: Module, slices: Sequence[tuple[int, Slice]]
    ) -> Iterator[tuple[str, Origin]]:
        stack = _stack(module.tensors) if module.row.counts else None
        outside = [
            name for name in module.tensors if stack is None or not name.startswith(f"{stack}.")
        ]
        for name in outside:
            number, part = slices[0 if is_before(name) else -1]
            yield name, self._outside(name, number, part)
        layer = 0
        for number, part in slices if stack else ():
            count = self._count(part, stack or "")
            for place in range(count):
                found = self._layer(f"{stack}", place, count, number, part)
                yield from ((f"{stack}.{layer}.{end}", origin) for end, origin in found)
                layer += 1

    def _outside(self, name: str, number: int, part: Slice) -> Origin:
        base = self._base_of(part, name)
        sources = {source.model: name for source in part.sources}
        for model in sources:
            self._check(model, name, self._shapes[name])
        return Origin(self._shapes[name], (base, name), sources, None, number)

    def _layer(
        self, stack: str, place: int, count: int, number: int, part: Slice
    ) -> Iterator[tuple[str, Origin]]:
        """Every tensor of one layer of a slice, by the end of its name."""
        base = self._base_of(part)
        first = part.sources[0].first if part.base is None else part.base
        mine = self._ends(base, f"{stack}.{first + place}", part)
        stems = {one.model: f"{stack}.{one.first + place}" for one in part.sources}
        for model, stem in stems.items():
            for end in self._ends(model, stem, part):
                if end not in mine:
                    self._refuse(model, f"{stem}.{end}", "none in the other models of its slice")
        for end, shape in mine.items():
            sources = {model: f"{stem}.{end}" for model, stem in stems.items()}
            for model, name in sources.items():
                self._check(model, name, shape)
            origin = (base, f"{stack}.{first + place}.{end}")
            yield end, Origin(shape, origin, sources, (place, count), number)

    def _base_of(self, part: Slice, name: str | None = None) -> int | None:
        """Whose tensors are the base of a slice."""
        if part.base is not None or not part.sources:
            return TEMPLATE
        model = part.sources[0].model
        viewed = self._models[model]
        has_it = viewed.is_checkpoint and (name is None or viewed.changes(name))
        return model if has_it else TEMPLATE

    def _known(self, model: int | None) -> Mapping[str, Shape]:
        """The tensors of an input; an adapter has those of the template."""
        if model is TEMPLATE or not self._models[model].is_checkpoint:
            return self._template.shapes
        return self._models[model].shapes

    def _ends(self, model: int | None, stem: str, part: Slice) -> dict[str, Shape]:
        """The ends of the names of the tensors of a layer, with their shapes. Raises ModelError."""
        known = self._known(model)
        start = f"{stem}."
        found = {n.removeprefix(start): s for n, s in known.items() if n.startswith(start)}
        if not found:
            layers = _layers(known, stem.rpartition(".")[0])
            raise ModelError(
                f"{self._name(model)} has no layer {stem.rpartition('.')[2]}",
                found=f"{layers} layers",
                expected=f"a layer_range within [0, {layers}]",
            )
        return found

    def _count(self, part: Slice, stack: str) -> int:
        if part.layers is not None:
            return part.layers
        owners = [TEMPLATE] if part.base is not None else [part.sources[0].model]
        counts = {model: _layers(self._known(model), stack) for model in owners}
        counts |= {one.model: _layers(self._known(one.model), stack) for one in part.sources}
        if len(set(counts.values())) > 1:
            raise ModelError(
                "the models have different numbers of layers",
                found=", ".join(f"{self._name(m)}: {count}" for m, count in counts.items()),
                expected="as many layers in every model of a slice",
            )
        return counts[owners[0]]

    def _check(self, model: int, name: str, shape: Shape) -> None:
        """Raise ModelError where an input lacks a tensor, or has another shape."""
        viewed = self._models[model]
        if name in viewed.shapes:
            if viewed.shapes[name] != shape:
                self._refuse(model, f"{name}: {tuple(viewed.shapes[name])}", f"{tuple(shape)}")
        elif viewed.is_checkpoint and not viewed.changes(name):
            self._refuse(model, f"{name}: none", f"{tuple(shape)}")

    def _refuse(self, model: int, found: str, others: str) -> None:
        raise ModelError(
            f"{self._name(model)} does not fit the others of its slice",
            found=f"{found}, in the others: {others}",
            expected="the same tensors and shapes",
        )

    def _name(self, model: int | None) -> str:
        if model is TEMPLATE:
            return self._request.base or "the base model"
        return self._request.inputs[model].model


def is_before(name: str) -> bool:
    """Whether a tensor outside the layers belongs to what lies before them, as embeddings do."""
    return name not in HEADS and bool(_BEFORE.search(name))


def _stack(tensors: Collection[str]) -> str | None:
    """What the layers of a module are called, without their numbers; None where it has none."""
    stacks = {found.stack for name in tensors if (found := layer_name(name))}
    if len(stacks) > 1:
        raise ModelError(
            "a module has several stacks of layers",
            found=", ".join(sorted(stacks)),
            expected="one stack of layers",
        )
    return next(iter(stacks), None)


def _layers(tensors: Collection[str], stack: str) -> int:
    """How many layers a model has."""
    found = (layer_name(name) for name in tensors)
    return max((one.number + 1 for one in found if one and one.stack == stack), default=0)
