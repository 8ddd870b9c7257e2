"""Methods that give every model a factor by the directions of its tensor: slerp and its relatives.

Model: x_i is one tensor of model i (its values, or its task vector), as one vector or, where a
parameter says so, row by row or column by column. The factors follow from the inner products
G[i, j] = <x_i, x_j> alone, and the result is sum_i c_i x_i. So no tensor is held whole: one pass
sums the products, the next one the models. Shapes: G float64 (models, models, vectors), factors
float64 (models, vectors).

    slerp, nuslerp   c = sin((1 - t) a) / sin(a), sin(t a) / sin(a), at the angle a between both
                     (Shoemake 1985, doi:10.1145/325334.325242); nuslerp's t is w_2 / (w_1 + w_2)
    multislerp       the direction of sum_i w_i u_i, u_i = x_i / |x_i|, times sum_i w_i |x_i|.
                     Goddard's description interpolates in the tangent space at this direction,
                     where the weighted sum of the projected u_i is zero by its definition
    karcher          the direction m that minimises sum_i w_i angle(m, u_i)^2, by steps along the
                     sphere from the direction of multislerp, times sum_i w_i |x_i|
                     (Karcher 1977, doi:10.1002/cpa.3160300502)
    model_stock      t times the mean task vector, t = n cos / (1 + (n - 1) cos), with the mean
                     cosine of all pairs (Jang et al. 2024, arXiv:2403.19522, equation 6)

Where no arc is defined, interpolation is linear: two vectors that are parallel or opposite (to
1e-6 of an angle), a zero vector in slerp and nuslerp, directions that cancel in multislerp and
karcher. The paper of Model Stock has no case of a zero vector (its cosines count 0), of negative
cosines (the formula is used as it is), or of 1 + (n - 1) cos = 0 (t = 0, the base stays).
Invariant: equal models give the model; float64 throughout; sums have one order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from raylab.spec.merge_parameters import Parameter

Array = np.ndarray
Parameters = Mapping[str, Parameter]
Factors = Callable[[Array, Array, Parameters], Array]
"""Of (products, weights, parameters); weights: float64 (models,), those of the tensor."""

_NO_ARC = 1e-12
"""Where sin^2 of the angle between two vectors is at most this, they are parallel or opposite."""
_NO_MEAN = 1e-8
"""The norm of a mean of unit vectors that cancel."""
_SINGULAR = 1e-6
"""Of 1 + (n - 1) cos, as in mergekit."""


def slerp(products: Array, weights: Array, parameters: Parameters) -> Array:
    """The factors of two models at parameter t of the arc from the first to the second."""
    return _on_arc(products, float(parameters["t"]))


def nuslerp(products: Array, weights: Array, parameters: Parameters) -> Array:
    """As `slerp`, where the weights say how near each model is."""
    return _on_arc(products, weights[1] / weights.sum())


def _on_arc(products: Array, t: float) -> Array:
    norms = _norms(products)
    cosine = np.clip(_over(products[0, 1], norms[0] * norms[1]), -1.0, 1.0)
    has_arc = (norms.min(axis=0) > 0) & (1.0 - cosine**2 > _NO_ARC)
    angle = np.arccos(np.where(has_arc, cosine, 0.0))
    shares = np.array([1.0 - t, t])[:, None]
    return np.where(has_arc, np.sin(shares * angle) / np.sin(angle), shares)


def multislerp(products: Array, weights: Array, parameters: Parameters) -> Array:
    """The factors of the mean direction, at the mean norm."""
    total = weights.sum() if parameters["normalize_weights"] else 1.0
    weights = weights[:, None] / total
    norms, length = _norms(products), _length(products, weights)
    directed = weights / np.where(norms > 0, norms, 1.0) * (norms > 0)
    scale = (weights * norms).sum(axis=0)
    cancels = length < _NO_MEAN
    factors = directed * (scale / np.where(cancels, 1.0, length))
    return np.where(cancels | (len(weights) == 1), weights, factors)


def karcher(products: Array, weights: Array, parameters: Parameters) -> Array:
    """The factors of the Karcher mean of the directions, at the mean norm."""
    weights, norms = weights / weights.sum(), _norms(products)[:, 0]
    used = norms > 0
    if _length(products, weights[:, None])[0] < _NO_MEAN:
        return weights[:, None]
    cosines = _cosines(products)[:, :, 0]
    shares = np.where(used, weights, 0.0) / weights[used].sum()
    mean = shares / math.sqrt(shares @ cosines @ shares)
    for _ in range(int(parameters["max_iter"])):
        near = np.clip(cosines @ mean, -1.0, 1.0)
        angles = np.arccos(near)
        moves = (angles >= parameters["tol"]) & used
        pull = np.where(moves, shares * angles / np.sin(np.where(moves, angles, 1.0)), 0.0)
        step = pull - (pull @ near) * mean
        length = math.sqrt(max(0.0, step @ cosines @ step))
        if length < parameters["tol"]:
            break
        mean = math.cos(length) * mean + math.sin(length) / length * step
        mean /= math.sqrt(mean @ cosines @ mean)
    scale = (weights * norms).sum()
    return (scale * mean / np.where(used, norms, 1.0))[:, None]


def model_stock(products: Array, weights: Array, parameters: Parameters) -> Array:
    """The factor of every task vector: t / n."""
    count, cosines = len(products), _cosines(products)
    pairs = [cosines[i, j] for i in range(count) for j in range(i + 1, count)]
    cosine = np.sum(pairs, axis=0) / len(pairs)
    divisor = 1.0 + (count - 1) * cosine
    singular = np.abs(divisor) < _SINGULAR
    share = np.where(singular, 0.0, cosine / np.where(singular, 1.0, divisor))
    return np.broadcast_to(share, (count, *share.shape))


def _norms(products: Array) -> Array:
    return np.sqrt(np.einsum("iig->ig", products))


def _cosines(products: Array) -> Array:
    """(models, models, vectors); 0 where one of the two is zero, 1 of a vector with itself."""
    norms = _norms(products)
    found = np.clip(_over(products, norms[:, None] * norms[None]), -1.0, 1.0)
    for model, norm in enumerate(norms):
        found[model, model] = norm > 0
    return found


def _length(products: Array, weights: Array) -> Array:
    """(vectors,): the norm of the weighted sum of the directions."""
    square = (weights[:, None] * weights[None] * _cosines(products)).sum(axis=(0, 1))
    return np.sqrt(np.maximum(square, 0.0))


def _over(values: Array, by: Array) -> Array:
    return np.divide(values, by, out=np.zeros_like(values), where=by > 0)
