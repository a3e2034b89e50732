"""What cannot be opened, refused by name before anything heavy happens."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from omnicompose.errors import SourceError
from omnicompose.families import FAMILIES, ORIGINALS, REFUSED, Family
from omnicompose.tensors.source import TensorInfo

QUANTISED_NAMES = ("qweight", "qzeros", "weight_scale", "weight_packed", "weight.absmax")
"""Last parts of tensor names that GPTQ, AWQ, FP8, compressed-tensors and bitsandbytes write."""
QUANTISED_DTYPES = (torch.float8_e4m3fn, torch.float8_e5m2)
WHOLE_WEIGHTS = (
    "Merging needs weights in float32, bfloat16 or float16: take the checkpoint that it was "
    "quantised from, or load it with transformers, call dequantize() and save it"
)


def family_of(label: str, config: Mapping[str, object]) -> Family:
    """The name map of a configuration's architecture.

    Raises:
        SourceError: it names none, or one that we do not know or cannot compose.
    """
    architectures = config.get("architectures")
    name = architectures[0] if isinstance(architectures, list) and architectures else None
    if name in FAMILIES:
        return FAMILIES[str(name)]
    if name in REFUSED:
        raise SourceError(
            f"{label}: {name} cannot be composed: {REFUSED[str(name)]}. Take another expert; "
            "`omnicompose families` lists those that compose."
        )
    if name in ORIGINALS or "auto_map" in config:
        instead = ORIGINALS.get(str(name), "a class of transformers")
        raise SourceError(
            f"{label}: {name} comes with code of its own, which is never run. Take the "
            f"checkpoint's conversion to {instead} (on the hub often named with -hf)."
        )
    raise SourceError(
        f"{label}: architecture {name!r} is not one that can be composed yet. "
        "`omnicompose families` lists those that are. A new family is one entry in "
        "omnicompose/families/entries.py and a fixture in tests/families."
    )


def refuse_quantised(label: str, config: Mapping[str, object]) -> None:
    """Refuse a configuration that says its weights are quantised.

    Raises:
        SourceError: it does.
    """
    found = config.get("quantization_config")
    if isinstance(found, Mapping):
        method = found.get("quant_method") or "an unnamed method"
        raise SourceError(f"{label}: its weights are quantised ({method}). {WHOLE_WEIGHTS}.")


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


def refuse_gguf(label: str, folder: Path) -> None:
    """Refuse a folder whose only weights are GGUF.

    Raises:
        SourceError: it is one.
    """
    files = sorted(path.name for path in folder.glob("*.gguf"))
    if files and not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
        raise SourceError(f"{label}: {files[0]} holds quantised weights (GGUF). {WHOLE_WEIGHTS}.")
