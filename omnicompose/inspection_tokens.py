"""How many embeddings one medium of an expert becomes, asked of its own preprocessing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from omnicompose.errors import OmniComposeError
from omnicompose.experts.auto import UNREADABLE, load_auto
from omnicompose.experts.checkpoint import Checkpoint
from omnicompose.experts.native_module import media_ids
from omnicompose.modalities import MODALITIES
from omnicompose.modeling.prepared import count_tokens
from omnicompose.modeling.preprocessors import Preprocessor, Preprocessors
from omnicompose.modeling.voxtral_processing import taking_sounds

SOUND_S = 10
USUAL_RATE_HZ = 16000
NUM_POINTS = 8192
POINT_SIZE = 6
SHAPES: Mapping[str, tuple[int, ...]] = {"image": (448, 448, 3), "video": (8, 448, 448, 3)}
NAMES = {
    "image": "picture of 448 x 448",
    "video": "clip of 8 frames, 448 x 448",
    "audio": f"sound of {SOUND_S} s",
    "point": f"cloud of {NUM_POINTS} points",
}
"""Modality to the blank medium that is asked about."""
AUTO_CLASSES = {
    "image": "AutoImageProcessor",
    "video": "AutoVideoProcessor",
    "audio": "AutoFeatureExtractor",
}
ARGUMENTS = {"image": "images", "video": "videos", "audio": "audio"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """One modality of an expert, as a composite's configuration would describe it.

    Attributes:
        modality: its name.
        entry: `encoder`, `connector`, `num_prefix_tokens` and `num_suffix_tokens`.
        preprocessor: the folder of its configuration; None for point clouds.
    """

    modality: str
    entry: Mapping[str, object]
    preprocessor: Path | None


def tokens_of_checkpoint(checkpoint: Checkpoint) -> dict[str, int]:
    """Embeddings of a blank medium per modality; none where the folder has no whole processor."""
    if checkpoint.family.native is not None:
        return _quiet(lambda: _tokens_of_native(checkpoint))
    described = (
        Described(
            modality=modality,
            entry={
                "encoder": checkpoint.encoder(modality).describe(),
                "connector": checkpoint.connector(modality).describe(),
            },
            preprocessor=checkpoint.folder,
        )
        for modality in checkpoint.family.modalities
    )
    return {name: count for one in described for name, count in tokens_of(one).items()}


def tokens_of(described: Described) -> dict[str, int]:
    """Embeddings of a blank medium; none where its preprocessor cannot be read."""
    return _quiet(lambda: _tokens_of_modality(described))


def _quiet(count: Callable[[], dict[str, int]]) -> dict[str, int]:
    """An inspection tells what it can; composing needs the processor and says what is wrong."""
    try:
        return count()
    except (*UNREADABLE, OmniComposeError, RuntimeError):
        return {}


def _tokens_of_modality(described: Described) -> dict[str, int]:
    modality = described.modality
    if described.preprocessor is None:
        encoder = cast(Mapping[str, Mapping[str, int]], described.entry["encoder"])
        shape: tuple[int, ...] = (NUM_POINTS, encoder["config"].get("point_size", POINT_SIZE))
    else:
        place = described.preprocessor
        part = load_auto(AUTO_CLASSES[modality], str(place), place, trust_remote_code=False)
        parts = dict.fromkeys(AUTO_CLASSES) | {modality: cast(Preprocessor, part)}
        made = Preprocessors(**parts).tensors(modality, [_blank(modality, part)], {})
        shape = tuple(made[0].shape)
    return {f"{modality}: {NAMES[modality]}": count_tokens(modality, described.entry, shape)}


def _tokens_of_native(checkpoint: Checkpoint) -> dict[str, int]:
    folder, native = checkpoint.folder, checkpoint.family.native
    assert native is not None
    loaded = load_auto("AutoProcessor", str(folder), folder, trust_remote_code=False)
    processor = taking_sounds(loaded)
    found = {}
    for modality, media in native.media.items():
        if modality in MODALITIES:
            ids = media_ids(native, modality, checkpoint.config)
            inputs = _ask(processor, modality, str(getattr(processor, media.token)))
            number = sum(token_id in ids for token_id in inputs["input_ids"][0].tolist())
            found[f"{modality}: {NAMES[modality]}"] = number
    return found


def _ask(processor: object, modality: str, token: str) -> Mapping[str, np.ndarray]:
    extractor = getattr(processor, "feature_extractor", None)
    options = {"videos_kwargs": {"do_sample_frames": False}} if modality == "video" else {}
    medium = {ARGUMENTS[modality]: [_blank(modality, extractor)]}
    asked: Mapping[str, np.ndarray] = processor(  # type: ignore[operator]  # all are called so
        text=[token], return_tensors="pt", **medium, **options
    )
    return asked


def _blank(modality: str, part: object) -> np.ndarray:
    if modality == "audio":
        rate = int(getattr(part, "sampling_rate", USUAL_RATE_HZ))
        return np.zeros(SOUND_S * rate, np.float32)
    return np.zeros(SHAPES[modality], np.uint8)
