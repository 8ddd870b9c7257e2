"""Adapters of parameters: stacked experts, and matrices that no linear layer owns.

Model: `target_parameters` names parameters of a module. PEFT wraps the module once for each of
them, in the order in which the module has them, the first innermost: of two, the first is saved
under `<module>.base_layer.lora_A.weight`, the second under `<module>.lora_A.weight`. With E experts
of rank r, A is (E r, inputs) expert by expert and B is (outputs, r E) rank by rank: of expert e,

    A_e = A[e r : (e + 1) r]    B_e = B[:, e::E]    delta_e = s B_e A_e, or its transpose

as `peft.tuners.lora.layer.ParamWrapper` has it. The transpose is that of gpt-oss, whose experts are
(inputs, outputs). Where the base model's files have a tensor for each expert, or for parts of its
rows, as transformers' table says, the delta is cut in the same way.
Invariant: every tensor of a wrapped parameter goes into the parts of that parameter, whose names
and shapes are those of the base model's files. PEFT rounds such a delta before it adds it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial

import torch

from raylab.errors import ModelError
from raylab.weights.adapter_config import AdapterConfig
from raylab.weights.adapter_parts import Factors, LowRank, Part
from raylab.weights.checkpoint import Weights
from raylab.weights.memory_names import Computed, MemoryNames, known_names
from raylab.weights.safetensors_reader import Shape
from raylab.weights.stacked_experts import stack_of, turned_shape

_WRAPPER = ".base_layer"


@dataclass(frozen=True)
class StackedLowRank:
    """LoRA on E matrices that lie in one tensor, (E, outputs, inputs) or its transpose.

    `expert` reads the factors of one of them.
    """

    shape: Shape
    expert: Callable[[int], Factors]
    transposed: bool
    needs_weight = False
    moves_tied = False

    def delta(self, start: int, stop: int, weight: torch.Tensor | None) -> torch.Tensor:
        """The deltas of experts [start, stop), one a row, float32."""
        del weight
        return torch.stack([self._product(at).reshape(-1) for at in range(start, stop)])

    def merged(self, start: int, stop: int, weight: torch.Tensor) -> torch.Tensor:
        """The delta rounded to the weight's dtype, added and rounded again."""
        return weight + self.delta(start, stop, None).to(weight.dtype)

    def _product(self, at: int) -> torch.Tensor:
        found = self.expert(at)
        product = (found.up @ found.down).mul_(found.scale)
        return product.T if self.transposed else product


@dataclass(frozen=True)
class Wrapped:
    """One parameter that the adapter changes, by its name in memory."""

    name: str
    shape: Shape
    transposed: bool

    @property
    def experts(self) -> int:
        """1 for a matrix."""
        return self.shape[0] if len(self.shape) == 3 else 1

    @property
    def sides(self) -> tuple[int, int]:
        """(outputs, inputs) of one expert."""
        first, second = self.shape[-2:]
        return (second, first) if self.transposed else (first, second)


class WrappedParameters:
    """The parameters that an adapter targets, and where the base model's files have them."""

    def __init__(self, config: AdapterConfig, base: Weights, modules: Collection[str]) -> None:
        """`modules`: those of the adapter's file, with their wrappers. Raises ModelError."""
        self._config, self._base, self._modules = config, base, frozenset(modules)
        owners = {*map(_owner, self._modules)}
        # A mixture with images is trained as a whole, or the part of it that takes text.
        self._names: MemoryNames = max(
            known_names(base.names_in_memory),
            key=lambda names: sum(_in_memory(own, names) is not None for own in owners),
        )

    def of(self, module: str) -> Wrapped | None:
        """The parameter that the factors of `module` belong to; None for a layer of its own.

        Raises ModelError.
        """
        owner = _owner(module)
        in_memory = _in_memory(owner, self._names) or owner
        targeted = [name for name in self._parameters(in_memory) if self._is_targeted(name)]
        if not targeted:
            return None
        saved = [owner + _WRAPPER * depth for depth in range(len(targeted))]
        found = {name for name in self._modules if _owner(name) == owner}
        if found != {*saved}:
            raise ModelError(
                f"the adapter's tensors for {owner} do not fit its target_parameters",
                found=f"{len(found)} pairs of factors for {', '.join(targeted)}",
                expected="A and B of each, as PEFT saves them",
            )
        name = targeted[len(targeted) - 1 - saved.index(module)]
        shape = self._names.shapes[name]
        return Wrapped(name, shape, len(shape) == 3 and in_memory in self._names.transposed)

    def parts(
        self, parameter: Wrapped, factors: Callable[[float], Factors], a: Shape, b: Shape
    ) -> Iterator[tuple[str, Part]]:
        """(name in the base model's files, part) of one parameter.

        factors: reads A and B as saved, by the scale; a, b: their shapes. Raises ModelError.
        """
        rank = self._config.rank_of(parameter.name)
        outputs, inputs = parameter.sides
        columns = rank * parameter.experts
        is_odd = parameter.transposed and parameter.experts == 1
        if (a, b) != ((columns, inputs), (outputs, columns)) or is_odd:
            raise ModelError(
                f"the factors of {parameter.name} do not fit",
                found=f"A {a}, B {b} for a parameter {parameter.shape}",
                expected=f"A ({columns}, {inputs}) and B ({outputs}, {columns}): rank {rank} of "
                f"{parameter.experts} experts",
            )
        read = partial(factors, self._config.scale_of(parameter.name))
        expert = partial(_expert, read, rank, parameter.experts)
        if computed := self._names.computed.get(parameter.name):
            yield from self._cut(parameter, computed, expert)
            return
        name = self._names.in_files.get(parameter.name, parameter.name)
        if len(parameter.shape) == 3:
            yield name, StackedLowRank(parameter.shape, expert, parameter.transposed)
        else:
            yield name, LowRank(parameter.shape, read, rounds_twice=True)

    def _cut(
        self, parameter: Wrapped, computed: Computed, expert: Callable[[int], Factors]
    ) -> Iterator[tuple[str, Part]]:
        """The parts of a parameter that loading stacks out of the files' tensors, or turns."""
        if shape := turned_shape(computed, self._base.shapes):
            (name,) = (name for group in computed.sources.values() for name in group)
            always = not getattr(computed.operations[0], "check_dims", False)
            is_turned = always or shape != parameter.shape
            yield name, StackedLowRank(shape, expert, parameter.transposed != is_turned)
            return
        stack = stack_of(computed, parameter.shape, self._base.shapes)
        if stack is None or parameter.transposed:
            steps = ", ".join(type(item).__name__ for item in computed.operations)
            raise ModelError(
                f"the base model's files hold {parameter.name} in a way that is not read",
                found=f"{', '.join(computed.sources)} through {steps}",
                expected="a matrix for each expert, or for parts of its rows",
                todo="save the base model by transformers, and name that as the base model",
            )
        for name, at, first, last in stack.pieces:
            shape = (last - first, parameter.shape[2])
            factors = partial(_rows_of, expert, at, first, last)
            yield name, LowRank(shape, factors, rounds_twice=True)

    def _parameters(self, module: str) -> list[str]:
        """The parameters of a module itself, in the module's order."""
        return [name for name in self._names.shapes if name.rpartition(".")[0] == module]

    def _is_targeted(self, name: str) -> bool:
        targets = self._config.target_parameters or ()
        return any(name == target or name.endswith(f".{target}") for target in targets)


