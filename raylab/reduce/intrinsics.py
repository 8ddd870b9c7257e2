"""Operations of the CPU that numba does not offer, for loops; `llvm_operations` defines each."""

from __future__ import annotations

from raylab.compiled import from_numba

_MODULE = "raylab.reduce.llvm_operations"
as_float = from_numba(_MODULE, "as_float")
as_matrix = from_numba(_MODULE, "as_matrix")
as_bits = from_numba(_MODULE, "as_bits")
lowest_bit = from_numba(_MODULE, "lowest_bit")
bits_set = from_numba(_MODULE, "bits_set")
within = from_numba(_MODULE, "within")
on_stack = from_numba(_MODULE, "on_stack")
words_at = from_numba(_MODULE, "words_at")
prefetch = from_numba(_MODULE, "prefetch")
