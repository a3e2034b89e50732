"""The shipped encoders and their features, and how encoders are trained."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from omnicompose.encoders import make_encoder
from omnicompose.encoders.folder import read_encoder, write_encoder
from omnicompose.zoo import train_encoders
from omnicompose.zoo.media import LIBRARY_PATH, MediaLibrary, Medium, decode, held_out_media
from omnicompose.zoo.preprocessing import preprocess
from omnicompose.zoo.rendering import all_items
from omnicompose.zoo.still_lessons import add_norms, fold_norms
from omnicompose.zoo.train_encoders import DESCRIPTIONS, Schedule, train_encoder
from omnicompose.zoo.world import MODALITY_SLOTS, SLOTS

ASSETS = LIBRARY_PATH.parent.parent
NUM_FEATURES = {"image": 16, "audio": 50, "video": 6}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """The shipped encoders; that of images ships as the vision tower of zoo:llava."""
    image = tmp_path_factory.mktemp("encoder-image")
    tower = {
        f"tower.{name.partition('vision_tower.')[2].removeprefix('vision_model.')}": tensor
        for name, tensor in load_file(ASSETS / "llava" / "model.safetensors").items()
        if "vision_tower." in name
    }
    encoder = make_encoder(DESCRIPTIONS["image"])
    encoder.load_state_dict(tower)
    write_encoder(image, DESCRIPTIONS["image"], encoder, torch.float16)
    return {"image": image} | {name: ASSETS / f"encoder-{name}" for name in ("audio", "video")}


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Held-out media as a frozen encoder sees them; features `[n, M, E]`."""

    media: tuple[Medium, ...]
    features: torch.Tensor


@pytest.fixture(scope="module", params=NUM_FEATURES)
def held_out(request, folders) -> Encoded:
    modality = request.param
    encoder = read_encoder(folders[modality])
    media = tuple(m for m in held_out_media().media if m.item.modality == modality)
    raw = [decode(modality, medium.data) for medium in media]
    with torch.no_grad():
        parts = [encoder(preprocess(modality, raw[n : n + 64])) for n in range(0, len(raw), 64)]
    return Encoded(media=media, features=torch.cat(parts))


def test_every_held_out_item_has_features_of_the_right_shape(held_out) -> None:
    modality = held_out.media[0].item.modality
    assert held_out.features.shape[1:] == (NUM_FEATURES[modality], 64)
    assert held_out.features.dtype == torch.float32
    assert {medium.item for medium in held_out.media} == set(all_items(modality))


def test_a_linear_probe_reads_every_slot_from_the_mean_feature(held_out) -> None:
    """Fitted on some hands and voices, tested on others: no head ships, the knowledge does."""
    clusters = sorted({medium.cluster for medium in held_out.media})
    fitted = np.array([clusters.index(m.cluster) % 2 == 0 for m in held_out.media])
    mean = held_out.features.mean(dim=1).numpy()
    inputs = np.c_[(mean - mean.mean(0)) / (mean.std(0) + 1e-6), np.ones(len(mean))]
    ridge = inputs[fitted].T @ inputs[fitted] + np.eye(inputs.shape[1])
    for slot in MODALITY_SLOTS[held_out.media[0].item.modality]:
        truth = np.array([medium.item[slot] for medium in held_out.media])
        targets = np.eye(len(SLOTS[slot]))[truth[fitted]]
        weights = np.linalg.solve(ridge, inputs[fitted].T @ targets)
        accuracy = ((inputs[~fitted] @ weights).argmax(1) == truth[~fitted]).mean()
        assert accuracy > (0.85 if slot == "number" else 0.95), slot


def test_norms_fold_into_the_weights_without_changing_the_features() -> None:
    torch.manual_seed(0)
    encoder = make_encoder(DESCRIPTIONS["video"])
    add_norms(encoder.frames)
    clips = torch.randn(4, 6, 3, 32, 32)
    encoder.train()(clips)
    with torch.no_grad():
        expected = encoder.eval()(clips)
        fold_norms(encoder.frames)
        torch.testing.assert_close(encoder(clips), expected)


@pytest.mark.parametrize("modality", ["image", "video"])
def test_training_is_deterministic_and_writes_a_readable_folder(
    modality, tmp_path: Path, monkeypatch
) -> None:
    short = {stage: Schedule(num_steps=3, batch_size=4) for stage in train_encoders.SCHEDULES}
    monkeypatch.setattr(train_encoders, "SCHEDULES", short)
    monkeypatch.setattr(train_encoders, "POOL_SIZES", {modality: 8})
    shown = [m for m in held_out_media().media if m.item.modality == modality][:4]
    seen: list[tuple[str, int, int]] = []
    for name in ("one", "two"):
        accuracy = train_encoder(
            modality,
            tmp_path / name,
            library=MediaLibrary.of(shown),
            progress=lambda *news: seen.append(news),
        )
        assert set(accuracy) == set(MODALITY_SLOTS[modality])
    files = {"config.json", "model.safetensors", "preprocessor_config.json"}
    assert {path.name for path in (tmp_path / "one").iterdir()} == files
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert seen[-1] == (modality, 3, 3)
    read_encoder(tmp_path / "one")


def test_the_encoders_are_small(folders) -> None:
    for folder in folders.values():
        encoder = read_encoder(folder)
        assert sum(parameter.numel() for parameter in encoder.parameters()) <= 150_000
