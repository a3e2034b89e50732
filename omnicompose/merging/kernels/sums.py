"""Weighted sums of tensors and of deltas."""

import numpy as np

from omnicompose.merging.kernels.numbers import (
    BLOCK,
    EXPONENT,
    bits,
    compiled,
    fma,
    load,
    rounded,
)


@compiled
def weighted_sum(stored: np.ndarray, coefficients: np.ndarray, out: np.ndarray) -> bool:
    """`sum_i coefficients[i] * stored[i]`; whether it is finite.

    Args:
        stored: `[operand, element]`, as `kernels` says.
        coefficients: `[operand]`, fp32.
        out: `[element]`, of the dtype of `stored`.
    """
    total = np.empty(BLOCK, np.float32)
    largest = np.uint32(0)
    for start in range(0, stored.shape[1], BLOCK):
        size = min(BLOCK, stored.shape[1] - start)
        for operand in range(stored.shape[0]):
            values, factor = stored[operand, start : start + size], coefficients[operand]
            if operand == 0:
                for i in range(size):
                    total[i] = load(values[i]) * factor
            else:
                for i in range(size):
                    total[i] = fma(load(values[i]), factor, total[i])
        target = out[start : start + size]
        for i in range(size):
            largest = max(largest, np.uint32(bits(total[i]) & EXPONENT))
            target[i] = rounded(total[i], target[i])
    return bool(largest != EXPONENT)


@compiled
def weighted_deltas(stored: np.ndarray, coefficients: np.ndarray, out: np.ndarray) -> bool:
    """`W_0 + sum_i coefficients[i] * (W_i - W_0)`; whether it is finite.

    Args:
        stored: `[1 + expert, element]`, the base first; as `kernels` says.
        coefficients: `[expert]`, fp32.
        out: `[element]`, of the dtype of `stored`.
    """
    total = np.empty(BLOCK, np.float32)
    largest = np.uint32(0)
    for start in range(0, stored.shape[1], BLOCK):
        size = min(BLOCK, stored.shape[1] - start)
        base = stored[0, start : start + size]
        for expert in range(coefficients.size):
            values, factor = stored[1 + expert, start : start + size], coefficients[expert]
            if expert == 0:
                for i in range(size):
                    total[i] = (load(values[i]) - load(base[i])) * factor
            else:
                for i in range(size):
                    total[i] = fma(load(values[i]) - load(base[i]), factor, total[i])
        target = out[start : start + size]
        for i in range(size):
            merged = load(base[i]) + total[i]
            largest = max(largest, np.uint32(bits(merged) & EXPONENT))
            target[i] = rounded(merged, target[i])
    return bool(largest != EXPONENT)
