"""Train the zoo's encoders: name every attribute of a medium, then keep what the answer came from.

They stand in for CLIP, Whisper and the like: trained once on their own modality, frozen after. The
heads read the mean of all features, so that every feature carries something; then they are
dropped.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from omnicompose.encoders import make_encoder
from omnicompose.encoders.conv_video import ConvVideo
from omnicompose.encoders.folder import read_encoder, write_encoder
from omnicompose.zoo.draw import SIDE
from omnicompose.zoo.media import MediaLibrary, decode
from omnicompose.zoo.preprocessing import (
    NUM_MEL_BINS,
    Batch,
    labels_of,
    preprocess,
    write_preprocessor,
)
from omnicompose.zoo.recognition import BatchOf, Heads, Recogniser, Schedule, train_recogniser
from omnicompose.zoo.rendering import balanced_items, render_training
from omnicompose.zoo.still_lessons import NUM_PLACES, add_norms, fold_norms, still_batch
from omnicompose.zoo.world import MODALITY_SLOTS, SLOTS

Progress = Callable[[str, int, int], None]
"""Told what is being done, how many steps of it are done, and how many there are."""

WEIGHTS_DTYPE = torch.float16

DESCRIPTIONS: dict[str, dict[str, object]] = {
    "image": {
        "type": "clip_vision",
        "config": {
            "vision_config": {
                "hidden_size": 64,
                "intermediate_size": 160,
                "num_hidden_layers": 3,
                "num_attention_heads": 4,
                "image_size": SIDE,
                "patch_size": 8,
                "hidden_act": "gelu",
                "projection_dim": 64,
            },
            "feature_layer": -1,
            "select": "default",
        },
    },
    "audio": {
        "type": "whisper",
        "config": {
            "audio_config": {
                "d_model": 64,
                "encoder_layers": 2,
                "encoder_attention_heads": 4,
                "encoder_ffn_dim": 128,
                "num_mel_bins": NUM_MEL_BINS,
                "max_source_positions": 50,
            },
        },
    },
    "video": {
        "type": "conv_video",
        "config": {"channels": [16, 32, 32, 64], "feature_size": 64, "temporal_kernel": 5},
    },
}
"""The encoder of each modality, as `omnicompose.encoders.make_encoder` takes it."""


SCHEDULES = {
    "image": Schedule(num_steps=2400, batch_size=96, learning_rate=3e-3),
    "audio": Schedule(num_steps=1000),
    "still": Schedule(num_steps=1500, batch_size=128, learning_rate=3e-3),
    "motion": Schedule(num_steps=1500, batch_size=128, learning_rate=1e-2),
    "video": Schedule(num_steps=300, learning_rate=1e-3),
}
"""Stages by name; `still` and `motion` come before `video`."""
POOL_SIZES = {"image": 16000, "audio": 6000, "video": 3840}
"""Media rendered and preprocessed once, then used again and again with other noise."""
POOL_NOISE = 0.05
"""Standard deviation of the noise added to preprocessed media, which span about -1 to 1."""


def train_encoder(
    modality: str,
    folder: Path,
    *,
    seed: int = 0,
    library: MediaLibrary,
    progress: Progress = lambda _stage, _done, _total: None,
) -> dict[str, float]:
    """Train the encoder of `modality` on one thread and write it to `folder` (weights in fp16).

    Args:
        modality: image, audio or video.
        folder: gets config.json, model.safetensors and preprocessor_config.json.
        seed: of the weights and of the training media; the same seed gives the same files.
        library: held-out media to measure the written encoder on.
        progress: told after every step.

    Returns:
        Accuracy per slot on the held-out media of the modality, of the encoder as written.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    description = DESCRIPTIONS[modality]
    encoder = make_encoder(description)
    assert isinstance(encoder, nn.Module)
    slot_sizes = {slot: len(SLOTS[slot]) for slot in MODALITY_SLOTS[modality]}
    heads = Heads(slot_sizes, encoder.feature_size)
    rng = np.random.default_rng([seed, list(MODALITY_SLOTS).index(modality)])
    pool = _make_pool(rng, modality)
    if isinstance(encoder, ConvVideo):
        _train_frames_then_motion(encoder, heads, pool, seed, progress)
    recogniser = Recogniser(encoder, heads)
    _train(recogniser, _pooled(pool, modality), modality, seed, progress)
    if isinstance(encoder, ConvVideo):
        fold_norms(encoder.frames)
    write_encoder(folder, description, encoder, WEIGHTS_DTYPE)
    write_preprocessor(modality, folder)
    return measure(read_encoder(folder), heads.eval(), modality, library)


