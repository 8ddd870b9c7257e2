"""Operations of the CPU that numba does not offer, each a few LLVM instructions.

Model: `raylab.reduce.intrinsics` names them for loops. This module imports numba, so only what
compiles a loop imports it.
Invariant: bits are kept as they are; nothing is converted.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array


@intrinsic
def as_float(context: Any, bits: Any) -> Any:
    """The float32 with these uint32 bits."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.uint32), generate


@intrinsic
def as_bits(context: Any, value: Any) -> Any:
    """The int32 bits of this float32."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), generate


@intrinsic
def lowest_bit(context: Any, word: Any) -> Any:
    """The place of the lowest bit that is set in this uint64, which is not zero."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


@intrinsic
def bits_set(context: Any, word: Any) -> Any:
    """How many bits of this uint64 are set."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@intrinsic
def within(context: Any, words: Any, start: Any, mask: Any, low: Any, span: Any) -> Any:
    """Which of 64 neighbouring entries, from `start` on, of an int32 array are in [low, low +
    span], taken as unsigned and with the bits of `mask` alone: bit i of a uint64 says it of entry
    i."""
    numbers = (types.uint64, types.uint32, types.uint32, types.uint32)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        vector = ir.VectorType(ir.IntType(32), 64)
        none, zeros = ir.Constant(vector, ir.Undefined), ir.Constant(vector, [0] * 64)

        def spread(value: Any) -> Any:
            first = builder.insert_element(none, value, ir.Constant(ir.IntType(32), 0))
            return builder.shuffle_vector(first, none, zeros)

        place = builder.gep(array.data, [arguments[1]])
        entries = builder.load(builder.bitcast(place, vector.as_pointer()))
        entries.align = 4
        masked = builder.and_(entries, spread(arguments[2]))
        shifted = builder.sub(masked, spread(arguments[3]))
        found = builder.icmp_unsigned("<=", shifted, spread(arguments[4]))
        return builder.bitcast(found, ir.IntType(64))

    return types.uint64(words, *numbers), generate


@intrinsic(prefer_literal=True)
def on_stack(context: Any, size: Any, dtype: Any) -> Any:
    """A 1-D array of `size` entries, a constant, of this dtype: on the stack of the thread, not set
    to anything, and gone when the function returns that asked for it."""
    made = types.Array(dtype.dtype, 1, "C")
    count = size.literal_value

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        entry = context.get_data_type(made.dtype)
        place = cgutils.alloca_once(builder, entry, size=count)
        place.align = 64
        array = context.make_array(made)(context, builder)
        bytes_of_entry = context.get_abi_sizeof(entry)
        populate_array(
            array,
            data=place,
            shape=[context.get_constant(types.intp, count)],
            strides=[context.get_constant(types.intp, bytes_of_entry)],
            itemsize=context.get_constant(types.intp, bytes_of_entry),
            meminfo=None,
        )
        return array._getvalue()

    return made(size, dtype), generate


@intrinsic
def prefetch(context: Any, words: Any, place: Any) -> Any:
    """Have the CPU load the line of the cache with this entry of an array; no error beyond it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        line = builder.bitcast(builder.gep(array.data, [arguments[1]]), ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [line.type, number, number, number])
        load = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        # For reading, into the nearest cache, as data.
        builder.call(load, [line, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(words, types.int64), generate


@intrinsic
def words_at(context: Any, address: Any, size: Any) -> Any:
    """The `size` uint16 entries at this address, which somebody else keeps there."""
    made = types.Array(types.uint16, 1, "C", readonly=True)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        entry = context.get_data_type(types.uint16)
        array = context.make_array(made)(context, builder)
        populate_array(
            array,
            data=builder.inttoptr(arguments[0], entry.as_pointer()),
            shape=[arguments[1]],
            strides=[context.get_constant(types.intp, 2)],
            itemsize=context.get_constant(types.intp, 2),
            meminfo=None,
        )
        return array._getvalue()

    return made(types.int64, types.int64), generate


@intrinsic
def as_matrix(context: Any, memory: Any, rows: Any, columns: Any) -> Any:
    """The first rows * columns entries of a 1-D array in C order, as (rows, columns)."""
    made = types.Array(memory.dtype, 2, "C")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source = context.make_array(signature.args[0])(context, builder, arguments[0])
        size = context.get_abi_sizeof(context.get_data_type(made.dtype))
        entry = context.get_constant(types.intp, size)
        array = context.make_array(made)(context, builder)
        populate_array(
            array,
            data=source.data,
            shape=arguments[1:],
            strides=[builder.mul(arguments[2], entry), entry],
            itemsize=entry,
            meminfo=None,
        )
        return array._getvalue()

    return made(memory, types.int64, types.int64), generate
