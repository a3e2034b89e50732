"""How many embeddings one medium of a checkpoint becomes, asked of its own processor."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from omnicompose.experts.native_module import media_ids
from omnicompose.families import Family

BLANKS: dict[str, tuple[str, str, tuple[int, ...]]] = {
    "image": ("picture of 448 x 448", "images", (448, 448, 3)),
    "video": ("clip of 8 frames, 448 x 448", "videos", (8, 448, 448, 3)),
    "audio": ("sound of 10 s", "audio", (160_000,)),
}
"""Modality to what is asked about: its name, the processor's argument and its shape."""


def tokens_per_item(folder: Path, family: Family, config: Mapping[str, object]) -> dict[str, int]:
    """Embeddings of a blank medium per modality; empty where the folder has no whole processor.

    Args:
        folder: of the checkpoint.
        family: its map; only families that run as they are can be asked.
        config: its configuration, defaults filled in.
    """
    native = family.native
    if native is None:
        return {}
    from transformers import AutoProcessor

    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        return {
            f"{modality}: {BLANKS[modality][0]}": _count(
                processor, modality, one.token, media_ids(native, modality, config)
            )
            for modality, one in native.media.items()
            if modality in BLANKS
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RuntimeError):
        return {}  # An inspection tells what it can; composing needs the processor and says so.


def _count(processor: object, modality: str, token_name: str, ids: tuple[int, ...]) -> int:
    _, argument, shape = BLANKS[modality]
    dtype = np.float32 if modality == "audio" else np.uint8
    token = str(getattr(processor, token_name))
    options = {"videos_kwargs": {"do_sample_frames": False}} if modality == "video" else {}
    inputs = processor(  # type: ignore[operator]  # every processor is called so
        text=[token], return_tensors="pt", **{argument: [np.zeros(shape, dtype)]}, **options
    )
    return sum(token_id in ids for token_id in inputs["input_ids"][0].tolist())
