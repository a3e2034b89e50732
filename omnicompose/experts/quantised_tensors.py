"""Tensors that are quantised though no configuration says so, told by their names and dtypes."""

from collections.abc import Iterable

import torch

from omnicompose.errors import SourceError
from omnicompose.experts.refusals import WHOLE_WEIGHTS
from omnicompose.tensors.source import TensorInfo

QUANTISED_NAMES = ("qweight", "qzeros", "weight_scale", "weight_packed", "weight.absmax")
"""Last parts of tensor names that GPTQ, AWQ, FP8, compressed-tensors and bitsandbytes write."""
QUANTISED_DTYPES = (torch.float8_e4m3fn, torch.float8_e5m2)


def refuse_quantised_tensors(label: str, infos: Iterable[TensorInfo]) -> None:
    """Refuse tensors that are quantised though no configuration says so.

    Raises:
        SourceError: there is one.
    """
    for info in infos:
        if info.name.endswith(QUANTISED_NAMES) or info.dtype in QUANTISED_DTYPES:
            dtype = str(info.dtype).removeprefix("torch.")
            raise SourceError(
                f"{label}: tensor {info.name!r} ({dtype}) is quantised. {WHOLE_WEIGHTS}."
            )