class NamedMatrices:
    """The matrices that an adapter targets as parameters, where no base model says what they are.

    Only names with a module (`router.weight`) and factors of one matrix can be distinguished from
    layers and from stacked experts; anything else needs the base model.
    """

    def __init__(self, config: AdapterConfig, modules: Collection[str]) -> None:
        """`modules`: those of the adapter's file. `needs_base` says whether they can be read."""
        self._config = config
        targets = config.target_parameters or ()
        found = [
            (module, target)
            for module in modules
            for target in targets
            if (head := target.rpartition(".")[0])
            and (module == head or module.endswith(f".{head}"))
        ]
        self._names = {module: f"{module}.{t.rpartition('.')[2]}" for module, t in found}
        self.needs_base = (
            len(self._names) < len(found)
            or any(module.endswith(_WRAPPER) for module in modules)
            or {target for _, target in found} != {*targets}
        )

    def of(self, module: str) -> Wrapped | None:
        """As `WrappedParameters.of`; the shape is not known."""
        return Wrapped(self._names[module], (), False) if module in self._names else None

    def parts(
        self, parameter: Wrapped, factors: Callable[[float], Factors], a: Shape, b: Shape
    ) -> Iterator[tuple[str, Part]]:
        """As `WrappedParameters.parts`; experts, of which A has several, need the base model."""
        rank = self._config.rank_of(parameter.name)
        if len(a) != 2 or len(b) != 2 or not rank == a[0] == b[1]:
            raise ModelError(
                f"the factors of {parameter.name} are not those of one matrix",
                found=f"A {a}, B {b}, rank {rank}",
                expected="the base model, which says how experts lie in a parameter",
                todo="name the base model: --base, or base_model in a study",
            )
        read = partial(factors, self._config.scale_of(parameter.name))
        yield parameter.name, LowRank((b[0], a[1]), read, rounds_twice=True)


def _in_memory(module: str, names: MemoryNames) -> str | None:
    """The module in memory; an adapter of the trunk alone leaves the leading parts out."""
    owners = {name.rpartition(".")[0] for name in names.shapes}
    if module in owners:
        return module
    found = [name for name in owners if name.endswith(f".{module}")]
    return found[0] if len(found) == 1 else None


def _owner(module: str) -> str:
    while module.endswith(_WRAPPER):
        module = module.removesuffix(_WRAPPER)
    return module


def _expert(read: Callable[[], Factors], rank: int, experts: int, at: int) -> Factors:
    """A_e, (r, inputs), and B_e, (outputs, r), of one expert; copies."""
    found = read()
    return Factors(
        found.down[at * rank : (at + 1) * rank].clone(),
        found.up[:, at::experts].contiguous().clone(),
        found.scale,
    )


def _rows_of(expert: Callable[[int], Factors], at: int, start: int, stop: int) -> Factors:
    """The factors of rows [start, stop) of one expert."""
    found = expert(at)
    return Factors(found.down, found.up[start:stop].clone(), found.scale)
