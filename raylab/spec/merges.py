"""The request for a merge: method, models, weights, and the entries to keep of each model.

Model: a request names a row of `raylab.spec.merge_methods.METHODS` and what this method takes:
models in order with their weights and densities, a base model, and the method's own parameters by
name. A weight or a density may differ by tensor (`raylab.spec.merge_settings`); the
sums are then those of one tensor.
Invariant: a MergeRequest can be carried out as far as its words go. What would have no effect
under its method (a density for `linear`) is refused, so that nothing asked is ever ignored.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

from raylab.errors import InputError
from raylab.number_format import either
from raylab.spec.adapter_output import AdapterOutput
from raylab.spec.merge_methods import METHODS, MergeMethod
from raylab.spec.merge_parameters import Parameter, check_probabilities, checked_parameters
from raylab.spec.merge_settings import Setting, Varying, numbers_of, points_of
from raylab.spec.proposals import close_names

Scope = Literal["global", "tensor"]
Rescale = Literal["none", "density", "l1"]
"""What kept entries are multiplied by: 1, 1 / density, or what restores a tensor's L1 norm."""

DENSITY = 0.2
SEED = 0


@dataclass(frozen=True)
class MergeInput:
    """One model of a merge. density: the fraction of its task vector that is kept, in (0, 1]; of
    a density that differs by tensor some may be 0, but not all."""

    model: str
    weight: Setting = 1.0
    density: Setting = 1.0


