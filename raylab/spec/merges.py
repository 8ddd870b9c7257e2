"""The request for a merge: method, models, weights, and the entries to keep of each model.

Model: a request names a row of `raylab.spec.merge_methods.METHODS` and what this method takes:
models in order with their weights and densities, a base model, and the method's own parameters by
name. Every number may differ by tensor (`raylab.spec.merge_settings`); what is left of the request
for one tensor is in `raylab.spec.tensor_settings`.
Invariant: a MergeRequest can be carried out as far as its words go. What would have no effect
under its method (a density for `linear`) is refused, so that nothing asked is ever ignored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, cast

from raylab.errors import InputError
from raylab.number_format import either
from raylab.spec.adapter_output import AdapterOutput
from raylab.spec.merge_methods import METHODS, MergeMethod
from raylab.spec.merge_parameters import check_probabilities, checked_parameters
from raylab.spec.merge_settings import Setting, Varying, points_of
from raylab.spec.merge_sums import check_sums
from raylab.spec.output_tokenizer import OutputTokenizer
from raylab.spec.proposals import close_names
from raylab.spec.slices import Slice

Scope = Literal["global", "tensor"]
Rescale = Literal["none", "density", "l1"]
"""What kept entries are multiplied by: 1, 1 / density, or what restores a tensor's L1 norm."""

DENSITY = 0.2
SEED = 0


@dataclass(frozen=True)
class MergeInput:
    """One model of a merge. density: the fraction of its task vector that is kept, in (0, 1]; of
    a density that differs by tensor some may be 0, but not all. parameters: those of the method's
    own that are given for each model, and then for all of them."""

    model: str
    weight: Setting = 1.0
    density: Setting = 1.0
    parameters: Mapping[str, Setting] = field(default_factory=dict)


@dataclass(frozen=True)
class MergeRequest:
    """A merge, checked; make one with `request_merge`.

    scaling: the lambda that the merged task vector is multiplied by. scope and seed: None where
    the method has no use for them. dtype: what the output has to have; None: the base's own.
    normalize: a flag, which may differ by tensor as all settings. parameters: a value for each of
    the method's own that the inputs do not have, in the order of its row.
    """

    method: str
    inputs: tuple[MergeInput, ...]
    base: str | None
    scope: Scope | None
    scaling: Setting
    seed: int | None
    normalize: Setting
    rescale: Rescale = "none"
    rescales: Setting = True
    """Whether a tensor is rescaled in the way of `rescale`."""
    dtype: str | None = None
    output: AdapterOutput | None = None
    """What the adapter to be written is; None for a whole model."""
    slices: tuple[Slice, ...] = ()
    """What the output's layers are; none: the layers of every model, as they are."""
    parameters: Mapping[str, Setting] = field(default_factory=dict)
    tokenizer: OutputTokenizer | None = None
    """None: rows of tokens are merged by id, and all models have one vocabulary."""
    chat_template: str | None = None
    """That of the output: AUTO (see `raylab.spec.output_template`), or its text; None: as it is."""

    @property
    def of_values(self) -> bool:
        """Whether the method combines the models' values; otherwise their task vectors."""
        return self.row.of == "values" or (self.row.of == "either" and self.base is None)

    @property
    def row(self) -> MergeMethod:
        """The method's row in the table."""
        return METHODS[self.method]


def check_method(method: str | None) -> str:
    """The same. Raises InputError if it is none of METHODS."""
    if method is None:
        raise InputError(
            "no merge method is given",
            expected=", ".join(METHODS),
            todo="name a method, or a file of mergekit: `raylab merge --config FILE`",
        )
    if method not in METHODS:
        close = close_names(method, METHODS)
        raise InputError(
            "there is no such merge method",
            found=method,
            expected=", ".join(METHODS),
            todo=f"did you mean {either(close)}?" if close else "",
        )
    return method


def request_merge(
    method: str | None,
    models: Sequence[str],
    *,
    base: str | None = None,
    weights: Sequence[Setting] | None = None,
    density: float | Sequence[Setting] | None = None,
    scope: str | None = None,
    scaling: Setting | None = None,
    seed: int | None = None,
    normalize: Setting | None = None,
    rescale: Rescale | None = None,
    rescales: Setting = True,
    dtype: str | None = None,
    output: AdapterOutput | None = None,
    parameters: Mapping[str, Setting] | None = None,
    own: Sequence[Mapping[str, Setting]] | None = None,
    tokenizer: OutputTokenizer | None = None,
    chat_template: str | None = None,
    slices: Sequence[Slice] = (),
) -> MergeRequest:
    """A checked request. None stands for the defaults: weights of 1, density 0.2, scope global,
    lambda 1, seed 0, rescaling by 1 / density for DARE alone, and those of the method's own
    parameters. density: one for all models, or one for each. own: the parameters of each model
    that are not the same for all, of one set of names. A number of entries that differs by tensor
    has the scope tensor. Raises InputError.
    """
    method = check_method(method)
    row = METHODS[method]
    inputs = _inputs(row, models, weights, density)
    if own:
        rows = {name: row.parameters[name] for name in own[0] if name in row.parameters}
        checked = [checked_parameters(method, rows, given) for given in own]
        inputs = tuple(
            replace(item, parameters=mine) for item, mine in zip(inputs, checked, strict=True)
        )
    others = {n: r for n, r in row.parameters.items() if n not in inputs[0].parameters}
    shared = checked_parameters(method, others, parameters or {})
    request = MergeRequest(
        method=method,
        inputs=inputs,
        base=base,
        scope=cast(Scope, scope or _default_scope(inputs, shared)) if row.trims else None,
        scaling=1.0 if scaling is None else scaling,
        seed=(SEED if seed is None else seed) if row.draws else None,
        normalize=row.normalizes if normalize is None else normalize,
        rescale=rescale or ("density" if row.draws else "none"),
        rescales=rescales,
        dtype=dtype,
        output=output,
        slices=tuple(slices),
        parameters=shared,
        tokenizer=tokenizer,
        chat_template=chat_template,
    )
    given = {"density": density, "scope": scope, "seed": seed, "lambda": scaling}
    _refuse_idle(method, {"weight": weights, **given})
    _check_models(request)
    _check_numbers(request)
    if base is None and row.of == "deltas":
        raise InputError(f"{method} needs the base model", expected="a base model: --base")
    return request


