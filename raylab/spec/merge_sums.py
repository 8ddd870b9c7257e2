"""Whether the weights of a merge can be divided by, where its method does.

Model: a method divides by the sum of the weights of a tensor, or lets the models vote by them.
Invariant: what passes here divides by no zero, whatever the entries are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from raylab.errors import InputError
from raylab.spec.merge_methods import METHODS


def check_sums(
    method: str, weights: Mapping[str, Sequence[float]], normalizes: Mapping[str, bool]
) -> None:
    """Raise InputError where the `weights` that the models have by tensor cannot be divided by;
    normalizes: whether the merge of a tensor divides by them."""
    row = METHODS[method]
    always = row.elects or row.combines == "tensors"
    counting = {name: given for name, given in weights.items() if always or normalizes[name]}
    if counting and not any(weight for given in counting.values() for weight in given):
        raise InputError(
            f"{method} divides by the weights, or lets them vote",
            found="all weights are 0",
            expected="weights that are not all 0",
        )
    for name, given in counting.items():
        idles = row.of == "deltas" and not any(given)
        if not row.elects and not idles and sums_to_zero(given):
            raise InputError(
                f"{method} divides by the sum of the weights, which is 0",
                found=f"{list(given)}" + (f" for {name}" if name else ""),
                expected="weights whose sum is not 0, or normalize: false",
            )


def sums_to_zero(weights: Sequence[float]) -> bool:
    """Whether the sum of the weights is zero, but for what their decimals were rounded by."""
    return abs(math.fsum(weights)) <= 1e-12 * math.fsum(map(abs, weights))
