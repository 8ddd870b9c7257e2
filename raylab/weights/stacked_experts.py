"""Experts of one tensor each and experts that are stacked in one tensor, seen as each other.

Model: transformers' table says which files' tensors loading stacks: a matrix of each expert, or
parts of its rows (gate, then up). `Stack` holds that as pieces: rows of one expert of the stacked
tensor (experts, rows, columns). Some architectures have files with (experts, columns, rows), which
loading turns. `RestackedFolder` shows the tensors of one folder as another folder has them: stacked
ones out of pieces, pieces out of stacked ones, or turned.
Invariant: every entry is shown once, in its own dtype; tensors of several dtypes, or stacked in
another way than expert by expert, are left as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from raylab.errors import ModelError
from raylab.weights.memory_names import AUTO_CLASSES, Computed, MemoryNames
from raylab.weights.safetensors_reader import Rows, SafetensorsFolder, Shape


class Piece(NamedTuple):
    """A tensor of a file: rows [first, last) of one expert."""

    name: str
    expert: int
    first: int
    last: int


@dataclass(frozen=True)
class Stack:
    """The pieces of a stacked tensor (experts, rows, columns): for each part of the rows, those of
    all experts."""

    shape: Shape
    pieces: tuple[Piece, ...]

    def of_expert(self, at: int) -> tuple[Piece, ...]:
        """Its pieces, in the order of their rows."""
        return self.pieces[at :: self.shape[0]]


def stack_of(computed: Computed, shape: Shape, shapes: Mapping[str, Shape]) -> Stack | None:
    """The pieces of the tensor `shape` in memory; None where it is made in another way.

    shapes: of the tensors of the files.
    """
    steps = [(type(item).__name__, getattr(item, "dim", None)) for item in computed.operations]
    if steps not in ([("MergeModulelist", 0)], [("MergeModulelist", 0), ("Concatenate", 1)]):
        return None
    pieces, first = [], 0
    for names in computed.sources.values():
        found = {shapes.get(name, ()) for name in names}
        if len(names) != shape[0] or len(found) != 1:
            return None
        (one,) = found
        if len(one) != 2 or len(shape) != 3 or one[1] != shape[2]:
            return None
        pieces += [Piece(name, at, first, first + one[0]) for at, name in enumerate(names)]
        first += one[0]
    return Stack(shape, tuple(pieces)) if first == shape[1] else None


def turned_shape(computed: Computed, shapes: Mapping[str, Shape]) -> Shape | None:
    """The shape in the files of stacked experts that loading turns where they are not as in memory;
    None for tensors that are made in another way.

    shapes: of the tensors of the files.
    """
    steps = [(type(item).__name__, vars(item)) for item in computed.operations]
    names = [name for group in computed.sources.values() for name in group]
    if len(steps) != 1 or len(names) != 1 or steps[0][0] != "Transpose":
        return None
    axes = {steps[0][1].get("dim0"), steps[0][1].get("dim1")}
    shape = shapes.get(names[0], ())
    return shape if axes == {1, 2} and len(shape) == 3 else None


def _turned(shape: Shape) -> Shape:
    return (shape[0], shape[2], shape[1])


class RestackedFolder:
    """The tensors of a folder, some of them under the names and in the shapes of another."""

    def __init__(
        self,
        folder: SafetensorsFolder,
        stacked: Mapping[str, Stack],
        cut: _Cut,
        turned: Collection[str] = (),
    ) -> None:
        """stacked: new tensors out of pieces; cut: pieces out of tensors; turned: tensors with the
        rows of every expert as columns; all by their names."""
        self._folder, self._stacked, self._cut = folder, stacked, cut
        self._turned = frozenset(turned)
        self.own_names = folder.own_names
        pieces = {piece.name for stack in stacked.values() for piece in stack.pieces}
        used = pieces | {source for source, _, _ in cut.values()}
        kept = {name for name in folder.shapes if name not in used}
        self.shapes: Mapping[str, Shape] = (
            {name: folder.shapes[name] for name in kept}
            | {name: _turned(folder.shapes[name]) for name in self._turned}
            | {name: stack.shape for name, stack in stacked.items()}
            | {name: shape for name, (_, _, shape) in cut.items()}
        )
        self.dtypes: Mapping[str, str] = (
            {name: folder.dtypes[name] for name in kept}
            | {name: folder.dtypes[stack.pieces[0].name] for name, stack in stacked.items()}
            | {name: folder.dtypes[source] for name, (source, _, _) in cut.items()}
        )

    def rows(self, name: str, start: int, stop: int) -> Rows:
        """Rows [start, stop) as `SafetensorsFolder.rows`; a row of a stack is an expert."""
        if stack := self._stacked.get(name):
            return np.stack([self._expert(stack, at) for at in range(start, stop)])
        if name in self._turned:
            rows = self._folder.rows(name, start, stop)
            experts = rows.reshape(stop - start, *self._folder.shapes[name][1:])
            return experts.transpose(0, 2, 1).reshape(rows.shape)
        if name not in self._cut:
            return self._folder.rows(name, start, stop)
        source, piece, _ = self._cut[name]
        expert = self._folder.rows(source, piece.expert, piece.expert + 1)
        rows = expert.reshape(self._folder.shapes[source][1:])
        return rows[piece.first + start : piece.first + stop]

    def _expert(self, stack: Stack, at: int) -> Rows:
        found = [
            self._folder.rows(piece.name, 0, piece.last - piece.first)
            for piece in stack.of_expert(at)
        ]
        return np.concatenate([rows.reshape(-1) for rows in found])


_Cut = Mapping[str, tuple[str, Piece, Shape]]
"""By the name of a piece: the stacked tensor that holds it, the piece, its shape."""


def restacked(
    folder: SafetensorsFolder,
    wanted: Mapping[str, Shape],
    mine: Callable[[str], MemoryNames],
    theirs: Callable[[str], MemoryNames],
) -> SafetensorsFolder | RestackedFolder:
    """`folder` with the tensors `wanted`, which another folder stacks where this one does not, or
    the other way round, or has turned; itself where there are none.

    mine, theirs: what a class of transformers calls the tensors of the two folders.
    """
    mirrored = {
        name
        for name, shape in wanted.items()
        if len(shape) == 3 and folder.shapes.get(name) == _turned(shape) != shape
    }
    is_same = {*wanted} <= {*folder.shapes} or {*folder.shapes} <= {*wanted}
    if is_same and not mirrored:
        return folder
    for auto_class in AUTO_CLASSES:
        try:
            own, other = mine(auto_class), theirs(auto_class)
        except ModelError:  # What stays apart is said where the two are aligned.
            continue
        stacked, cut = _stacked(folder, wanted, own, other), _cut(folder, wanted, own, other)
        turned = {
            name
            for computed in own.computed.values()
            if turned_shape(computed, folder.shapes)
            for group in computed.sources.values()
            for name in group
            if name in mirrored
        }
        if stacked or cut or turned:
            return RestackedFolder(folder, stacked, cut, turned)
    return folder


def _stacked(
    folder: SafetensorsFolder, wanted: Mapping[str, Shape], own: MemoryNames, other: MemoryNames
) -> dict[str, Stack]:
    """The tensors of `wanted` that the pieces of `folder` make."""
    return {
        name: stack
        for memory, computed in own.computed.items()
        if (name := other.in_files.get(memory, "")) in wanted
        and name not in folder.shapes
        and (stack := stack_of(computed, own.shapes[memory], folder.shapes))
        and stack.shape == wanted[name]
        and len({folder.dtypes[piece.name] for piece in stack.pieces}) == 1
    }


def _cut(
    folder: SafetensorsFolder, wanted: Mapping[str, Shape], own: MemoryNames, other: MemoryNames
) -> dict[str, tuple[str, Piece, Shape]]:
    """The pieces in `wanted` of the stacked tensors of `folder`."""
    return {
        piece.name: (source, piece, wanted[piece.name])
        for memory, computed in other.computed.items()
        if (source := own.in_files.get(memory, "")) in folder.shapes
        and (stack := stack_of(computed, other.shapes[memory], wanted))
        and folder.shapes[source] == stack.shape
        for piece in stack.pieces
    }
