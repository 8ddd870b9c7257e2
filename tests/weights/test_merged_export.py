"""A chain written as a whole model: the bits of PEFT's merges, in files that transformers reads."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from raylab.errors import ModelError
from raylab.store.references import Place
from raylab.weights.merged_export import write_merged
from tests.architectures import ARCHITECTURES, merged_by_peft, save_adapter, save_tiny


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_merged_model_has_the_bits_of_peft(tmp_path, architecture):
    base = save_tiny(tmp_path / "base", architecture)
    chain = tuple(save_adapter(tmp_path / str(seed), base, seed) for seed in (1, 2))
    out = tmp_path / "out"
    out.mkdir()
    write_merged(Place(chain, base=base), out, threads=2, most_bytes=60_000)
    assert len(list(out.glob("model-*.safetensors"))) > 1
    expected = merged_by_peft(base, *chain)
    found = AutoModelForCausalLM.from_pretrained(out, dtype="auto").state_dict()
    for name, weight in found.items():
        assert weight.dtype == torch.bfloat16
        assert torch.equal(weight, expected[name]), name


def test_merged_model_without_its_base_is_refused(tmp_path):
    with pytest.raises(ModelError, match="needs the base model's weights"):
        write_merged(Place((tmp_path,)), tmp_path, threads=1)
