"""The figures of a report, each a row of CHARTS."""

from __future__ import annotations

from raylab.report.figures.bars import chains_chart, floor_chart, seeds_chart
from raylab.report.figures.context import Chart, Sketch
from raylab.report.figures.heatmap import heatmap_chart
from raylab.report.figures.lines import curve_chart, paths_chart
from raylab.report.figures.matrices import similarity_chart
from raylab.report.figures.variance_shares import attribution_chart

CHARTS: dict[str, Chart] = {
    "floor": Chart("floor", floor_chart),
    "seeds": Chart("seeds", seeds_chart),
    "attribution": Chart("attribution", attribution_chart),
    "similarity": Chart("similarity", similarity_chart("similarity")),
    "signs": Chart("similarity", similarity_chart("signs")),
    "overlap": Chart("similarity", similarity_chart("overlap")),
    "heatmap": Chart("where", heatmap_chart),
    "curve": Chart("concentration", curve_chart),
    "chains": Chart("chains", chains_chart),
    "paths": Chart("paths", paths_chart),
}
"""By name: the finding whose frames a figure shows, and how it is drawn for one base model."""

__all__ = ["CHARTS", "Chart", "Sketch"]
