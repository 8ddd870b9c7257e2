"""Several models that start from one checkpoint, loaded beside one another and asked in turn.

Model: a `Side` says how a model is made: a checkpoint, held as its training held it or as it was
saved; adapters that stay frozen on it; and its own adapter, if it has one. Models whose sides
differ in their own adapter alone are one group: its checkpoint is loaded once, and PEFT holds the
adapters beside one another, one of them in use. A finished adapter may change the weights below
as it is loaded, so it is a group of its own; so is every checkpoint that is not quantised.
Invariant: what a model predicts is what it predicts alone: nothing of the other models of its
group takes part. One answer is one forward pass, without padding. Nothing is learned.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from raylab.errors import ModelError
from raylab.spec.study import Quantization
from raylab.spec.weight_files import read_json
from raylab.train.base_checkpoint import Start
from raylab.train.evaluate.likelihoods import FramedAnswer
from raylab.train.kept_values import keep_values
from raylab.train.model import free_memory, load_as_saved, load_base
from raylab.train.random_state import preserved_random_state


@dataclass(frozen=True)
class Side:
    """How a model is made.

    as_saved: the checkpoint keeps its dtype, and is not quantised. alone: its adapter shares its
    start with no other model.
    """

    start: Start
    adapter: Path | None = None
    as_saved: bool = False
    alone: bool = False

    @property
    def group(self) -> tuple[Any, ...]:
        """Equal for models that are loaded together."""
        return self.start, self.as_saved, self.adapter if self.alone else None


def trained_side(start: Start, adapter: Path) -> Side:
    """A model by an adapter that was trained here on `start`.

    Where it targets parameters, as those of experts, it is alone: PEFT 0.21 holds such adapters
    side by side only if all target the same parameters.
    """
    config = read_json(adapter / "adapter_config.json", "the config of a PEFT adapter")
    return Side(start, adapter, alone=bool(config.get("target_parameters")))


@dataclass(frozen=True)
class Prediction:
    """What a model says of the tokens of one answer, on the CPU, in the model's own dtype.

    logits: (tokens, vocabulary); states: (layers, tokens, width), the hidden states at the answer
    tokens, the embeddings first; None where they were not asked for, or the model gives none.
    """

    logits: torch.Tensor
    states: torch.Tensor | None


Failures = dict[str, str]
"""Why models cannot be asked, by name."""


def reason_of(error: Exception) -> str:
    """An exception of a library, in a few lines at most."""
    return f"{type(error).__name__}: {error}".strip()[:500]


class LoadedModels:
    """The models of a job, of which one group at a time is loaded."""

    def __init__(
        self, sides: Mapping[str, Side], quantization: Quantization, trust_remote_code: bool
    ) -> None:
        """Nothing is loaded yet."""
        self._quantization, self._trusted = quantization, trust_remote_code
        self._groups: dict[tuple[Any, ...], dict[str, Side]] = {}
        for name, side in sides.items():
            self._groups.setdefault(side.group, {})[name] = side
        self._loaded: tuple[tuple[Any, ...], Any, dict[str, Exception]] | None = None

    def each(self, names: Sequence[str]) -> Iterator[tuple[str, Any]]:
        """(name, the model in use) of each of `names`; the group that is loaded comes first.

        In place of a model that cannot be loaded comes the exception.
        """
        loaded = self._loaded and self._loaded[0]
        for key in sorted(self._groups, key=lambda key: key != loaded):
            asked = [name for name in self._groups[key] if name in names]
            if not asked:
                continue
            try:
                model, wrong = self._load(key)
            except Exception as error:  # Whatever a library raises, the other models go on.
                self._loaded = None
                yield from ((name, error) for name in asked)
                continue
            slots = _slots(self._groups[key])
            for name in asked:
                if name in wrong:
                    yield name, wrong[name]
                    continue
                with _in_use(model, slots.get(name)):
                    yield name, model

    def _load(self, key: tuple[Any, ...]) -> tuple[Any, dict[str, Exception]]:
        """(the model of a group with its adapters, why adapters could not be loaded)."""
        if self._loaded and self._loaded[0] == key:
            return self._loaded[1:]
        if self._loaded:
            self._loaded = None
            free_memory()
        sides = self._groups[key]
        first = next(iter(sides.values()))
        model = self._checkpoint(first)
        wrong: dict[str, Exception] = {}
        slots = _slots(sides)
        for name, side in sides.items():
            if side.adapter is None:
                continue
            try:
                model = with_adapter(model, side.adapter, slots[name])
            except Exception as error:
                wrong[name] = error
        # An adapter may have changed the weights below.
        keep_values(model)
        self._loaded = (key, model.eval(), wrong)
        return self._loaded[1:]

    def _checkpoint(self, side: Side) -> Any:
        start = side.start
        if not side.as_saved:
            return load_base(
                start.checkpoint,
                self._quantization,
                start.frozen,
                trust_remote_code=self._trusted,
            )
        return load_as_saved(start.checkpoint, self._trusted)


def _slots(sides: Mapping[str, Side]) -> dict[str, str]:
    """What PEFT calls the adapters of a group. A name may hold a dot, and a module's may not."""
    return {name: f"model_{n}" for n, (name, side) in enumerate(sides.items()) if side.adapter}


