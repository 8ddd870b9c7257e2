"""The documentation says what the code does: pages, columns, and examples that run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from raylab.cli.docs import pages
from raylab.report.findings.every_finding import find_all
from raylab.report.page.grids import GRIDS, TOGETHER
from raylab.report.study_tables import Tables
from raylab.store.schemas import SCHEMAS
from tests.report.conftest import make_curve, make_densities, make_norms, make_trials

DOCS = Path(__file__).parents[1] / "docs"
METHOD = (DOCS / "method.md").read_text()
TABLES, FINDINGS = METHOD.split("## Findings")


def sections(text):
    """Heading -> what stands below it."""
    parts = re.split(r"^### (.+)$", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_pages_of_commands_are_those_that_the_code_makes():
    made = pages()
    assert {path.name for path in (DOCS / "commands").iterdir()} == set(made), "run make docs"
    for name, text in made.items():
        assert (DOCS / "commands" / name).read_text() == text, f"{name}: run make docs"


@pytest.mark.parametrize("name", SCHEMAS)
def test_method_defines_every_column_of_a_table(name):
    common = TABLES[: TABLES.index("### trials")]
    text = sections(TABLES)[name] + common
    missing = [column for column in SCHEMAS[name].names if f"`{column}`" not in text]
    assert missing == []


def test_method_defines_every_column_of_every_finding():
    rows = {"trials": make_trials(), "norms": make_norms()}
    rows |= {"densities": make_densities(), "curve": make_curve()}
    named = {key: text for head, text in sections(FINDINGS).items() for key in head.split(", ")}
    common = FINDINGS[: FINDINGS.index("### differences")]
    columns = {
        frame: {name for row in found for name in row}
        for finding in find_all(Tables.of(rows)).values()
        for frame, found in finding.frames.items()
    }
    for shape in (shape for shapes in GRIDS.values() for shape in shapes):
        shown = {name for column in shape.columns for name in TOGETHER.get(column, (column,))}
        columns.setdefault(shape.frame, set()).update(shown - {"norms"})
    for frame, names in columns.items():
        text = named[frame] + common
        missing = [n for n in names if f"`{n}`" not in text and not re.match(r"l[12]_s\d+", n)]
        assert missing == [], frame


def test_extending_examples_run_in_order():
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "extending.md").read_text(), re.S)
    assert len(blocks) == 5
    done = subprocess.run(
        [sys.executable, "-W", "error::SyntaxWarning", "-c", "\n".join(blocks)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_documents_link_to_files_that_are_there():
    for file in [*DOCS.rglob("*.md"), DOCS.parent / "README.md"]:
        text = re.sub(r"```.*?```", "", file.read_text(), flags=re.S)
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (file.parent / target).exists(), (file, target)
