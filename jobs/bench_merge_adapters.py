"""How fast adapters are merged through their factors: `python jobs/bench_merge_adapters.py`.

Makes LoRA factors of one layer of an 8B-shaped Llama (14336 x 4096, r = 16) in memory, merges 4 and
8 of them by every method of `raylab.merge.matrices`, and prints, as a Markdown table, the CPU
seconds of one thread: through the factors, and beside it on whole task matrices, in one process.
A method's time on whole matrices is bounded from below by the float64 decompositions of that size
that it needs; one of them is measured, with torch. `--small` takes a layer on which every method
that whole matrices have is measured on them instead, and compares the results.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from raylab.merge.matrices import RULES, merge_factors, merge_matrices
from raylab.merge.matrix_rules import Factors
from raylab.spec.merge_methods import METHODS
from raylab.spec.merge_settings import spots_of
from raylab.spec.merges import request_merge
from raylab.spec.tensor_settings import TensorSettings, settings_of

RANK = 16
LARGE, SMALL = (14336, 4096), (96, 64)
WHOLE: dict[str, Callable[[int], int]] = {
    "tsv": lambda models: models,
    "core_tsv": lambda models: models,
    "iso_c": lambda models: 1,
    "core_iso_c": lambda models: 1,
    "iso_cts": lambda models: models + 1,
    "knots_ties": lambda models: 1,
}
"""How many decompositions of the layer's size the whole way takes, by the number of models: of each
of them (TSV-Merge), of their sum (Iso-C), of the sum and what each has outside (Iso-CTS), and of
all side by side, which is larger (KnOTS). TIES in Core Space has no whole way."""


@dataclass(frozen=True)
class Row:
    """CPU seconds of one method; whole: at least, or measured; apart: of the results, relative."""

    method: str
    models: int
    factors: float
    whole: float | None
    apart: float | None = None


def drawn(shape: tuple[int, int], models: int, rank: int) -> list[Factors]:
    """Factors (B, A) of every model."""
    random = torch.Generator().manual_seed(models)
    rows, columns = shape
    return [
        (
            torch.randn(rows, rank, generator=random, dtype=torch.float64),
            torch.randn(rank, columns, generator=random, dtype=torch.float64),
        )
        for _ in range(models)
    ]


def settings(method: str, models: int) -> TensorSettings:
    """What a request without options has for one layer."""
    request = request_merge(method, [str(i) for i in range(models)], base="base")
    return settings_of(request, spots_of(["layer"]))["layer"]


def seconds(work: Callable[[], Factors]) -> tuple[float, Factors]:
    """CPU seconds of this process, and the result."""
    before = time.process_time()
    found = work()
    return time.process_time() - before, found


def decomposition(shape: tuple[int, int]) -> float:
    """CPU seconds of one singular value decomposition of a whole task matrix."""
    ((up, down),) = drawn(shape, 1, RANK)
    whole = up @ down + torch.eye(*shape, dtype=torch.float64)
    before = time.process_time()
    torch.linalg.svd(whole, full_matrices=False)
    return time.process_time() - before


def rows_of(shape: tuple[int, int], counts: Sequence[int], rank: int, large: bool) -> Iterator[Row]:
    """Every method for every number of models."""
    one = decomposition(shape) if large else 0.0
    for models in counts:
        factors = drawn(shape, models, rank)
        for method in RULES:
            yield _row(method, factors, one)


def _row(method: str, factors: Sequence[Factors], one: float) -> Row:
    """`one`: seconds of one decomposition; 0: the whole way is measured."""
    models = len(factors)
    own = settings(method, models)
    taken, found = seconds(partial(merge_factors, method, factors, own))
    if one:
        needed = WHOLE[method](models) * one if method in WHOLE else None
        return Row(method, models, taken, needed)
    if METHODS[method].inputs == "factors":
        return Row(method, models, taken, None)
    matrices = [up @ down for up, down in factors]
    whole, other = seconds(partial(merge_matrices, method, matrices, own))
    return Row(method, models, taken, whole, _apart(found, other))


def _apart(one: Factors, other: Factors) -> float:
    first, second = one[0] @ one[1], other[0] @ other[1]
    return float((first - second).norm() / second.norm())


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a small layer, compared as well")
    options = parser.parse_args()
    torch.set_num_threads(1)
    shape, rank = (SMALL, 4) if options.small else (LARGE, RANK)
    drawn_rows = rows_of(shape, (4, 8), rank, large=not options.small)
    print(f"one layer of {shape[0]} x {shape[1]}, r = {rank}, float64, one thread\n")
    print("| method | models | factors, s | whole matrices, s | times | relative difference |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    at_least = "" if options.small else "at least "
    for row in drawn_rows:
        whole = "" if row.whole is None else f"{at_least}{row.whole:.3g}"
        times = "" if row.whole is None else f"{row.whole / row.factors:,.0f}"
        apart = "" if row.apart is None else f"{row.apart:.1e}"
        print(
            f"| `{row.method}` | {row.models} | {row.factors:.3f} | {whole} | {times} | {apart} |"
        )


if __name__ == "__main__":
    main()
