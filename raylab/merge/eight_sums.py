"""The sum of products of two rows, in eight sums that the CPU adds side by side.

Model: numpy's pairwise sum keeps eight sums within a block; sum r takes the entries r, r + 8, ....
LLVM does not make vectors of eight sums that are written one by one, so that they took 1.0 ns an
entry; as one vector of eight they take 0.2 ns.
Invariant: each product is rounded before it is added, and the order is that of numpy.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_LANES = 8


@intrinsic
def eight_sums(context: Any, a: Any, b: Any, eights: Any) -> Any:
    """The float64 sum of the products of the first 8 * `eights` entries of two rows, float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = context.get_value_type(types.intp)
        narrow = ir.VectorType(ir.FloatType(), _LANES)
        wide = ir.VectorType(ir.DoubleType(), _LANES)
        starts = [
            context.make_array(row)(context, builder, value).data
            for row, value in zip(signature.args[:2], arguments[:2], strict=True)
        ]
        sums = cgutils.alloca_once(builder, wide)
        builder.store(ir.Constant(wide, [0.0] * _LANES), sums)
        with cgutils.for_range(builder, arguments[2], intp=number) as loop:
            place = builder.mul(loop.index, ir.Constant(number, _LANES))
            parts = []
            for start in starts:
                at = builder.bitcast(builder.gep(start, [place]), narrow.as_pointer())
                loaded = builder.load(at)
                loaded.align = 4
                parts.append(builder.fpext(loaded, wide))
            builder.store(builder.fadd(builder.load(sums), builder.fmul(*parts)), sums)
        total = builder.load(sums)
        each = [builder.extract_element(total, ir.Constant(ir.IntType(32), i)) for i in range(8)]
        while len(each) > 1:
            each = [builder.fadd(*each[i : i + 2]) for i in range(0, len(each), 2)]
        return each[0]

    return types.float64(a, b, types.intp), generate