@dataclass(frozen=True)
class MergeRequest:
    """A merge, checked; make one with `request_merge`.

    scaling: the lambda that the merged task vector is multiplied by. scope and seed: None where
    the method has no use for them. dtype: what the output has to have; None: the base's own.
    parameters: a value for each of the method's own, in the order of its row.
    """

    method: str
    inputs: tuple[MergeInput, ...]
    base: str | None
    scope: Scope | None
    scaling: float
    seed: int | None
    normalize: bool
    rescale: Rescale = "none"
    dtype: str | None = None
    output: AdapterOutput | None = None
    """What the adapter to be written is; None for a whole model."""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)

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
    if method is None or method not in METHODS:
        close = close_names(method or "", METHODS)
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
    scaling: float | None = None,
    seed: int | None = None,
    normalize: bool | None = None,
    rescale: Rescale | None = None,
    dtype: str | None = None,
    output: AdapterOutput | None = None,
    parameters: Mapping[str, Parameter] | None = None,
) -> MergeRequest:
    """A checked request. None stands for the defaults: weights of 1, density 0.2, scope global,
    lambda 1, seed 0, rescaling by 1 / density for DARE alone, and those of the method's own
    parameters. density: one for all models, or one for each. A density that differs by tensor has
    the scope tensor. Raises InputError.
    """
    method = check_method(method)
    row = METHODS[method]
    inputs = _inputs(row, models, weights, density)
    varies = any(isinstance(item.density, Varying) for item in inputs)
    by_default = "tensor" if varies else "global"
    request = MergeRequest(
        method=method,
        inputs=inputs,
        base=base,
        scope=cast(Scope, scope or by_default) if row.trims else None,
        scaling=1.0 if scaling is None else scaling,
        seed=(SEED if seed is None else seed) if row.draws else None,
        normalize=row.normalizes if normalize is None else normalize,
        rescale=rescale or ("density" if row.draws else "none"),
        dtype=dtype,
        output=output,
        parameters=checked_parameters(method, row.parameters, parameters or {}),
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


def _exact(setting: Setting) -> Setting:
    return setting if isinstance(setting, Varying) else float(setting)


def _refuse_idle(method: str, given: Mapping[str, object]) -> None:
    row = METHODS[method]
    used = {
        "weight": row.weighs,
        "density": row.keeps != "all",
        "scope": row.trims,
        "seed": row.draws,
        "lambda": row.of == "deltas" and row.combines == "entries",
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
    count, fewest, most = len(request.inputs), request.row.fewest, request.row.most
    if not fewest <= count <= (most or count):
        wanted = f"{fewest}" if most == fewest else f"at least {fewest}"
        raise InputError(
            f"{request.method} combines another number of models",
            found=f"{count}: {', '.join(item.model for item in request.inputs)}",
            expected=f"{wanted}, beside the base model" if request.row.of == "deltas" else wanted,
        )


def _check_numbers(request: MergeRequest) -> None:
    points = [point for item in request.inputs for point in points_of(item.weight)]
    if not all(math.isfinite(point) for point in [*points, request.scaling]):
        raise InputError("weights and lambda are finite numbers", found=(points, request.scaling))
    if request.row.combines == "tensors" and min(points) < 0:
        raise InputError(
            f"{request.method} weighs directions", found=points, expected="weights of at least 0"
        )
    weights = [item.weight for item in request.inputs]
    if not any(isinstance(weight, Varying) for weight in weights):
        _check_sums(request, {"": cast(list[float], weights)})
    for density in (item.density for item in request.inputs):
        shares = points_of(density)
        if not (all(0 <= share <= 1 for share in shares) and any(shares)):
            raise InputError(
                "a density is a fraction",
                found=str(density),
                expected="in (0, 1]; 0 for some tensors, not for all, where it differs by tensor",
            )
        _check_probabilities(request, shares)
    if request.scope not in (None, "global", "tensor"):
        raise InputError("no such scope", found=request.scope, expected="global or tensor")
    if request.rescale == "l1" and request.scope == "global":
        raise InputError(
            "the L1 norm is restored for each tensor",
            found="rescale: true with scope global",
            expected="scope tensor",
        )
    varies = any(isinstance(item.density, Varying) for item in request.inputs)
    if request.scope == "global" and varies:
        raise InputError(
            "a density that differs by tensor has no global threshold",
            found="scope global",
            expected="scope tensor, or one density for each model",
        )
    if request.seed is not None and not 0 <= request.seed < 1 << 64:
        raise InputError("the seed is out of range", found=request.seed, expected="0 to 2^64 - 1")


def _check_probabilities(request: MergeRequest, densities: Iterable[float]) -> None:
    if request.row.keeps == "by_rank":
        check_probabilities(request.method, densities, float(request.parameters["epsilon"]))


def _check_sums(request: MergeRequest, weights: Mapping[str, Sequence[float]]) -> None:
    """Raise InputError where the `weights` that the models have by tensor cannot be divided by."""
    row = request.row
    if not (row.elects or request.normalize or row.combines == "tensors"):
        return
    if not any(weight for of_tensor in weights.values() for weight in of_tensor):
        raise InputError(
            f"{request.method} divides by the weights, or lets them vote",
            found="all weights are 0",
            expected="weights that are not all 0",
        )
    for name, of_tensor in weights.items():
        idles = row.of == "deltas" and not any(of_tensor)
        if not row.elects and not idles and sums_to_zero(of_tensor):
            raise InputError(
                f"{request.method} divides by the sum of the weights, which is 0",
                found=f"{list(of_tensor)}" + (f" for {name}" if name else ""),
                expected="weights whose sum is not 0, or normalize: false",
            )


def sums_to_zero(weights: Sequence[float]) -> bool:
    """Whether the sum of the weights is zero, but for what their decimals were rounded by."""
    return abs(math.fsum(weights)) <= 1e-12 * math.fsum(map(abs, weights))


@dataclass(frozen=True)
class TensorSettings:
    """What the models of a merge have for each tensor: one mapping for each model, in order."""

    weights: tuple[Mapping[str, float], ...]
    densities: tuple[Mapping[str, float], ...]


def settings_of(request: MergeRequest, tensors: Collection[str]) -> TensorSettings:
    """The weights and densities of an output that has `tensors`. Raises InputError where a setting
    does not fit them, the weights of a tensor cannot be divided by, or a model keeps nothing."""
    weights, densities = (
        tuple(
            numbers_of(getattr(item, field), tensors, f"the {field} of {item.model}")
            for item in request.inputs
        )
        for field in ("weight", "density")
    )
    _check_sums(request, {name: [of_model[name] for of_model in weights] for name in tensors})
    for item, of_model in zip(request.inputs, densities, strict=True):
        if not any(of_model.values()):
            raise InputError(
                f"{item.model} keeps no entry of any tensor",
                found=f"density {item.density}",
                expected="a density above 0 for at least one tensor",
            )
        _check_probabilities(request, of_model.values())
    return TensorSettings(weights, densities)
