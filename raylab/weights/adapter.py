"""A LoRA adapter of PEFT or mlx-lm: its changes to the weights of its base model, read by rows.

Model: an adapter changes some tensors of the base model, each by one part or several (see
`raylab.weights.adapter_parts`), which apply one after the other.
Where the base model ties two names, PEFT's forward pass and its merge differ. In the forward pass
each name has its own change, and follows its partner's only where PEFT trains one for both
(`ensure_weight_tying`, trained tokens): `rows` is that. The merge adds to the memory that both
share: `merged` is that.
Invariant: with the base model, an adapter that changes a tensor that the base model lacks, or has
in another shape, is refused. Without it, an adapter that depends on the base model's weights is
refused. Opening reads headers only, and a delta is never formed whole. The bits of some rows
depend on the tensor and the bounds of the rows alone, given one BLAS thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from raylab.errors import ModelError
from raylab.spec.tied import EMBEDDINGS, HEADS
from raylab.spec.weight_files import read_json
from raylab.weights.adapter_config import CONFIG, read_config
from raylab.weights.adapter_parts import BiasShift, LowRank, Part, Replaced, TrainedTokens
from raylab.weights.checkpoint import Weights
from raylab.weights.lora_layout import Parts, read_parts
from raylab.weights.mlx_adapter import is_mlx_config, read_mlx_parts
from raylab.weights.name_matching import stored_names
from raylab.weights.safetensors_reader import Shape


class Adapter:
    """A LoRA adapter as saved. Safe in any number of threads."""

    def __init__(
        self, parts: Parts, base: Weights | None, own_names: Mapping[str, str] | None = None
    ) -> None:
        """Hold the parts by the name of the tensor that they change; see `open`. own_names: what
        the adapter itself calls these tensors, where that differs."""
        self._parts, self._base = parts, base
        self.own_names: Mapping[str, str] = {name: name for name in parts} | dict(own_names or {})
        self.names = tuple(sorted(parts))
        self.shapes: Mapping[str, Shape] = {name: parts[name][-1].shape for name in self.names}
        self.low_rank = frozenset(n for n in self.names if _is_low_rank(parts[n]))
        self.conv1d = frozenset(n for n in self.names if any(map(_is_conv1d, parts[n])))

    @classmethod
    def open(cls, directory: Path, base: Weights | None = None) -> Adapter:
        """Open the adapter at `directory`, trained from the weights `base`. Raises ModelError.

        Without `base` only an adapter of plain LoRA parts can be opened, and it is not checked
        against the base model.
        """
        found = read_json(directory / CONFIG, "the config of an adapter")
        if is_mlx_config(found):
            parts, keeps_tied = read_mlx_parts(directory, found), False
        else:
            config = read_config(directory)
            parts, keeps_tied = read_parts(directory, config, base), config.ensure_weight_tying
        if base is None:
            _refuse_dependent_parts(directory, parts)
            if keeps_tied:
                _refuse_tied(directory, parts)
            return cls(parts, None)
        names = _names_as_stored(parts, base)
        parts = {names[own]: found_parts for own, found_parts in parts.items()}
        parts = _kept_tied(parts, base) if keeps_tied else parts
        _check_against(directory, parts, base)
        return cls(parts, base, {names[own]: own for own in names if names[own] in parts})

    def renamed(self, names: Mapping[str, str]) -> Adapter:
        """The same adapter, opened without a base model, with other names for `names`."""
        assert self._base is None
        return Adapter({names.get(name, name): p for name, p in self._parts.items()}, None)

    def factors(self, name: str) -> tuple[torch.Tensor, torch.Tensor, float]:
        """(A, B, scale), float32, of a tensor in `low_rank`: delta = scale * (B @ A).

        For an embedding, or a layer with fan_in_fan_out, A and B change places, so that the
        delta has the shape of the stored weight.
        """
        (part,) = self._parts[name]
        assert isinstance(part, LowRank) and part.magnitude is None
        factors = part.factors()
        if part.transposed:
            return factors.up.T, factors.down.T, factors.scale
        return factors.down, factors.up, factors.scale

    def beyond_factors(self, name: str) -> str | None:
        """What the change of the tensor `name` has beyond the two factors of a linear layer, in
        words; None where it has nothing more."""
        return next(filter(None, map(_beyond_factors, reversed(self._parts[name]))), None)

    def changes_tied(self, name: str) -> bool:
        """Whether PEFT's merge changes the weight under all the names that it is tied to."""
        parts = self._parts[name]
        return any(p.moves_tied or _is_in_place(p) for p in parts)

    def changes(self, name: str) -> bool:
        """Whether PEFT's forward pass changes the weight `name`, by itself or with its partner."""
        return bool(self._parts_of(name))

    def untied_name(self, alias: str, partner: str) -> str | None:
        """The name of `alias` where PEFT's forward pass changes it otherwise than `partner`."""
        assert self._base is not None
        own = (n for n in self._parts if self._base.is_alias(n))
        same = (n for n in own if self._base.stored_name(n) == partner)
        differs = self._parts_of(alias) != self._parts_of(partner)
        return next(same, alias if differs else None)

    def _parts_of(self, name: str) -> tuple[Part, ...]:
        if name in self._parts or self._base is None or not self._base.is_alias(name):
            return self._parts.get(name, ())
        partner = self._base.stored_name(name) or name
        return tuple(part for part in self._parts.get(partner, ()) if part.moves_tied)

    def rows(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Rows [start, stop) of the delta, 2-D, float32, contiguous."""
        previous, *others = parts = self._parts_of(name)
        weight = None
        if any(part.needs_weight for part in parts):
            assert self._base is not None
            weight = self._base.raw(name, start, stop)
        total = previous.delta(start, stop, weight)
        for part in others:
            weight = None if weight is None else previous.merged(start, stop, weight)
            total = total + part.delta(start, stop, weight)
            previous = part
        return total

    def merged(self, name: str, start: int, stop: int, weight: torch.Tensor) -> torch.Tensor:
        """Rows [start, stop) after merging into `weight`, the same rows, 2-D, in its dtype.

        Bit for bit the result of PEFT's `merge_and_unload` on a CPU; `weight` itself where the
        adapter does not touch the tensor.
        """
        for part in self._parts.get(self._merged_as(name), ()):
            weight = part.merged(start, stop, weight)
        return weight

    def merged_apart(self, name: str, start: int, stop: int, weight: torch.Tensor) -> torch.Tensor:
        """As `merged`, but of a weight that shares no memory: what PEFT's forward pass uses."""
        for part in self._parts_of(name):
            weight = part.merged(start, stop, weight)
        return weight

    def _merged_as(self, name: str) -> str:
        """The tensor whose change `name` follows: an alias shares its partner's memory in PEFT."""
        if name in self.shapes or self._base is None or not self._base.is_alias(name):
            return name
        partner = self._base.stored_name(name) or name
        return partner if partner in self.shapes and self.changes_tied(partner) else name


def _beyond_factors(part: Part) -> str | None:
    match part:
        case Replaced(moves_tied=True):
            return "a copy of the layer that PEFT saved beside its factors (save_embedding_layers)"
        case Replaced():
            return "a tensor that is saved whole (modules_to_save, a trained bias)"
        case TrainedTokens():
            return "trained tokens (trainable_token_indices)"
        case BiasShift():
            return "a bias of lora_B (lora_bias)"
        case LowRank() if part.magnitude is not None:
            return "DoRA (use_dora)"
        case LowRank() if part.embedding or part.moves_tied:
            return "LoRA on an embedding"
        case LowRank() if len(part.shape) == 2:
            return None
    return "LoRA on a convolution, or on stacked experts"


def _is_in_place(part: Part) -> bool:
    """Plain LoRA, which PEFT adds to the memory of the weight; DoRA puts a new one in its place."""
    return isinstance(part, LowRank) and part.magnitude is None


def _is_low_rank(parts: tuple[Part, ...]) -> bool:
    return len(parts) == 1 and _is_in_place(parts[0])


def _is_conv1d(part: Part) -> bool:
    """Whether the layer keeps its weight transposed and is no embedding."""
    return isinstance(part, LowRank) and part.transposed and not part.embedding


def _refuse_dependent_parts(directory: Path, parts: Parts) -> None:
    needing = [n for n in sorted(parts) if any(part.needs_weight for part in parts[n])]
    if needing:
        raise ModelError(
            "the adapter changes tensors in a way that depends on the base model's weights",
            found=f"{directory}: {', '.join(needing[:5])} ({len(needing)} in all)",
            expected="the base model's weights (for DoRA, modules_to_save, bias, embeddings)",
            todo="name the base model: --base, or base_model in a study",
        )


def _refuse_tied(directory: Path, parts: Parts) -> None:
    """Refuse a change of an embedding or a head, which may move the other as well."""
    if tied := sorted({*HEADS, *EMBEDDINGS} & set(parts)):
        raise ModelError(
            "the adapter changes a weight that ensure_weight_tying may tie to another one",
            found=f"{directory}: {', '.join(tied)}, ensure_weight_tying",
            expected="the base model's weights",
            todo="name the base model: --base, or base_model in a study",
        )


def _names_as_stored(parts: Parts, base: Weights) -> dict[str, str]:
    """What the base model's files call each tensor of an adapter; a tied weight keeps the name of
    its own. Raises ModelError where one may be two."""
    shapes = {name: found[-1].shape for name, found in parts.items()}
    renamed = stored_names(shapes, base)
    own = {name: renamed.get(name, name) for name in shapes}
    return {
        name: found if base.is_alias(found) else base.stored_name(found) or found
        for name, found in own.items()
    }


def _refuse_resized(directory: Path, parts: Parts, base: Weights) -> None:
    """Refuse an embedding or a head that was saved along because its vocabulary was resized."""
    for name in sorted(set(parts) & {*HEADS, *EMBEDDINGS}):
        stored, saved = base.stored_name(name), parts[name][0]
        if stored is None or not isinstance(saved, Replaced):
            continue
        rows, columns = base.shapes[stored]
        if saved.shape[1:] == (columns,) and saved.shape[0] != rows:
            raise ModelError(
                "the adapter was trained on a base model whose vocabulary was resized",
                found=f"{directory}: {name} has {saved.shape[0]} rows for {rows} in the base model",
                expected="the base model that it was trained from",
                todo=f"resize the base model (resize_token_embeddings({saved.shape[0]})), save "
                "it, and name it as the base model",
            )


def _kept_tied(parts: Parts, base: Weights) -> Parts:
    """The parts of an adapter with `ensure_weight_tying`.

    Where PEFT trains one change for two tied weights, it saves it under both names. It does so for
    layers called embed_tokens or lm_head; of any other embedding it warns, and trains that alone.
    """
    tied = {
        alias: partner
        for alias in parts
        if base.is_alias(alias) and (partner := base.stored_name(alias)) in parts
    }
    moving = {*tied.values()}
    return {
        name: tuple(map(_moving_tied, found)) if name in moving else found
        for name, found in parts.items()
        if name not in tied
    }


def _moving_tied(part: Part) -> Part:
    return replace(part, moves_tied=True) if isinstance(part, LowRank | Replaced) else part


def _check_against(directory: Path, parts: Parts, base: Weights) -> None:
    _refuse_resized(directory, parts, base)
    misfits = []
    for name, found in sorted(parts.items()):
        stored = base.stored_name(name)
        shape = None if stored is None else base.shapes[stored]
        if any(part.shape != shape for part in found):
            misfits.append(f"{name} {found[-1].shape}, {shape or 'not'} in the base model")
    if misfits:
        raise ModelError(
            "the adapter does not fit the base model",
            found=f"{directory}: {'; '.join(misfits[:3])} ({len(misfits)} in all)",
            expected="tensors of the base model in their shapes",
            todo="name the base model that it was trained from",
        )
