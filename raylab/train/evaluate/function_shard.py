"""An opened `FunctionJob`: its models are loaded group by group, and asked for blocks of answers.

Model: see `raylab.train.evaluate.function_job`. Results are plain lists, numbers and arrays, so
that they can be sent and kept.
Invariant: as there. One thread count for every shard, so that a CPU's sums have the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig

from raylab.store.filesystem import Store, study_scratch
from raylab.store.records import ADAPTER, trial_key
from raylab.store.references import MERGED, location_of
from raylab.train.attempts import quiet_libraries
from raylab.train.base_checkpoint import Start, StudyAdapters, start_of
from raylab.train.chat import end_of_answer, tokens_of
from raylab.train.evaluate.cka import LEAST_TOKENS, block_hsic
from raylab.train.evaluate.function_job import KEPT_TOKENS, Answer, Block, FunctionJob, Usage
from raylab.train.evaluate.functions import MEASURES, TokenDivergences, compare_tokens
from raylab.train.evaluate.likelihoods import FramedAnswer, framed_answer
from raylab.train.evaluate.loaded_models import (
    Failures,
    LoadedModels,
    Prediction,
    Side,
    asking,
    predictions_of,
    reason_of,
    trained_side,
)
from raylab.train.model import base_directory, device_of_this_process, load_tokenizer

_OPERATIONS, _ENTRY_SECONDS = {"cpu": 1e10, "cuda": 1e13}, {"cpu": 1e-7, "cuda": 1e-10}
"""Operations a second of a model, and the seconds for an entry of two distributions: slower than
most machines, because they bound what an actor does between two answers."""
_PASS_SECONDS = 0.1
"""Of the shortest pass of a large model."""

Predictions = Mapping[str, Mapping[int, Prediction]]
"""Of each model, by the number of the answer in a call."""


class FunctionShard:
    """The calls of a job: `frame` and `compare`."""

    def __init__(self, job: FunctionJob) -> None:
        """Load the tokenizer. Raises ModelError."""
        self._job = job
        source = job.study.base_models[job.base.name]
        self._base, self._trusted = base_directory(job.base), source.trust_remote_code
        self._tokenizer = load_tokenizer(self._base, source, job.study.template_date)
        self._unknown: Failures = {}

    def frame(self, number: int = 0) -> dict[str, Any]:
        """What it takes to compare; `number` is that of the call, and all calls say the same.

        tokens: how many answer tokens each answer of each usage has. seconds: what one model takes
        for each answer. pair_seconds: what a pair takes for a token. logits, states: the bytes
        that a token of one model takes while it is kept, the latter where CKA is taken.
        """
        config = AutoConfig.from_pretrained(self._base, trust_remote_code=self._trusted)
        text = config.get_text_config()
        # Code of a model's own may name these in another way; they only bound the memory.
        width, layers = getattr(text, "hidden_size", 0), getattr(text, "num_hidden_layers", 0)
        numbers = getattr(text, "vocab_size", len(self._tokenizer))
        tokens = [[len(one.ids) - one.start for one in found] for found in self._framed]
        device = device_of_this_process().type
        # A parameter has two bytes or more, and costs two operations a token.
        operations = sum(file.stat().st_size for file in self._base.glob("*.safetensors"))
        token_seconds = operations / _OPERATIONS[device]
        return {
            "tokens": tokens,
            "seconds": [
                [_PASS_SECONDS + len(one.ids) * token_seconds for one in found]
                for found in self._framed
            ],
            "pair_seconds": numbers * _ENTRY_SECONDS[device],
            "logits": numbers * self._itemsize,
            "states": (layers + 1) * width * self._itemsize,
        }

    def compare(self, blocks: Sequence[Sequence[int]]) -> dict[str, Any]:
        """What is found on blocks, each (usage, first answer, answer after the last).

        {"failed": why models could not be asked, "blocks": a result for each block}.
        """
        asked = [Block(*block) for block in blocks]
        with quiet_libraries(), asking(self._job.threads):
            found, failed = predictions_of(
                self._models, self._names(asked), lambda name: self._wanted(asked, name)
            )
            results, number = [], 0
            for block in asked:
                results.append(self._compare(block, number, found))
                number += block.stop - block.first
        return {"failed": {**self._unknown, **failed}, "blocks": results}

    @property
    def _itemsize(self) -> int:
        dtype: torch.dtype = getattr(torch, self._job.study.quantization.compute_dtype)
        return dtype.itemsize

    @cached_property
    def _framed(self) -> list[list[FramedAnswer]]:
        return [[self._frame(answer) for answer in usage.answers] for usage in self._job.usages]

    def _frame(self, answer: Answer) -> FramedAnswer:
        if answer.token_ids is None:
            return framed_answer(self._tokenizer, answer.row, self._job.study.training.max_length)
        prompt = tokens_of(self._tokenizer, answer.row.chat, True, answer.row.tools_given)
        end = (end_of_answer(self._tokenizer),) if answer.stopped else ()
        return FramedAnswer((*prompt, *answer.token_ids, *end), len(prompt))

    @cached_property
    def _models(self) -> LoadedModels:
        """Every model that can be found; `_unknown` says why others cannot."""
        sides = {}
        for name in self._job.models:
            try:
                sides[name] = self._side(name)
            except Exception as error:  # Of this model alone; the others are compared.
                self._unknown[name] = reason_of(error)
        return LoadedModels(sides, self._job.study.quantization, self._trusted)

    def _side(self, name: str) -> Side:
        job, store = self._job, Store(self._job.uri)
        if name in job.trials:
            adapters = StudyAdapters(job.trials, self._base, store, self._trusted)
            return trained_side(start_of(job.trials[name], adapters), adapters.directory(name))
        if name in job.merges:
            merge, scratch = job.merges[name], study_scratch(store)
            if merge.is_adapter:
                adapter = store.local(trial_key(merge.folder, ADAPTER), scratch)
                return trained_side(Start(self._base), adapter)
            key = trial_key(merge.folder, MERGED)
            return Side(Start(store.local(key, scratch)), as_saved=True)
        if name in job.finished:
            place = location_of(base_directory(job.finished[name]), self._base)
            if place.adapters:
                return Side(Start(self._base), place.adapters[0], alone=True)
            assert place.checkpoint, "it is an adapter or a checkpoint"
            return Side(Start(place.checkpoint), as_saved=True)
        return Side(Start(self._base))

    def _names(self, blocks: Sequence[Block]) -> list[str]:
        named = {name for block in blocks for name in self._job.usages[block.usage].models}
        return [name for name in self._job.models if name in named]

    def _wanted(self, blocks: Sequence[Block], name: str) -> list[tuple[int, FramedAnswer, bool]]:
        """The answers that a model is asked for, with their numbers in the call."""
        wanted, number = [], 0
        for block in blocks:
            usage, framed = self._job.usages[block.usage], self._framed[block.usage]
            for place in range(block.first, block.stop):
                if name in usage.models and framed[place].start < len(framed[place].ids):
                    wanted.append((number, framed[place], usage.with_states))
                number += 1
        return wanted

    def _compare(self, block: Block, number: int, found: Predictions) -> dict[str, Any]:
        """The result of one block, whose first answer has this number."""
        usage = self._job.usages[block.usage]
        sums: list[np.ndarray] = []
        tokens: list[int] = []
        differing: list[dict[str, Any]] = []
        for place in range(block.first, block.stop):
            framed = self._framed[block.usage][place]
            at = number + place - block.first
            of_answer = {n: found[n][at] for n in usage.models if at in found.get(n, ())}
            tokens.append(max(0, len(framed.ids) - framed.start))
            sums.append(np.full((len(usage.pairs), len(MEASURES)), np.nan))
            pairs = _comparable(usage.pairs, of_answer)
            if not pairs:
                continue
            names = list(dict.fromkeys(name for _, pair in pairs for name in pair))
            compared = compare_tokens(
                [of_answer[name].logits for name in names],
                torch.tensor(framed.ids[framed.start :]),
                [(names.index(a), names.index(b)) for _, (a, b) in pairs],
                device_of_this_process().type,
            )
            sums[-1][[index for index, _ in pairs]] = compared.sums()
            order = {pair: row for row, (_, pair) in enumerate(pairs)}
            differing += self._differing(usage, place, framed, compared, names, order)
        return {
            "usage": block.usage,
            "first": block.first,
            "tokens": tokens,
            "sums": sums,
            "differing": differing,
            **self._hsic(usage, block, number, found),
        }

    def _differing(
        self,
        usage: Usage,
        place: int,
        framed: FramedAnswer,
        compared: TokenDivergences,
        names: Sequence[str],
        order: Mapping[tuple[str, str], int],
    ) -> list[dict[str, Any]]:
        """The tokens of one answer at which the watched pairs differ most."""
        rows = []
        for number, (a, b) in enumerate(usage.watched):
            if (a, b) in order:
                values = compared.values[order[a, b], 0]
            elif (b, a) in order:
                values = compared.values[order[b, a], 1]
            else:
                continue
            one, other = names.index(a), names.index(b)
            for at in most_differing(values):
                rows.append(
                    {
                        "watched": number,
                        "answer": place,
                        "position": int(at),
                        "kl": float(values[at]),
                        "token": self._text(framed.ids[framed.start + at]),
                        "p_a": float(compared.chosen[one, at]),
                        "p_b": float(compared.chosen[other, at]),
                        "top_a": self._text(compared.top[one, at]),
                        "top_b": self._text(compared.top[other, at]),
                    }
                )
        return rows

    def _text(self, token: int) -> str:
        """A token as text; one that is no text by itself, as the tokenizer writes it."""
        text: str = self._tokenizer.decode([int(token)])
        written = self._tokenizer.convert_ids_to_tokens(int(token))
        return str(written) if "�" in text or not text else text

    def _hsic(self, usage: Usage, block: Block, number: int, found: Predictions) -> dict[str, Any]:
        """HSIC_1 over the tokens of the block: (layers, pairs, 3), and of how many tokens."""
        if not usage.with_states:
            return {"hsic": None, "states": 0}
        numbers = range(number, number + block.stop - block.first)
        states = {}
        for name in usage.models:
            parts = [found[name][n].states for n in numbers if n in found.get(name, ())]
            if parts and all(part is not None for part in parts):
                states[name] = torch.cat([part for part in parts if part is not None], dim=1)
        layers = {name: len(one) for name, one in states.items()}
        pairs = [
            (index, (a, b))
            for index, (a, b) in enumerate(usage.pairs)
            if a in states and b in states and layers[a] == layers[b]
        ]
        count = max((one.shape[1] for one in states.values()), default=0)
        if not pairs or count < LEAST_TOKENS:
            return {"hsic": None, "states": 0}
        values = np.full((max(layers.values()), len(usage.pairs), 3), np.nan)
        for depth in sorted(set(layers.values())):
            chosen = [(i, pair) for i, pair in pairs if layers[pair[0]] == depth]
            names = list(dict.fromkeys(name for _, pair in chosen for name in pair))
            places = [(names.index(a), names.index(b)) for _, (a, b) in chosen]
            if chosen:
                of_depth = block_hsic(
                    [states[name] for name in names], places, device_of_this_process().type
                )
                values[:depth, [i for i, _ in chosen]] = of_depth
        return {"hsic": values, "states": count}


def most_differing(values: np.ndarray) -> list[int]:
    """The places of the largest divergences above zero, at most `KEPT_TOKENS`; of equal ones the
    first comes first."""
    order = np.argsort(-values, kind="stable")[:KEPT_TOKENS]
    return [int(at) for at in order if values[at] > 0]


def _comparable(
    pairs: Sequence[tuple[str, str]], found: Mapping[str, Prediction]
) -> list[tuple[int, tuple[str, str]]]:
    """The pairs, with their places, of which both predict over one vocabulary."""
    width = {name: one.logits.shape[-1] for name, one in found.items()}
    return [
        (index, (a, b))
        for index, (a, b) in enumerate(pairs)
        if a in width and b in width and width[a] == width[b]
    ]
