"""Uniform numbers that depend on what they are for and on nothing else.

Element `k` of tensor `name` of expert `expert` under `seed` always gets the same number, whatever
the order of tensors, the size of tiles, the number of threads or the device: the generator is the
counter-based Philox, keyed by (seed, expert, name), its counter set to the block `k // BLOCK`.
"""

import math
from collections.abc import Callable
from hashlib import blake2b

import numpy as np
import torch

from omnicompose.merging.method import TensorGroup

BLOCK = 65536
"""Elements drawn from one setting of the counter."""

NUM_NUMBERS = 1 << 24
"""Possible numbers, evenly spread: a number is the upper 24 of 32 random bits, divided by this."""

Uniform = Callable[[TensorGroup, int, int], torch.Tensor]
"""(group, number of the expert, seed) -> one number in [0, 1) per element of the tile."""


def philox_key(seed: int, expert: str, name: str) -> int:
    """128 bits that name one tensor of one expert under one seed."""
    parts = (str(seed).encode(), expert.encode(), name.encode())
    # Lengths go in front, so that ("ab", "c") and ("a", "bc") are different keys.
    message = b"".join(len(part).to_bytes(8, "little") + part for part in parts)
    return int.from_bytes(blake2b(message, digest_size=16).digest(), "little")


def uniform_numbers(key: int, offset: int, count: int) -> np.ndarray:
    """Numbers `offset .. offset + count - 1` of the endless sequence of `key`; fp32 in [0, 1)."""
    numbers = np.empty(count, dtype=np.float32)
    for block in range(offset // BLOCK, -(-(offset + count) // BLOCK)):
        # The block goes into the counter's high words: one block never runs into the next.
        generator = np.random.Generator(np.random.Philox(key=key, counter=block << 128))
        start, stop = block * BLOCK, (block + 1) * BLOCK
        first, last = max(start, offset), min(stop, offset + count)
        drawn = generator.random(last - start, dtype=np.float32)
        numbers[first - offset : last - offset] = drawn[first - start :]
    return numbers


def num_below(probability: float) -> int:
    """How many of the 2^24 possible numbers are below a probability, which counts as fp32."""
    return math.ceil(float(np.float32(probability)) * NUM_NUMBERS)


def keyed_uniform(group: TensorGroup, expert: int, seed: int) -> torch.Tensor:
    """One number in [0, 1) per element of the tile, on the tile's device and of its shape."""
    tile = group.experts[expert]
    key = philox_key(seed, group.expert_names[expert], group.name)
    numbers = uniform_numbers(key, group.offset, tile.numel())
    return torch.from_numpy(numbers).to(tile.device).view(tile.shape)
