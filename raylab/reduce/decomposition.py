"""The singular vectors of a base model's tensor, found once and kept in the store.

Model: of a tensor W the vectors of its shorter side are the eigenvectors of the Gram matrix of that
side, and its singular values the roots of the eigenvalues (Golub & Van Loan, Matrix Computations,
4th ed., 8.6). The other side's vectors follow by one product with W, and are not kept. A file of
the store, OUT/decomposed/<base model>/<tensor>.safetensors, holds both in float64 with their
SHA-256; the folder is named by the base model's content.
Invariant: W is the stored, full-precision tensor; sums are float64 over blocks whose bounds depend
on the shape alone, in one BLAS thread. What is read back has the bits that were written; a file
that is damaged, of another form or of another tensor counts as missing, and is made again. Pickle
is never used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from raylab.errors import NonFiniteError
from raylab.spec.identity import fingerprint
from raylab.store.filesystem import DECOMPOSED, Store
from raylab.weights.checkpoint import Weights
from raylab.weights.row_tiles import one_blas_thread

NEGLIGIBLE = 2.0**-20
"""A singular value below this share of the largest counts as zero: the root of a Gram matrix's
rounding is about 2^-23 of it."""
_BLOCK_ENTRIES = 1 << 22
_FORM = "1"


@dataclass(frozen=True)
class Decomposition:
    """squares: float64 (p,), the squared singular values, largest first; vectors: float64 (p, p),
    in its columns the singular vectors of the shorter side, of p entries."""

    squares: torch.Tensor
    vectors: torch.Tensor

    @property
    def rank(self) -> int:
        """How many singular values are not zero."""
        return int((self.squares > NEGLIGIBLE**2 * self.squares[0]).sum())


@dataclass(frozen=True)
class ShortSide:
    """A matrix seen from its shorter side: itself if it is wide, its transpose if it is tall."""

    matrix: torch.Tensor

    @classmethod
    def of(cls, weights: Weights, name: str) -> ShortSide:
        """The tensor `name`, 2-D, in the dtype of its file."""
        rows, columns = weights.shapes[weights.stored_name(name) or name]
        matrix = weights.raw(name, 0, rows)
        return cls(matrix.T if rows > columns else matrix)

    def times(self, right: torch.Tensor) -> torch.Tensor:
        """matrix @ right, float64; right: float64 (longer side, r)."""
        total = torch.zeros(len(self.matrix), right.shape[1], dtype=torch.float64)
        for start, block in self._blocks():
            total += block @ right[start : start + block.shape[1]]
        return total

    def decomposed(self, name: str) -> Decomposition:
        """Its decomposition, anew. Raises NonFiniteError, which says `name`."""
        side = len(self.matrix)
        gram = torch.zeros(side, side, dtype=torch.float64)
        for _, block in self._blocks():
            gram += block @ block.T
        if not bool(gram.isfinite().all()):
            raise NonFiniteError(f"the base model's {name} is not finite", expected="numbers")
        squares, vectors = torch.linalg.eigh(gram)
        return Decomposition(squares.clamp(min=0).flip(0), vectors.flip(1).contiguous())

    def _blocks(self) -> Iterator[tuple[int, torch.Tensor]]:
        """(the first column, some columns in float64)."""
        short, long = self.matrix.shape
        step = max(1, _BLOCK_ENTRIES // short)
        for start in range(0, long, step):
            yield start, self.matrix[:, start : start + step].double()


def decomposition_of(
    side: ShortSide, name: str, store: Store | None, content: str
) -> Decomposition:
    """The decomposition of the tensor `name` of the base model `content`: from `store`, or made
    and kept there. Raises NonFiniteError, StoreError."""
    key = f"{DECOMPOSED}/{content}/{fingerprint(name)}.safetensors"
    kept = store.read_if_there(key) if store else None
    found = unpacked(kept, name, len(side.matrix)) if kept else None
    if found is None:
        with one_blas_thread():
            found = side.decomposed(name)
        if store:
            store.write(key, packed(found, name))
    return found


def packed(found: Decomposition, name: str) -> bytes:
    """A decomposition as the bytes of a safetensors file."""
    tensors = {"squares": found.squares, "vectors": found.vectors}
    about = {"form": _FORM, "tensor": name, "sha256": _digest(tensors)}
    data: bytes = save(tensors, about)
    return data


def unpacked(data: bytes, name: str, side: int) -> Decomposition | None:
    """What `packed` made of the tensor `name` whose shorter side is `side`; None of others."""
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        about, tensors = header["__metadata__"], load(data)
        found = Decomposition(tensors["squares"], tensors["vectors"])
        asked = {"form": _FORM, "tensor": name, "sha256": _digest(tensors)}
    except (SafetensorError, ValueError, KeyError, TypeError):
        return None
    is_whole = about == asked and found.vectors.shape == (side, side)
    return found if is_whole else None


def _digest(tensors: dict[str, torch.Tensor]) -> str:
    whole = hashlib.sha256()
    for key in sorted(tensors):
        whole.update(key.encode())
        whole.update(tensors[key].contiguous().view(torch.uint8).numpy().data)
    return whole.hexdigest()
