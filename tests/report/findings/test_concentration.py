"""Curves of normal and Laplace samples, sorted, and integrals of their densities."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize

from raylab.report.figures.lines import normal_curve
from raylab.report.findings import concentration
from raylab.report.findings.concentration import NORMAL_HALF_L2, POINTS, density_of_half, share_at
from raylab.report.study_tables import Tables
from tests.report.findings.vectors import BASE, name_of, norm, trial, values_of

COUNT = 100_000


def samples(kind):
    chance = np.random.default_rng(12)
    drawn = chance.normal if kind == "normal" else chance.laplace
    return np.sort(np.abs(drawn(0, 0.02, COUNT)))[::-1]


def shares_of(sizes):
    """By number of largest entries kept, from one on: the shares of L1 and of L2."""
    l1, l2 = np.cumsum(sizes), np.sqrt(np.cumsum(sizes**2))
    return l1 / l1[-1], l2 / l2[-1]


def curve_of(sizes, points=200, **head):
    kept = np.unique(np.geomspace(10, COUNT, points).astype(int))
    l1, l2 = shares_of(sizes)
    return [
        {"density": n / COUNT, "l1_share": float(l1[n - 1]), "l2_share": float(l2[n - 1])} | head
        for n in kept
    ]


def tail_of(power, z):
    """The share of |x|^power in normal entries beyond z, by integration."""

    def density(x):
        return 2 * x**power * math.exp(-x * x / 2) / math.sqrt(2 * math.pi)

    return integrate.quad(density, z, 40)[0] / integrate.quad(density, 0, 40)[0]  # fmt: skip


def test_normal_half_l2_agrees_with_integration():
    z = optimize.bisect(lambda z: tail_of(2, z) - 0.25, 0, 5, xtol=1e-12)
    assert pytest.approx(tail_of(0, z), abs=1e-6) == NORMAL_HALF_L2


def test_normal_curve_agrees_with_integration():
    points = normal_curve(1e-4, 9)
    assert [points[0]["density"], points[-1]["density"]] == pytest.approx([1e-4, 1], rel=1e-9)
    assert [point["of"] for point in points] == ["L2"] * 9 + ["L1"] * 9
    for point in points:
        d = point["density"]
        z = optimize.bisect(lambda z, d=d: tail_of(0, z) - d, 0, 8, xtol=1e-13) if d < 1 else 0
        share = math.sqrt(tail_of(2, z)) if point["of"] == "L2" else tail_of(1, z)
        assert point["share"] == pytest.approx(share, abs=1e-7)


@pytest.mark.parametrize("kind", ["normal", "laplace"])
@pytest.mark.parametrize("place", [0, 1])
def test_density_of_half_agrees_with_sorted_samples(kind, place):
    sizes = samples(kind)
    column = ("l1_share", "l2_share")[place]
    wanted = (np.searchsorted(shares_of(sizes)[place], 0.5) + 1) / COUNT
    assert density_of_half(curve_of(sizes), column) == pytest.approx(wanted, rel=0.01)


def test_density_of_half_of_normal_samples_is_that_of_the_module():
    found = density_of_half(curve_of(samples("normal")), "l2_share")
    assert found == pytest.approx(NORMAL_HALF_L2, rel=0.02)


@pytest.mark.parametrize("density", [0.001, 0.01, 0.1, 0.37])
def test_share_at_agrees_with_laplace_in_closed_form(density):
    curve, t = curve_of(samples("laplace")), -math.log(density)
    assert share_at(curve, "l1_share", density) == pytest.approx(density * (1 + t), rel=0.03)
    squares = density * (t * t + 2 * t + 2) / 2
    assert share_at(curve, "l2_share", density) == pytest.approx(math.sqrt(squares), rel=0.03)


def test_share_at_and_density_of_half_are_linear_in_the_logarithm():
    curve = [{"density": 0.01, "l2_share": 0.2}, {"density": 1.0, "l2_share": 1.0}]
    assert share_at(curve, "l2_share", 0.1) == pytest.approx(0.6, rel=1e-12)
    assert density_of_half(curve, "l2_share") == pytest.approx(0.01 * 10**0.75, rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(1e-3, 1), min_size=2, max_size=8), st.floats(1e-3, 1))
def test_share_at_any_density_lies_between_the_points_beside_it(parts, density):
    shares = np.cumsum(parts) / np.sum(parts)
    densities = np.geomspace(1e-3, 1, len(parts))
    curve = [{"density": float(d), "l2_share": float(s)}
             for d, s in zip(densities, shares, strict=True)]  # fmt: skip
    found = share_at(curve, "l2_share", density)
    if found is None:
        assert not densities[0] < density < densities[-1]
        return
    below = max((s for d, s in zip(densities, shares, strict=True) if d <= density * (1 + 1e-9)))
    above = min((s for d, s in zip(densities, shares, strict=True) if d >= density * (1 - 1e-9)))
    assert below - 1e-9 <= found <= above + 1e-9


def test_reading_outside_of_the_curve_is_none():
    late = [{"density": 0.02, "l2_share": 0.6}, {"density": 0.5, "l2_share": 0.9}]
    assert density_of_half(late, "l2_share") is None
    assert share_at(late, "l2_share", 0.01) is share_at(late, "l2_share", 0.6) is None
    early = [{"density": 0.02, "l2_share": 0.1}, {"density": 0.5, "l2_share": 0.4}]
    assert density_of_half(early, "l2_share") is None


def tables_of(curve, **more):
    trials = [trial("a"), trial("b", data="D1")]
    norms = [norm(name_of("a", 1), BASE, 1.0), norm(name_of("a", 1), name_of("b", 1), 1.0)]
    curves = [
        row | {"comparison": n["comparison"], "view": "delta"} for n in norms for row in curve
    ]
    return Tables.of({"trials": trials, "norms": norms, "curve": curves, **more})


def test_concentration_frames_hold_task_vectors_and_differences():
    spectra = [
        {"model": name_of("a", 1), "tensor": str(place), "rank": 16, "effective_rank": rank}
        for place, rank in enumerate((3.0, 5.0, 10.0))
    ]
    curve = curve_of(samples("normal"))
    found = concentration.find(tables_of(curve, spectra=spectra))
    vector, difference = found.frames["concentration"]
    assert (vector["what"], difference["what"]) == ("task vector", "difference")
    assert (vector["seed"], difference["seed"]) == (1, 1)
    assert (vector["effective_rank"], vector["rank"]) == (6.0, 16)
    assert (difference["effective_rank"], difference["rank"]) == (None, None)
    assert vector["l2_in_1"] == share_at(curve, "l2_share", 0.01)
    assert vector["l1_in_10"] == share_at(curve, "l1_share", 0.1)
    points = [r for r in found.frames["curves"] if r["comparison"] == vector["comparison"]]
    assert len(points) == POINTS
    assert (points[0]["density"], points[-1]["density"]) == (curve[0]["density"], 1.0)
    assert [v["count"] for v in values_of(found.sentences, "concentration-half")] == [1, 1]


def test_concentration_curve_without_l1_has_none_for_it():
    curve = [row | {"l1_share": None} for row in curve_of(samples("normal"), 20)]
    vector = concentration.find(tables_of(curve)).frames["concentration"][0]
    assert vector["half_l1"] is vector["l1_in_1"] is vector["l1_in_10"] is None
    assert vector["half_l2"] is not None
