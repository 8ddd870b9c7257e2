"""What is left of a request for one tensor: plain numbers.

Model: every setting of a request that differs by tensor is looked up where the tensor stands
(`raylab.spec.merge_settings.Spot`).
Invariant: the settings of all tensors exist, or none: a filter that matches nothing, a gradient of
more points than layers and weights that cannot be divided by are errors before a row is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raylab.errors import InputError
from raylab.spec.merge_methods import MergeMethod
from raylab.spec.merge_parameters import Parameter, check_probabilities
from raylab.spec.merge_settings import Asked, Setting, Spot, numbers_of
from raylab.spec.merge_sums import check_sums
from raylab.spec.merges import MergeRequest, Rescale


@dataclass(frozen=True)
class TensorSettings:
    """The numbers for one tensor. weights, densities, own: of each model of the request, in order;
    own: the method's parameters that are by model; parameters: the others."""

    weights: tuple[float, ...]
    densities: tuple[float, ...]
    own: tuple[Mapping[str, Parameter], ...]
    scaling: float
    normalize: bool
    rescale: Rescale
    parameters: Mapping[str, Parameter]

    def keeps_equal(self, row: MergeMethod) -> bool:
        """Whether a method of values gives a tensor that all models have as it is."""
        divides = self.normalize or row.combines == "tensors"
        divides = bool(self.parameters.get("normalize_weights", divides))
        sums_to_one = abs(sum(self.weights) - 1) <= 1e-12
        scales = any(own.get("scale", 1.0) != 1.0 for own in self.own)
        return (divides or sums_to_one) and not scales


Spots = Mapping[str, Spot]


def settings_of(
    request: MergeRequest, spots: Spots, of_inputs: Sequence[Spots] | None = None
) -> Mapping[str, TensorSettings]:
    """The settings of every tensor of an output that has `spots`. of_inputs: those of the tensors
    that each input has a part in, with its own names; None: all of `spots`. What an input has no
    part in has the weight and the density 0. Raises InputError where a setting does not fit them,
    the weights of a tensor cannot be divided by, or a model keeps nothing."""
    owns = of_inputs or [spots] * len(request.inputs)
    named = list(zip([item.model for item in request.inputs], owns, strict=True))

    def of_models(what: str, settings: list[Setting]) -> list[dict[str, float]]:
        pairs = zip(named, settings, strict=True)
        return numbers_of([Asked(f"the {what} of {m}", asked, own) for (m, own), asked in pairs])

    def of_all(what: str, setting: Setting) -> dict[str, float]:
        return numbers_of([Asked(what, setting, spots)])[0]

    weights = of_models("weight", [item.weight for item in request.inputs])
    densities = of_models("density", [item.density for item in request.inputs])
    by_model = [name for name, row in request.row.parameters.items() if row.by_model]
    own = {
        name: of_models(
            name, [{**request.parameters, **i.parameters}[name] for i in request.inputs]
        )
        for name in by_model
    }
    shared = {
        name: of_all(f"{request.method}'s {name}", setting)
        for name, setting in request.parameters.items()
        if name not in by_model
    }
    scaling, normalize = of_all("lambda", request.scaling), of_all("normalize", request.normalize)
    rescales = of_all("rescale", request.rescales)
    found = {
        tensor: TensorSettings(
            weights=tuple(of_model.get(tensor, 0.0) for of_model in weights),
            densities=tuple(of_model.get(tensor, 0.0) for of_model in densities),
            own=tuple(
                {name: found[number].get(tensor, 0.0) for name, found in own.items()}
                for number in range(len(request.inputs))
            ),
            scaling=scaling[tensor],
            normalize=bool(normalize[tensor]),
            rescale=request.rescale if rescales[tensor] else "none",
            parameters={name: numbers[tensor] for name, numbers in shared.items()},
        )
        for tensor in spots
    }
    _check(request, found)
    return found


def _check(request: MergeRequest, found: Mapping[str, TensorSettings]) -> None:
    check_sums(
        request.method,
        {tensor: settings.weights for tensor, settings in found.items()},
        {tensor: settings.normalize for tensor, settings in found.items()},
    )
    for number, item in enumerate(request.inputs):
        for settings in found.values() if request.row.keeps == "by_rank" else ():
            epsilon = float(settings.own[number]["epsilon"])
            check_probabilities(request.method, [settings.densities[number]], epsilon)
        if not any(settings.densities[number] for settings in found.values()):
            raise InputError(
                f"{item.model} keeps no entry of any tensor",
                found=f"density {item.density}",
                expected="a density above 0 for at least one tensor",
            )
