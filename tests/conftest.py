"""Fixtures shared by all tests: tiny models made here in seconds, and a small study over them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

DEMO = Path(__file__).parents[1] / "jobs" / "demo"

STUDY = """
name: tiny
base_models:
  demo: {{path: {base}}}
data:
  D0: {{path: {demo}/data/d0.jsonl}}
  D1: {{path: {demo}/data/d1.jsonl}}
held_out: 0.9
seeds: [42]
quantization: {{compute_dtype: float32}}
training: {{learning_rate: 1e-3, batch_size: 4, epochs: 1, max_length: 64}}
evaluation: {{style: ojousama, prompts: 4, max_new_tokens: 16}}
"""


@pytest.fixture(scope="session")
def demo_base() -> Path:
    """The demo's base model, as committed."""
    return DEMO / "base"


@pytest.fixture
def scratch(tmp_path, monkeypatch) -> Path:
    """A scratch space of the test's own."""
    monkeypatch.setenv("RAYLAB_SCRATCH", str(tmp_path / "scratch"))
    return tmp_path / "scratch"


@pytest.fixture
def study_text(demo_base):
    """The head of a small study over the demo's base model and data; append recipes to it."""
    return STUDY.format(base=demo_base, demo=DEMO)


@pytest.fixture
def copied_base(demo_base, tmp_path) -> Path:
    """A copy of the demo's base model that a test may change."""
    return Path(shutil.copytree(demo_base, tmp_path / "base"))
