"""The figures of a report, each a row of FIGURES."""

from __future__ import annotations

from raylab.report.figures.bars import (
    attribution_figure,
    chains_figure,
    differences_figure,
    intruders_figure,
    over_seeds_figure,
)
from raylab.report.figures.effects import effects_figure, layer_likeness_figure
from raylab.report.figures.figure import FigureType
from raylab.report.figures.heatmaps import layers_figure
from raylab.report.figures.lines import concentration_figure, trajectories_figure
from raylab.report.figures.losses import connectivity_figure
from raylab.report.figures.merges import merge_losses_figure, merge_rates_figure
from raylab.report.figures.model_map import map_figure
from raylab.report.figures.similarity import similarity_figure

FIGURES: dict[str, FigureType] = {
    "effects": FigureType("effects", effects_figure),
    "floor": FigureType("floor", differences_figure),
    "seeds": FigureType("seeds", over_seeds_figure),
    "attribution": FigureType("attribution", attribution_figure),
    "similarity": FigureType("similarity", similarity_figure),
    "map": FigureType("map", map_figure),
    "heatmap": FigureType("where", layers_figure),
    "cka": FigureType("functions", layer_likeness_figure),
    "curve": FigureType("concentration", concentration_figure),
    "intruders": FigureType("intruders", intruders_figure),
    "chains": FigureType("chains", chains_figure),
    "paths": FigureType("paths", trajectories_figure),
    "connectivity": FigureType("connectivity", connectivity_figure),
    "merges": FigureType("merges", merge_losses_figure),
    "merge_rates": FigureType("merges", merge_rates_figure),
}
"""By name: the finding whose frames a figure shows, and the function that draws it.

Names are those of files and of words, and stay."""