@torch.no_grad()
def measure(
    encoder: nn.Module, heads: Heads, modality: str, library: MediaLibrary
) -> dict[str, float]:
    """Accuracy per slot on all media of `modality` in the library, through their files."""
    media = [medium for medium in library.media if medium.item.modality == modality]
    right: dict[str, list[bool]] = {slot: [] for slot in heads.slots}
    for start in range(0, len(media), 128):
        part = media[start : start + 128]
        raw = [decode(modality, medium.data) for medium in part]
        labels = labels_of([medium.item for medium in part])
        for slot, logits in heads(encoder(preprocess(modality, raw))).items():
            right[slot] += (logits.argmax(dim=-1) == labels[slot]).tolist()
    return {slot: float(np.mean(hits)) for slot, hits in right.items()}


def _train(
    recogniser: Recogniser, batch_of: BatchOf, stage: str, seed: int, progress: Progress
) -> None:
    """Run one stage."""
    train_recogniser(
        recogniser,
        batch_of,
        SCHEDULES[stage],
        (seed, list(SCHEDULES).index(stage)),
        lambda done, total: progress(stage, done, total),
    )


def _make_pool(rng: np.random.Generator, modality: str) -> Batch:
    """Media to train on again and again: to draw, speak or film takes longer than to learn."""
    items = list(balanced_items(rng, modality, POOL_SIZES[modality]))
    parts = [items[start : start + 64] for start in range(0, len(items), 64)]
    media = [
        preprocess(modality, [render_training(rng, item) for item in part]).half() for part in parts
    ]
    return labels_of(items), torch.cat(media)


def _pooled(pool: Batch, stage: str) -> BatchOf:
    """Random batches of a pool, each time with other noise."""
    labels, media = pool

    def batch_of(rng: np.random.Generator, _step: int) -> Batch:
        chosen = torch.from_numpy(rng.integers(len(media), size=SCHEDULES[stage].batch_size))
        batch = media[chosen].float()
        shown = {slot: of_slot[chosen] for slot, of_slot in labels.items()}
        return shown, batch + _noise_like(batch, rng)

    return batch_of


def _noise_like(media: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    return torch.from_numpy(rng.standard_normal(media.shape, dtype=np.float32)) * POOL_NOISE


class _Frames(nn.Module):
    """The part of a video encoder that looks at single frames."""

    def __init__(self, encoder: ConvVideo) -> None:
        super().__init__()
        self.parts = nn.ModuleList([encoder.frames, encoder.place, encoder.content])
        self._look = encoder.frame_features

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self._look(frames).unsqueeze(1)


class _Motion(nn.Module):
    """The part of a video encoder that looks from frame to frame."""

    def __init__(self, encoder: ConvVideo) -> None:
        super().__init__()
        self.motion, self._add = encoder.motion, encoder.add_motion

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self._add(frames)


def _train_frames_then_motion(
    encoder: ConvVideo, heads: Heads, clips: Batch, seed: int, progress: Progress
) -> None:
    """First what a frame shows and where, then, with frames frozen, how it moves.

    Whole clips from the start teach neither in any reasonable time.
    """
    add_norms(encoder.frames)
    sizes = {slot: len(SLOTS[slot]) for slot in ("number", "size", "colour")}
    still_heads = Heads(sizes | {"row": NUM_PLACES, "column": NUM_PLACES}, encoder.feature_size)
    stills = SCHEDULES["still"]

    def still_of(rng: np.random.Generator, step: int) -> Batch:
        return still_batch(rng, step / stills.num_steps, stills.batch_size)

    _train(Recogniser(_Frames(encoder), still_heads), still_of, "still", seed, progress)
    pool = _frame_features(encoder, clips)
    recogniser = Recogniser(_Motion(encoder), heads)
    _train(recogniser, _pooled(pool, "motion"), "motion", seed, progress)


@torch.no_grad()
def _frame_features(encoder: ConvVideo, clips: Batch) -> Batch:
    labels, media = clips
    encoder.eval()
    parts = [
        encoder.frame_features(part.float().flatten(0, 1)).view(*part.shape[:2], -1)
        for part in torch.split(media, 64)
    ]
    encoder.train()
    return labels, torch.cat(parts)
