"""Single numbers inside compiled loops: as stored, as fp32, as bit patterns."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core.base import BaseContext
from numba.core.typing import Context, Signature
from numba.extending import intrinsic

Function = TypeVar("Function", bound=Callable[..., object])

BLOCK = 1024
"""Elements that are worked on together; what is kept of them in between stays in the cache."""

SOURCES = "".join(
    hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    for path in sorted(Path(__file__).parent.glob("*.py"))
)
"""What the files of this room say."""

EXPONENT = np.uint32(0x7F80_0000)
MAGNITUDE = np.uint32(0x7FFF_FFFF)

_WORD = ir.IntType(32)
_LONG, _PRODUCT = ir.IntType(64), ir.IntType(128)
_SINGLE = ir.FloatType()
_HALF = ir.HalfType()
_STORED = ir.IntType(16)


def compiled(function: Function) -> Function:
    """The function as machine code that runs beside other threads."""
    try:
        machine: Function = numba.njit(nogil=True, cache=True, error_model="numpy")(function)
        _outdate_with_any_source(machine)
    except (RuntimeError, AttributeError):
        # No folder of this machine can be written, or this numba keeps its code in another way than
        # we know: compiled anew by every process.
        machine = numba.njit(nogil=True, error_model="numpy")(function)
    return machine


def _outdate_with_any_source(machine: object) -> None:
    """Let the code that is kept on disk be as new as every file of this room.

    numba looks at the file of the function alone, not at those of the functions that it calls.

    Raises:
        AttributeError: another numba keeps it elsewhere.
    """
    kept = machine._cache._cache_file  # type: ignore[attr-defined]
    kept._source_stamp = (kept._source_stamp, SOURCES)


@intrinsic  # type: ignore[untyped-decorator]
def load(context: Context, stored: types.Type) -> object:
    """A stored number as fp32."""

    def generate(
        target: object, builder: ir.IRBuilder, signature: object, values: list[ir.Value]
    ) -> ir.Value:
        if stored == types.float32:
            return values[0]
        if stored == types.int16:
            return builder.fpext(builder.bitcast(values[0], _HALF), _SINGLE)
        # A bf16 bit pattern is the upper half of an fp32 number.
        upper = builder.shl(builder.zext(values[0], _WORD), ir.Constant(_WORD, 16))
        return builder.bitcast(upper, _SINGLE)

    return types.float32(stored), generate


@intrinsic  # type: ignore[untyped-decorator]
def rounded(context: Context, value: types.Type, like: types.Type) -> object:
    """A finite fp32 number as it is stored beside `like`: to the nearest, ties to even."""

    def generate(
        target: object, builder: ir.IRBuilder, signature: object, values: list[ir.Value]
    ) -> ir.Value:
        if like == types.float32:
            return values[0]
        if like == types.int16:
            return builder.bitcast(builder.fptrunc(values[0], _HALF), _STORED)
        word = builder.bitcast(values[0], _WORD)
        is_odd = builder.and_(builder.lshr(word, ir.Constant(_WORD, 16)), ir.Constant(_WORD, 1))
        up = builder.add(builder.add(word, ir.Constant(_WORD, 0x7FFF)), is_odd)
        return builder.trunc(builder.lshr(up, ir.Constant(_WORD, 16)), _STORED)

    return like(value, like), generate


@intrinsic  # type: ignore[untyped-decorator]
def bits(context: Context, value: types.Type) -> object:
    """The bit pattern of an fp32 number."""

    def generate(
        target: object, builder: ir.IRBuilder, signature: object, values: list[ir.Value]
    ) -> ir.Value:
        return builder.bitcast(values[0], _WORD)

    return types.uint32(value), generate


@intrinsic  # type: ignore[untyped-decorator]
def fma(context: Context, a: types.Type, b: types.Type, c: types.Type) -> object:
    """`a * b + c` of fp32 numbers, rounded once, as torch's `add(..., alpha=)` does on a CPU."""

    def generate(
        target: object, builder: ir.IRBuilder, signature: object, values: list[ir.Value]
    ) -> ir.Value:
        return builder.fma(*values)

    return types.float32(a, b, c), generate


@intrinsic  # type: ignore[untyped-decorator]
def product(context: Context, a: types.Type, b: types.Type) -> object:
    """The upper and the lower half of the product of two unsigned numbers of 64 bits."""

    def generate(
        target: BaseContext, builder: ir.IRBuilder, signature: Signature, values: list[ir.Value]
    ) -> ir.Value:
        whole = builder.mul(*(builder.zext(value, _PRODUCT) for value in values))
        upper = builder.lshr(whole, ir.Constant(_PRODUCT, 64))
        halves = [builder.trunc(half, _LONG) for half in (upper, whole)]
        return target.make_tuple(builder, signature.return_type, halves)

    return types.UniTuple(types.uint64, 2)(a, b), generate