def with_adapter(model: Any, adapter: Path, slot: str = "default") -> Any:
    """`model` with one adapter more. Raises ModelError where the files lack a tensor of it: PEFT
    goes on with a task vector of zero."""
    if isinstance(model, PeftModel):
        missing = model.load_adapter(str(adapter), adapter_name=slot).missing_keys
    else:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = PeftModel.from_pretrained(model, adapter, adapter_name=slot)
        texts = [str(one.message) for one in caught]
        missing = [text for text in texts if "missing adapter keys" in text]
    if missing:
        raise ModelError(
            "the adapter's files do not hold what its configuration names",
            found=f"{adapter}: {missing[0][:200]}",
            expected="tensors named as PEFT names those of this base model",
        )
    return model


@contextmanager
def _in_use(model: Any, slot: str | None) -> Iterator[None]:
    """Within, `model` has the adapter in `slot` in use, or none."""
    if not isinstance(model, PeftModel):
        yield
    elif slot is None:
        with model.disable_adapter():
            yield
    else:
        model.set_adapter(slot)
        model.eval()
        yield


@contextmanager
def asking(threads: int) -> Iterator[None]:
    """Within, models are asked: without gradients, on so many threads, no random state moved."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with preserved_random_state(), torch.no_grad():
            yield
    finally:
        torch.set_num_threads(before)


def predict(model: Any, answer: FramedAnswer, with_states: bool) -> Prediction:
    """What `model` predicts for every token of `answer`, in one forward pass."""
    ids = torch.tensor([answer.ids], device=model.device)
    found = model(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        output_hidden_states=with_states,
        use_cache=False,
    )
    start, stop = answer.start, len(answer.ids)
    layers = found.hidden_states if with_states else None
    states = torch.stack([one[0, start:stop].cpu() for one in layers]) if layers else None
    # The logits at one token predict the next. A copy, so that those of the prompt are let go.
    return Prediction(found.logits[0, start - 1 : stop - 1].cpu().clone(), states)


def predictions_of(
    models: LoadedModels,
    names: Sequence[str],
    wanted: Callable[[str], Sequence[tuple[int, FramedAnswer, bool]]],
) -> tuple[dict[str, dict[int, Prediction]], Failures]:
    """What each of `names` predicts for the answers that are `wanted` of it, by their numbers."""
    found: dict[str, dict[int, Prediction]] = {}
    failed: Failures = {}
    for name, model in models.each(names):
        try:
            if isinstance(model, Exception):
                raise model
            found[name] = {n: predict(model, answer, states) for n, answer, states in wanted(name)}
        except Exception as error:  # Of this model alone; the others are compared.
            failed[name] = reason_of(error)
    return found, failed
