"""The verdict of a difference, as a multiple of what another seed makes.

Model: up to WITHIN a difference is seed noise; from BEYOND on it is more; between them it is near.
Where a factor moves models by d and the seed by s, independently, distance^2 is d^2 + s^2, so that
at 2 three quarters of it are the factor's, at 1.25 a third.
Invariant: this module loads nothing; a comparison of two studies needs it, and no finding.
"""

from __future__ import annotations

WITHIN, BEYOND = 1.25, 2.0


def verdict_of(ratio: float | None) -> str:
    """within up to 1.25, beyond from 2 on, near in between; unknown without a ratio."""
    if ratio is None:
        return "unknown"
    return "within" if ratio <= WITHIN else "beyond" if ratio >= BEYOND else "near"
