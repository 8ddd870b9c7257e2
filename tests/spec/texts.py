"""Answers of the demo's data sets, which tests judge."""

from __future__ import annotations

import json

from tests.conftest import DEMO


def answers_of(name: str) -> list[str]:
    lines = (DEMO / "data" / f"{name}.jsonl").read_text().splitlines()
    return [json.loads(line)["completion"] for line in lines]
