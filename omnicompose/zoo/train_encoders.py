"""Train the zoo's encoders: name every attribute of a medium, then keep what the answer came from.

They stand in for CLIP, Whisper and the like: trained once on their own modality, frozen after. The
heads read the mean of all features, so that every feature carries something; then they are
dropped.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

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
from omnicompose.zoo.rendering import balanced_items, render_training
from omnicompose.zoo.still_lessons import NUM_PLACES, add_norms, fold_norms, still_batches
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and how fast one stage learns.

    Attributes:
        num_steps: optimizer steps.
        batch_size: media per step.
        learning_rate: its peak, after a short warm-up; it falls to 0 along a cosine.
    """

    num_steps: int
    batch_size: int = 64
    learning_rate: float = 2e-3


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


class Heads(nn.Module):
    """From the mean feature to the words of every slot."""

    def __init__(self, slot_sizes: Mapping[str, int], feature_size: int) -> None:
        """One linear map per slot, to as many logits as it has words."""
        super().__init__()
        self.slots = nn.ModuleDict(
            {slot: nn.Linear(feature_size, size) for slot, size in slot_sizes.items()}
        )

    def forward(self, features: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits `[N, words]` per slot from features `[N, M, E]`."""
        mean = features.mean(dim=1)
        return {slot: head(mean) for slot, head in self.slots.items()}


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
        _train_frames_then_motion(encoder, heads, pool, rng, progress)
    _train(encoder, heads, _pooled_batches(rng, pool, modality), modality, progress)
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
    features_of: nn.Module | Callable[[torch.Tensor], torch.Tensor],
    heads: Heads,
    batches: Iterator[Batch],
    stage: str,
    progress: Progress,
    parameters: Sequence[nn.Parameter] | None = None,
) -> None:
    """Minimise the heads' cross-entropy summed over slots, for the stage's schedule."""
    schedule = SCHEDULES[stage]
    if parameters is None:
        assert isinstance(features_of, nn.Module)
        parameters = [p for p in features_of.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW([*parameters, *heads.parameters()], lr=schedule.learning_rate)
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, schedule.learning_rate, total_steps=schedule.num_steps, pct_start=0.1
    )
    for step in range(schedule.num_steps):
        labels, media = next(batches)
        logits = heads(features_of(media))
        losses = [F.cross_entropy(logits[slot], labels[slot]) for slot in logits]
        loss = torch.stack(losses).sum()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        rate.step()
        progress(stage, step + 1, schedule.num_steps)


def _make_pool(rng: np.random.Generator, modality: str) -> Batch:
    """Media to train on again and again: to draw, speak or film takes longer than to learn."""
    items = list(balanced_items(rng, modality, POOL_SIZES[modality]))
    parts = [items[start : start + 64] for start in range(0, len(items), 64)]
    media = [
        preprocess(modality, [render_training(rng, item) for item in part]).half() for part in parts
    ]
    return labels_of(items), torch.cat(media)


def _pooled_batches(rng: np.random.Generator, pool: Batch, stage: str) -> Iterator[Batch]:
    """Random batches of a pool, each time with other noise."""
    labels, media = pool
    while True:
        chosen = torch.from_numpy(rng.integers(len(media), size=SCHEDULES[stage].batch_size))
        batch = media[chosen].float()
        shown = {slot: of_slot[chosen] for slot, of_slot in labels.items()}
        yield shown, batch + _noise_like(batch, rng)


def _noise_like(media: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    return torch.from_numpy(rng.standard_normal(media.shape, dtype=np.float32)) * POOL_NOISE


def _train_frames_then_motion(
    encoder: ConvVideo, heads: Heads, clips: Batch, rng: np.random.Generator, progress: Progress
) -> None:
    """First what a frame shows and where, then, with frames frozen, how it moves.

    Whole clips from the start teach neither in any reasonable time.
    """
    add_norms(encoder.frames)
    sizes = {slot: len(SLOTS[slot]) for slot in ("number", "size", "colour")}
    still_heads = Heads(sizes | {"row": NUM_PLACES, "column": NUM_PLACES}, encoder.feature_size)
    frame_parts: list[nn.Module] = [encoder.frames, encoder.place, encoder.content]
    parameters = [parameter for part in frame_parts for parameter in part.parameters()]

    def features_of(frames: torch.Tensor) -> torch.Tensor:
        return encoder.frame_features(frames).unsqueeze(1)

    _train(
        features_of,
        still_heads,
        still_batches(rng, SCHEDULES["still"].num_steps, SCHEDULES["still"].batch_size),
        "still",
        progress,
        parameters,
    )
    pool = _frame_features(encoder, clips)
    motion = [*encoder.motion.parameters()]
    batches = _pooled_batches(rng, pool, "motion")
    _train(encoder.add_motion, heads, batches, "motion", progress, motion)


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