def _inputs(
    row: MergeMethod,
    models: Sequence[str],
    weights: Sequence[Setting] | None,
    density: float | Sequence[Setting] | None,
) -> tuple[MergeInput, ...]:
    if not models:
        raise InputError("a merge needs models", found="none", expected="at least one")
    if weights and len(weights) != len(models):
        raise InputError(
            "the weights do not match the models",
            found=f"{len(weights)} weights for {len(models)} models",
            expected="one weight for each model, in the same order, or none at all",
        )
    if density is None:
        density = 1.0 if row.keeps == "all" else DENSITY
    densities = [density] * len(models) if isinstance(density, int | float) else density
    given = zip(models, weights or [1.0] * len(models), densities, strict=True)
    return tuple(MergeInput(model, _exact(weight), _exact(share)) for model, weight, share in given)


def _default_scope(inputs: Sequence[MergeInput], shared: Mapping[str, Setting]) -> Scope:
    """One threshold for all tensors is possible where they have the same shares."""
    counts = [*shared.values(), *(s for i in inputs for s in (i.density, *i.parameters.values()))]
    return "tensor" if any(isinstance(setting, Varying) for setting in counts) else "global"


def _exact(setting: Setting) -> Setting:
    return setting if isinstance(setting, Varying) else float(setting)


def _refuse_idle(method: str, given: Mapping[str, object]) -> None:
    row = METHODS[method]
    used = {
        "weight": row.weighs,
        "density": row.keeps != "all",
        "scope": row.trims,
        "seed": row.draws,
        "lambda": row.scales,
    }
    idle = [name for name, value in given.items() if value is not None and not used[name]]
    if idle:
        raise InputError(
            f"{method} has no {' and no '.join(idle)}",
            found=", ".join(f"{name} {given[name]}" for name in idle),
            expected=f"only what {method} uses: "
            + (", ".join([*(name for name in used if used[name]), *row.parameters]) or "models"),
        )


def _check_models(request: MergeRequest) -> None:
    row, names = request.row, [item.model for item in request.inputs]
    groups = [[names[one.model] for one in part.sources] for part in request.slices] or [names]
    for group in groups:
        count, fewest, most = len(group), row.fewest, row.most
        is_of_base = not group and row.of == "deltas" and row.combines == "entries"
        if not is_of_base and not fewest <= count <= (most or count):
            wanted = f"{fewest}" if most == fewest else f"at least {fewest}"
            raise InputError(
                f"{request.method} combines another number of models",
                found=f"{count}: {', '.join(group)}",
                expected=f"{wanted}, beside the base model" if row.of == "deltas" else wanted,
            )


def _check_numbers(request: MergeRequest) -> None:
    points = [point for item in request.inputs for point in points_of(item.weight)]
    if not all(math.isfinite(point) for point in [*points, *points_of(request.scaling)]):
        raise InputError(
            "weights and lambda are finite numbers", found=(points, str(request.scaling))
        )
    if request.row.combines == "tensors" and min(points) < 0:
        raise InputError(
            f"{request.method} weighs directions", found=points, expected="weights of at least 0"
        )
    weights = [item.weight for item in request.inputs]
    varies = any(isinstance(setting, Varying) for setting in (*weights, request.normalize))
    if not varies and not request.slices:
        check_sums(
            request.method,
            {"": cast(list[float], weights)},
            {"": bool(request.normalize)},
        )
    for item in request.inputs:
        density, shares = item.density, points_of(item.density)
        if not (all(0 <= share <= 1 for share in shares) and any(shares)):
            raise InputError(
                "a density is a fraction",
                found=str(density),
                expected="in (0, 1]; 0 for some tensors, not for all, where it differs by tensor",
            )
        epsilon = {**request.parameters, **item.parameters}.get("epsilon")
        if request.row.keeps == "by_rank" and isinstance(epsilon, float):
            check_probabilities(request.method, shares, epsilon)
    if request.scope not in (None, "global", "tensor"):
        raise InputError("no such scope", found=request.scope, expected="global or tensor")
    if request.rescale == "l1" and request.scope == "global":
        raise InputError(
            "the L1 norm is restored for each tensor",
            found="rescale: true with scope global",
            expected="scope tensor",
        )
    by_tensor = _default_scope(request.inputs, request.parameters) == "tensor"
    if request.scope == "global" and by_tensor:
        raise InputError(
            "a density that differs by tensor has no global threshold",
            found="scope global",
            expected="scope tensor, or one density for each model",
        )
    if request.seed is not None and not 0 <= request.seed < 1 << 64:
        raise InputError("the seed is out of range", found=request.seed, expected="0 to 2^64 - 1")
