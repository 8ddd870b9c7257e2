"""Verifies a folder that is to be published: does the model answer as its trial recorded?

Model: the code of the card runs in a process of its own, and asks every recorded prompt in the
batches of the trial's evaluation, greedily. An answer is the same if its tokens are. Then two
other ways of loading are tried as well, and only counted: the base model not quantised, and with
bitsandbytes' repacking of 4-bit weights on CPUs with AVX512-bf16.
Invariant: the process imports no raylab. Where device and libraries are those of the trial, and
the form is one that reproduces its training, less than every answer is an error. A whole model
made of a trial (`--merged`) and a chain in one adapter round otherwise: these are only counted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raylab.errors import RaylabError
from raylab.plan.memory import ANSWERS_BATCH
from raylab.publish.loading import Loading, Variant, asked_of, tokenizer_of
from raylab.publish.provenance import Agreement, Facts
from raylab.spec.decoding import SET_ASIDE, set_aside_of
from raylab.store.references import FinishedTrial

_EXACT = ("adapter", "chain", "merge", "adapter_merge")
"""The forms that reproduce the model which gave the recorded answers."""
_LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes")
_VARIANTS: Mapping[Variant, str] = {
    "not_quantised": "the base model not quantised, in the dtype of its files",
    "repacked": "without the lines on bitsandbytes' repacking, on this CPU with AVX512-bf16",
}
_ASK = """
import importlib.metadata, json, sys
found = {
    "answers": [answers(batch).tolist() for batch in json.load(open(sys.argv[1]))],
    "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
    "raylab": "raylab" in sys.modules,
    "repacks": any(getattr(m, "support_avx512bf16_for_cpu", False) for m in model.modules()),
    "versions": {name: importlib.metadata.version(name) for name in %r},
}
json.dump(found, open(sys.argv[2], "w"))
"""


class VerifyError(RaylabError):
    """What was written does not load, or does not answer as its trial did."""


def verify(trial: FinishedTrial, loading: Loading, folder: Path) -> Agreement:
    """How many recorded answers the model in `folder` gives. Raises VerifyError.

    The base model has to be on this machine, and the trial has to have recorded answers.
    """
    base, facts = trial.location.base and trial.location.base.resolve(), loading.facts
    recorded = trial.greedy_answers

    def run(variant: Variant) -> tuple[list[list[int]], Mapping[str, Any]]:
        code = loading.code(str(folder.resolve()), base, variant)
        return _ask(code, recorded, loading.stop_tokens, trial.study.resources.cpus)

    answers, machine = run("as_trained")
    differing = [i for i, row in enumerate(recorded) if answers[i] != list(row["token_ids"])]
    differs = _other_conditions(trial, machine)
    if differing and facts.form in _EXACT and not differs:
        raise _disagreement(loading, folder, recorded, answers, differing)
    otherwise = {}
    if facts.adapters and loading.quantization.bits == 4:
        for variant, words in _VARIANTS.items():
            found, seen = run(variant)
            if variant != "repacked" or seen["repacks"]:
                otherwise[words] = _count_same(recorded, found)
    return Agreement(
        asked=len(recorded),
        same=len(recorded) - len(differing),
        batch=ANSWERS_BATCH,
        threads=trial.study.resources.cpus,
        device=machine["gpu"] or "a CPU",
        versions=machine["versions"],
        differs=differs,
        otherwise=otherwise,
    )


def unverifiable(trial: FinishedTrial, facts: Facts) -> str | None:
    """Why a model cannot be verified here; None where it can."""
    if facts.adapters and trial.location.base is None:
        return "its base model is not on the machine that published it"
    if not trial.greedy_answers:
        return "its trial recorded no answers"
    return None


def _ask(
    code: str, recorded: Sequence[Mapping[str, Any]], stop_tokens: Sequence[int], threads: int
) -> tuple[list[list[int]], Mapping[str, Any]]:
    """(the tokens of every answer, where they were found) by `code` in a process of its own."""
    asked = [asked_of(row) for row in recorded]
    with_tools = any(one.tools for one in asked)
    chats = [(one.chat, one.tools) if with_tools else one.chat for one in asked]
    batches = [chats[i : i + ANSWERS_BATCH] for i in range(0, len(chats), ANSWERS_BATCH)]
    kept = {name: value for name, value in os.environ.items() if name != "HF_TOKEN"}
    settings = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)}
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        (place / "card.py").write_text(code + _ASK % (_LIBRARIES,), encoding="utf-8")
        (place / "asked.json").write_text(json.dumps(batches), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "card.py", "asked.json", "found.json"],
            cwd=place,
            env={**kept, **settings},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            raise VerifyError(
                "what was written does not load by the code of its card",
                found=lines[-1],
                expected="a model that answers",
                todo="nothing was uploaded; --no-verify leaves this check out",
            )
        found = json.loads((place / "found.json").read_text())
    assert not found["raylab"], "the code of a card imports no raylab"
    tokens = [_cut(answer, stop_tokens) for batch in found.pop("answers") for answer in batch]
    return tokens, found


def _cut(answer: Sequence[int], stop_tokens: Sequence[int]) -> list[int]:
    """The tokens before the one that ends the answer."""
    end = next((i for i, token in enumerate(answer) if token in stop_tokens), len(answer))
    return list(answer[:end])


def _count_same(recorded: Sequence[Mapping[str, Any]], answers: Sequence[list[int]]) -> int:
    pairs = zip(recorded, answers, strict=True)
    return sum(list(row["token_ids"]) == answer for row, answer in pairs)


def _other_conditions(trial: FinishedTrial, machine: Mapping[str, Any]) -> str | None:
    """What is not as when the trial recorded its answers; None where all is the same."""
    known = trial.record.versions
    found = [
        f"{name} {machine['versions'][name]} instead of {known[name]}"
        for name in _LIBRARIES
        if name in known and known[name] != machine["versions"][name]
    ]
    base = trial.location.base
    if base and set_aside_of(base) and SET_ASIDE not in trial.record.metrics:
        found.append("answers that were recorded by the decoding settings of the base model")
    if trial.on_gpu != (machine["gpu"] is not None):
        kinds = ("a GPU instead of a CPU", "a CPU instead of a GPU")
        found.append(kinds[trial.on_gpu])
    return ", ".join(found) or None


def _disagreement(
    loading: Loading,
    folder: Path,
    recorded: Sequence[Mapping[str, Any]],
    answers: Sequence[list[int]],
    differing: Sequence[int],
) -> VerifyError:
    """The error that names the first prompt whose answer differs."""
    first = recorded[differing[0]]
    tokenizer = tokenizer_of(folder, loading.source)
    now = tokenizer.decode(answers[differing[0]], skip_special_tokens=True).strip()
    same = len(recorded) - len(differing)
    return VerifyError(
        "the model that was written does not answer as its trial did",
        found=f"{same} of {len(recorded)} answers are the same; the first that differs, to "
        f"{first['prompt']!r}: {now!r}, recorded {first['answer']!r}",
        expected="every recorded answer, as device and libraries are those of the trial",
        todo="nothing was uploaded; look whether the base model or the adapter was changed; "
        "--no-verify publishes without this check",
    )
