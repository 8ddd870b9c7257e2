"""Tiny base models, saved once for all tests of the readers."""

from __future__ import annotations

import pytest
import torch

from tests.architectures import ARCHITECTURES, save_tiny


@pytest.fixture(scope="session")
def bases(tmp_path_factory):
    """(architecture, dtype) -> the directory of a tiny model."""
    root = tmp_path_factory.mktemp("bases")
    wanted = [(name, torch.bfloat16) for name in ARCHITECTURES]
    wanted += [("qwen2", torch.float16), ("qwen2", torch.float32)]
    return {
        (name, dtype): save_tiny(root / f"{name}-{dtype}", name, 0, dtype) for name, dtype in wanted
    }
