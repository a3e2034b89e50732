"""The random numbers of `random_bits`, drawn inside compiled loops.

Philox4x64 with 10 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011):
one call gives four words of 64 bits, the lower half of each before the upper; an fp32 number in
[0, 1) is the upper 24 bits of a half, divided by 2^24. That is numpy's order, whose counter is
stepped before its first call.
"""

import numpy as np

from omnicompose.merging.kernels.numbers import compiled, product

CALL_DRAWS, CALL_WORDS = 8, 4
BLOCK_CALLS = 8192
"""Calls with one setting of the counter's third word: `random_bits.BLOCK` draws."""
NUM_ROUNDS = 10

_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_STEP_0, _STEP_1 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)
_ZERO = np.uint64(0)


@compiled
def num_words(num_draws: int) -> int:
    """Words of room that so many draws take at most, wherever they begin."""
    return (num_draws // CALL_DRAWS + 2) * CALL_WORDS


@compiled
def draw(key: np.ndarray, first: int, num_draws: int, words: np.ndarray) -> int:
    """Draw numbers `first, first + 1, ...` of the endless sequence of `key`.

    Args:
        key: `[2]`, uint64: its lower and its upper half.
        first: index of the first number.
        num_draws: how many.
        words: `[num_words(num_draws)]`, uint64; filled. Seen as uint32, each number is 32 bits, of
            which the upper 24 count.

    Returns:
        How many numbers there are before the first.
    """
    first_call = first // CALL_DRAWS
    last_call = (first + num_draws - 1) // CALL_DRAWS
    for call in range(first_call, last_call + 1):
        a, b = np.uint64(call % BLOCK_CALLS + 1), _ZERO
        c, d = np.uint64(call // BLOCK_CALLS), _ZERO
        key_0, key_1 = key[0], key[1]
        for _ in range(NUM_ROUNDS):
            high_0, low_0 = product(_MULTIPLIER_0, a)
            high_1, low_1 = product(_MULTIPLIER_1, c)
            a, b, c, d = high_1 ^ b ^ key_0, low_1, high_0 ^ d ^ key_1, low_0
            key_0, key_1 = key_0 + _STEP_0, key_1 + _STEP_1
        place = (call - first_call) * CALL_WORDS
        words[place], words[place + 1] = a, b
        words[place + 2], words[place + 3] = c, d
    return first - first_call * CALL_DRAWS
