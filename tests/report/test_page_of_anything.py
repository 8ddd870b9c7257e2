"""A page is made of whatever tables are there: rows lost, values null, NaN, zero or equal."""

from __future__ import annotations

import math
import random
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raylab.report.findings.every_finding import find_all
from raylab.report.page.page import make_page
from raylab.report.page.render import render_markdown
from raylab.report.study_tables import Tables
from raylab.report.words import LANGUAGES, translator
from raylab.store.schemas import SCHEMAS
from tests.report.conftest import make_study

# Identity, without which a row is nobody's; it is never lost.
KEPT = {
    "trial_id", "name", "model", "recipe", "label", "method", "data", "seed", "status", "level",
    "key", "view", "comparison", "a", "b", "density", "universe", "step", "layer", "tensor",
    "rank", "sketch", "prompt",
}  # fmt: skip


LAYERS = 2


@pytest.fixture(scope="module")
def small(whole_tables):
    """The tables of the whole study, of the first layers alone."""

    def is_kept(row):
        place = re.search(r"layers\.(\d+)", str(row.get("layer") or row.get("key") or ""))
        return place is None or int(place[1]) < LAYERS

    return {name: [row for row in rows if is_kept(row)] for name, rows in whole_tables.items()}


def spoiled(tables, lost, value, chance):
    """The tables without some of them and some rows, and with some numbers replaced."""
    for name, rows in tables.items():
        if name in lost:
            continue
        kept = [dict(row) for row in rows if chance.random() < 0.8]
        for row in kept:
            for column in set(row) - KEPT:
                if isinstance(row[column], float) and chance.random() < 0.15:
                    row[column] = value
        yield name, kept


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sets(st.sampled_from([name for name in SCHEMAS if name != "trials"])),
    st.sampled_from([None, math.nan, 0.0, 1.0, math.inf]),
    st.integers(0, 2**32),
    st.sampled_from(LANGUAGES),
)
def test_page_of_spoiled_tables_is_made_and_names_every_trial(small, lost, value, seed, language):
    tables = Tables.of(dict(spoiled(small, lost, value, random.Random(seed))))
    page = make_page(make_study(), tables, find_all(tables), translator(language))
    text = render_markdown(page)
    grid = next(grid for grid in page.grids if grid.name == "trials")
    assert sorted(row[0] for row in grid.rows) == sorted(row["name"] for row in tables["trials"])
    assert "{" not in text.replace("\\{", "")
