from __future__ import annotations

from raylab.report.figures.vega_script import NOTICES, made, vega_script


def test_vega_script_is_what_vl_convert_makes_behind_its_notices():
    found = vega_script()
    assert found == made(), "make it anew: make vega"
    assert found.startswith(f"/*\n{NOTICES.read_text()}")


def test_vega_script_can_stand_in_a_page():
    found = vega_script().lower()
    assert "</script" not in found and "<!--" not in found
