"""Elementary functions for compiled loops, written so that SIMD can take them.

Numba compiles for the processor at hand, at the first call.
"""

import inspect
import math
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from numba import njit, types
from numba.core import config
from numba.extending import intrinsic
from numpy.polynomial import Chebyshev, Polynomial

LN_2 = math.log(2.0)
LOG2_E = math.log2(math.e)
LOWEST_BINARY_EXPONENT = -1020.0
"""2 to this is 1e-307: nothing, and still a normal float64 number."""

SAFE_MATHS = {"reassoc", "contract", "arcp", "nsz"}
"""Sums may be reordered, as SIMD must; infinities and NaN keep their meaning."""


def _use_wide_registers() -> None:
    """Let loops fill registers of 512 bits, where a processor has them and LLVM spares them.

    They are worth a quarter of the time here; a choice of the user's own stands.
    """
    features = llvm.get_host_cpu_features().flatten()
    if "+avx512f" in features and config.CPU_FEATURES is None:
        config.CPU_FEATURES = f"{features},-prefer-256-bit"


_use_wide_registers()


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a loop without the interpreter's lock, and keep the result beside its file.

    Where nothing may be written (a read-only container), every process compiles for itself.
    """
    options, plain = {**_options(), "nogil": True}, inspect.unwrap(function)
    try:
        return njit(**options, cache=True)(plain)
    except RuntimeError:  # No place to keep it.
        return njit(**options)(plain)


def part(function: Callable[..., Any]) -> Any:
    """Compile a loop into each compiled loop that calls it, leaving no call.

    A call would find the code that the process holds of it: made for this caller where it was
    loaded, made alone where it was compiled just now. The two round differently.
    """
    return njit(**_options(), forceinline=True)(inspect.unwrap(function))


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a formula into each loop that uses it."""
    return njit(**_options(), inline="always")(inspect.unwrap(function))


def _options() -> dict[str, Any]:
    # Python's error model would test each division, which SIMD cannot. The checks of types that
    # tests put around functions are taken off by `unwrap`.
    return {"fastmath": SAFE_MATHS, "error_model": "numpy"}


@intrinsic
def float32_of(_, bits):
    """The float32 that has these 32 bits."""
    return types.float32(types.int32), lambda context, builder, signature, args: builder.bitcast(
        args[0], context.get_value_type(types.float32)
    )


@intrinsic
def float64_of(_, bits):
    """The float64 that has these 64 bits."""
    return types.float64(types.int64), lambda context, builder, signature, args: builder.bitcast(
        args[0], context.get_value_type(types.float64)
    )


@intrinsic
def bits_of(_, value):
    """The 32 bits of a float32."""
    return types.int32(types.float32), lambda context, builder, signature, args: builder.bitcast(
        args[0], context.get_value_type(types.int32)
    )


@inlined
def ordinal(value):
    """An integer for a float32, of the same order, and equal where floats are: -0 is 0."""
    bits = np.int64(bits_of(value))
    return bits if bits >= 0 else -(bits + 2**31)


# Of 2^r for |r| <= 1/2: interpolation at Chebyshev nodes leaves 1.1e-7 of it with degree five,
# Taylor's series 4e-18 with degree thirteen.
S0, S1, S2, S3, S4, S5 = (
    np.float32(value)
    for value in Chebyshev.interpolate(np.exp2, 5, domain=[-0.5, 0.5]).convert(kind=Polynomial).coef
)
_, D1, D2, D3, D4, D5, D6, D7, D8, D9, D10, D11, D12, D13 = (
    LN_2**k / math.factorial(k) for k in range(14)
)


@inlined
def exp2_single(v):
    """2^v in float32, relative error 3e-7, for -126 <= v <= 127."""
    n = np.rint(v)
    r = v - n
    p = ((((S5 * r + S4) * r + S3) * r + S2) * r + S1) * r + S0
    return p * float32_of((np.int32(n) + np.int32(127)) << np.int32(23))


@inlined
def exp2_double(v):
    """2^v in float64, relative error 1e-15, for |v| <= 1020."""
    n = np.rint(v)
    r = v - n
    low = (((D6 * r + D5) * r + D4) * r + D3) * r + D2
    high = (((((D13 * r + D12) * r + D11) * r + D10) * r + D9) * r + D8) * r + D7
    r2 = r * r
    p = (high * (r2 * r2 * r2) * r) + (low * r2) + (D1 * r + 1.0)
    return p * float64_of((np.int64(n) + np.int64(1023)) << np.int64(52))


@inlined
def minus_log_mean(e):
    """-log((1 + e) / 2) for 0 <= e <= 1: 2 artanh of (1 - e) / (3 + e), which is at most 1/3."""
    t = (1.0 - e) / (3.0 + e)
    q = t * t
    s = 1 / 29 + q * (1 / 31)
    s = 1 / 25 + q * (1 / 27 + q * s)
    s = 1 / 21 + q * (1 / 23 + q * s)
    s = 1 / 17 + q * (1 / 19 + q * s)
    s = 1 / 13 + q * (1 / 15 + q * s)
    s = 1 / 9 + q * (1 / 11 + q * s)
    s = 1 / 5 + q * (1 / 7 + q * s)
    s = 1.0 + q * (1 / 3 + q * s)
    return 2.0 * t * s
