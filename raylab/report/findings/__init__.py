"""The questions that a report answers, each a row of FINDINGS."""

from __future__ import annotations

from collections.abc import Callable

from raylab.report.findings.attribution import attribution
from raylab.report.findings.by_layer import where
from raylab.report.findings.chains import chains
from raylab.report.findings.concentration import concentration
from raylab.report.findings.finding import Finding, Tables
from raylab.report.findings.over_seeds import seeds
from raylab.report.findings.reliability import trust
from raylab.report.findings.seed_baseline import floor
from raylab.report.findings.similarity import similarity
from raylab.report.findings.trajectories import paths

FINDINGS: dict[str, Callable[[Tables], Finding]] = {
    "floor": floor,
    "seeds": seeds,
    "attribution": attribution,
    "similarity": similarity,
    "where": where,
    "concentration": concentration,
    "chains": chains,
    "paths": paths,
    "trust": trust,
}
"""By key, in the order of the report: tables -> what they say."""


def find_all(tables: Tables) -> dict[str, Finding]:
    """Every finding of a study, by key."""
    return {key: make(tables) for key, make in FINDINGS.items()}
