"""What a study asks of spectra: of the deltas alone, or against the base model's own directions.

Model: `delta` takes the singular values of every delta. `base` also holds each delta against the
singular vectors of the base model's tensor W: how many of the `top` left singular vectors of
W + delta have no counterpart among W's, and how much of the delta lies in W's `top` ones.
Invariant: the defaults are those of the paper on intruder dimensions (Shuttleworth et al. 2024,
arXiv:2410.21228), whose code counts among the first 10 and calls a cosine below 0.5 none; PEFT's
`reduce_intruder_dimension` has the same two.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from raylab.spec.sources import Frozen


class BaseDirections(Frozen):
    """How deltas are held against the base model's singular vectors."""

    top: int = Field(default=10, ge=1)
    """How many of the largest directions count; no tensor that an adapter changes may have a side
    that is shorter."""
    epsilon: float = Field(default=0.5, gt=0, lt=1)
    """The cosine below which two directions are no counterparts."""


class BaseSpectra(Frozen):
    """`spectra: {base: {top: 10, epsilon: 0.5}}`."""

    base: BaseDirections = BaseDirections()


Spectra = Literal["delta", "base"] | BaseSpectra


def base_directions_of(spectra: Spectra) -> BaseDirections | None:
    """What is asked of the base model's directions; None where nothing is."""
    if isinstance(spectra, BaseSpectra):
        return spectra.base
    return BaseDirections() if spectra == "base" else None
