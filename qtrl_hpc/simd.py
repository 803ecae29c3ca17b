"""Vectors of one 512-bit register as a Numba type, so that kernels say which numbers are worked on side by side.

Left to the compiler, a loop over short runs is not vectorised at all, and what is may change with the compiler. A
``Vec`` of 8 float64 or 16 float32 is an LLVM vector: machines with narrower registers split it. The arithmetic
operators act lane by lane (docs/kernels.md).
"""

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.extending import models, register_model

BITS = 512
BYTES = BITS // 8

# Numba's own types say of these only that they are there.
Decorator = Callable[[Callable[..., Any]], Any]
intrinsic: Decorator = extending.intrinsic
lower_builtin: Callable[..., Decorator] = extending.lower_builtin
type_callable: Callable[..., Decorator] = extending.type_callable


class Vec(types.Type):
    """As many numbers of one type as fill a register."""

    def __init__(self, scalar: Any) -> None:
        self.scalar = scalar
        self.lanes = BITS // scalar.bitwidth
        super().__init__(name=f"Vec({scalar})")


@register_model(Vec)
class _VecModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vec: Vec) -> None:
        scalar = manager.lookup(vec.scalar).get_data_type()
        super().__init__(manager, vec, ir.VectorType(scalar, vec.lanes))  # type: ignore[no-untyped-call]


def _operator(function: Callable[..., Any], instruction: str) -> None:
    @type_callable(function)
    def typer(context: Any) -> Callable[..., Any]:
        return lambda x, y: x if isinstance(x, Vec) and x == y else None

    @lower_builtin(function, Vec, Vec)
    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return getattr(builder, instruction)(*args)


_operator(operator.add, "fadd")
_operator(operator.sub, "fsub")
_operator(operator.mul, "fmul")
_operator(operator.truediv, "fdiv")


def _pointer(context: Any, builder: Any, signature: Any, args: Any, vector: Any) -> Any:
    data = context.make_array(signature.args[0])(context, builder, args[0]).data
    return builder.bitcast(builder.gep(data, [args[1]]), ir.PointerType(vector))


@intrinsic
def load(typing: Any, array: Any, index: Any) -> Any:
    """Return the numbers at ``index``, ``index`` + 1, … of a contiguous array of one axis; bounds are not checked."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = context.get_value_type(signature.return_type)
        pointer = _pointer(context, builder, signature, args, vector)
        return builder.load(pointer, align=array.dtype.bitwidth // 8)

    return Vec(array.dtype)(array, types.intp), lower


@intrinsic
def store(typing: Any, array: Any, index: Any, vec: Any) -> Any:
    """Write a vector to ``index``, ``index`` + 1, … of a contiguous array of one axis; bounds are not checked."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature, args, args[2].type)
        builder.store(args[2], pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, vec), lower


@intrinsic
def fill(typing: Any, array: Any, number: Any) -> Any:
    """Return a vector of ``array``'s type with ``number`` in every lane."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = context.get_value_type(signature.return_type)
        undefined, zero = ir.Constant(vector, ir.Undefined), ir.Constant(ir.IntType(32), 0)
        first = builder.insert_element(undefined, args[1], zero)
        return builder.shuffle_vector(first, undefined, _lanes([0] * vector.count))

    return Vec(array.dtype)(array, array.dtype), lower


def _select(condition: str) -> Any:
    @intrinsic
    def select(typing: Any, x: Any, y: Any) -> Any:
        """Return in each lane y where x ``condition`` y, else x; so NaN in x stays."""

        def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.select(builder.fcmp_ordered(condition, *args), args[1], args[0])

        return x(x, x), lower

    return select


at_least, at_most = _select("<"), _select(">")


@intrinsic
def power_of_two(typing: Any, vec: Any) -> Any:
    """Return 2^k in each lane of ``vec`` = k + ``ROUNDING``[type], k a whole number that an exponent can hold."""
    mantissa, one = (52, 0x3FF0000000000000) if vec.scalar.bitwidth == 64 else (23, 0x3F800000)

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        count = args[0].type.count
        whole = ir.VectorType(ir.IntType(vec.scalar.bitwidth), count)
        moved = builder.shl(builder.bitcast(args[0], whole), ir.Constant(whole, [mantissa] * count))
        return builder.bitcast(builder.add(moved, ir.Constant(whole, [one] * count)), args[0].type)

    return vec(vec), lower


ROUNDING = {8: 1.5 * 2.0**52, 4: 1.5 * 2.0**23}
"""By bytes a number: x + ROUNDING rounds x to a whole number, which the lowest bits of the sum then hold."""


def _swap(distance: int) -> Any:
    @intrinsic
    def swap(typing: Any, vec: Any) -> Any:
        """Return the vector whose lane j is lane j XOR ``distance`` of ``vec``."""

        def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.shuffle_vector(args[0], args[0], _lanes([j ^ distance for j in range(args[0].type.count)]))

        return vec(vec), lower

    return swap


def _lanes(indices: list[int]) -> ir.Constant:
    return ir.Constant(ir.VectorType(ir.IntType(32), len(indices)), indices)


swap1, swap2, swap4, swap8 = _swap(1), _swap(2), _swap(4), _swap(8)
