"""Base models and data that checks train on, made here, without a network.

Model: on a CPU the base model is the demo's. On a GPU it is a Llama of random weights, of about one
billion parameters, with the demo's tokenizer. Rows are those of the demo, or as long as is asked.
Invariant: a base model appears under its name complete or not at all; all checks of a run share it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from gpu_checks.report import Setting

DEMO = Path(__file__).resolve().parents[1] / "demo"
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
_ONE_B: dict[str, Any] = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 3,
}
_SENTENCE = "今日はとてもよい天気です。"


def base_model(setting: Setting) -> Path:
    """The directory of the base model that trainings start from on this device."""
    if not setting.on_gpu:
        return DEMO / "base"
    directory = setting.work / "base"
    if not directory.exists():
        part = setting.work / "base.part"
        torch.manual_seed(0)
        config = LlamaConfig(**_ONE_B, **({"num_hidden_layers": 4} if setting.quick else {}))
        with torch.device("cuda"):
            model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        model.cpu().save_pretrained(part)
        copy_tokenizer(part)
        part.rename(directory)
        del model
        torch.cuda.empty_cache()
    return directory


def copy_tokenizer(directory: Path) -> None:
    """Put the demo's tokenizer, of 3,072 tokens, beside a model."""
    for name in _TOKENIZER:
        shutil.copy(DEMO / "base" / name, directory / name)


def compute_dtype(setting: Setting) -> str:
    """What a study should ask for here: float32 on a CPU, bfloat16 where the GPU has it."""
    if not setting.on_gpu:
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


def demo_rows(directory: Path, count: int) -> dict[str, Path]:
    """The first rows of the demo's two data sets, by name."""
    found = {}
    for name in ("d0", "d1"):
        with (DEMO / "data" / f"{name}.jsonl").open(encoding="utf-8") as lines:
            text = "".join(islice(lines, count))
        found[name.upper()] = directory / f"{name}.jsonl"
        found[name.upper()].write_text(text, encoding="utf-8")
    return found


def long_rows(directory: Path, count: int, tokens: int) -> dict[str, Path]:
    """Rows whose answers are longer than `tokens`; those of D1 are short."""
    # A sentence has more tokens than this, so that every example is cut.
    answers = {"D0": _SENTENCE * (tokens // 4), "D1": _SENTENCE}
    found = {}
    for name, answer in answers.items():
        rows = [{"prompt": f"質問{i}", "completion": f"{i}: {answer}"} for i in range(count)]
        found[name] = directory / f"{name.lower()}.jsonl"
        _write_lines(found[name], rows)
    return found


def _write_lines(file: Path, rows: Sequence[dict[str, str]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    file.write_text(text, encoding="utf-8")
