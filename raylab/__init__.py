"""raylab: train a study of LLM fine-tunes on Ray, and measure exactly what moved."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raylab.notebook import Results

__version__ = "0.1.0"


def open(out: str, study: str | None = None) -> Results:
    """A finished study, for a notebook: tables as pandas frames, findings, figures.

    `out` is a directory or URI. `study` names one of several in it [the one that ran last]. Raises
    StoreError, ModelError.
    """
    # The command line imports this package, and needs none of what a notebook does.
    from raylab.notebook import Results

    return Results(out, study)
