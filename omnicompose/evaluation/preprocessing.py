"""Preprocessed media, each once in this process: experts and their composite see the same."""

import re
from collections.abc import Sequence

import torch

from omnicompose.evaluation.embeddings import SizedCache
from omnicompose.evaluation.loaded import Inputs, Preprocessed, Processor
from omnicompose.evaluation.sample import Medium

PARTS = {"image": "image_processor", "audio": "feature_extractor", "video": "video_processor"}
NOT_READ = ("token_id", "stream", "text_stream")
"""What a modality's entry says that preprocessing does not depend on."""
PREPROCESSED: SizedCache[Preprocessed] = SizedCache()
"""Shared by all composites of this process."""


def preprocess(processor: Processor, media: Sequence[Medium]) -> list[Preprocessed]:
    """Media of one modality as a user's processor makes them, each once in this process."""
    modality = media[0].modality
    settings = _settings(processor, modality)
    names = {medium.sha256: f"{modality} {medium.sha256} {settings}" for medium in media}
    held = {digest: PREPROCESSED.get(name) for digest, name in names.items()}
    found = {digest: one for digest, one in held.items() if one is not None}
    absent = {medium.sha256: str(medium.path) for medium in media if medium.sha256 not in found}
    if absent:
        made = processor.prepare_media(modality, list(absent.values()), {})
        for digest, one in zip(absent, made, strict=True):
            PREPROCESSED.put(names[digest], one, _num_bytes(one.inputs))
            found[digest] = one
    return [found[medium.sha256] for medium in media]


def split_runs(text: str, placeholder: str) -> tuple[str, tuple[int, ...]]:
    """How a medium is written, with one placeholder for each run of them, and their lengths."""
    run = f"(?:{re.escape(placeholder)})+"
    lengths = tuple(len(found) // len(placeholder) for found in re.findall(run, text))
    return re.sub(run, lambda _: placeholder, text), lengths


def _settings(processor: Processor, modality: str) -> str:
    """All that decides what becomes of a medium; a part's representation is all it was set to."""
    part = getattr(processor, PARTS.get(modality, ""), None)
    entry = processor.modalities[modality]
    return repr((part, sorted((name, entry[name]) for name in entry if name not in NOT_READ)))


def _num_bytes(inputs: Inputs) -> int:
    tensors = [inputs] if isinstance(inputs, torch.Tensor) else list(inputs.values())
    return sum(tensor.nbytes for tensor in tensors)
