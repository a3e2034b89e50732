"""The shipped encoders and their features: what experts are trained on and tested with."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from omnicompose.encoders import make_encoder
from omnicompose.encoders.folder import read_encoder, write_encoder
from omnicompose.errors import MediaError
from omnicompose.zoo import train_encoders
from omnicompose.zoo.features import FeatureBank
from omnicompose.zoo.media import LIBRARY_PATH, MediaLibrary, held_out_media
from omnicompose.zoo.rendering import all_items
from omnicompose.zoo.still_lessons import add_norms, fold_norms
from omnicompose.zoo.train_encoders import DESCRIPTIONS, Schedule, train_encoder
from omnicompose.zoo.world import MODALITY_SLOTS, SLOTS, make_item

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


@pytest.fixture(scope="module", params=NUM_FEATURES)
def held_out(request, folders, tmp_path_factory) -> FeatureBank:
    modality, cache = request.param, tmp_path_factory.mktemp("cache")
    banks = [
        FeatureBank.make(modality, folders[modality], split="held-out", cache=cache)
        for _ in ("computed", "read")
    ]
    assert (banks[0].items, banks[0].clusters) == (banks[1].items, banks[1].clusters)
    assert torch.equal(banks[0].features, banks[1].features)
    return banks[1]


def test_every_held_out_item_has_features_of_the_right_shape(held_out) -> None:
    modality = held_out.items[0].modality
    assert held_out.features.shape[1:] == (NUM_FEATURES[modality], 64)
    assert held_out.features.dtype == torch.float32
    assert set(held_out.indices) == set(all_items(modality))


def test_a_linear_probe_reads_every_slot_from_the_mean_feature(held_out) -> None:
    """Fitted on some hands and voices, tested on others: no head ships, the knowledge does."""
    clusters = sorted(set(held_out.clusters))
    fitted = np.array([clusters.index(c) % 2 == 0 for c in held_out.clusters])
    mean = held_out.features.mean(dim=1).numpy()
    inputs = np.c_[(mean - mean.mean(0)) / (mean.std(0) + 1e-6), np.ones(len(mean))]
    ridge = inputs[fitted].T @ inputs[fitted] + np.eye(inputs.shape[1])
    for slot in MODALITY_SLOTS[held_out.items[0].modality]:
        truth = np.array([item[slot] for item in held_out.items])
        targets = np.eye(len(SLOTS[slot]))[truth[fitted]]
        weights = np.linalg.solve(ridge, inputs[fitted].T @ targets)
        accuracy = ((inputs[~fitted] @ weights).argmax(1) == truth[~fitted]).mean()
        assert accuracy > (0.85 if slot == "number" else 0.95), slot


def test_choice_shows_the_item_and_a_missing_one_is_an_error() -> None:
    items = (make_item("audio", number=1, level=0, pace=0),) * 2
    bank = FeatureBank(items=items, clusters=("", ""), features=torch.zeros(2, 5, 3))
    rng = np.random.default_rng(0)
    assert {bank.choose(items[0], rng) for _ in range(20)} == {0, 1}
    with pytest.raises(MediaError, match=r"shows no Item.*2 media of 1 different items.*larger"):
        bank.choose(make_item("audio", number=2, level=0, pace=0), rng)


def test_training_features_depend_on_the_seed_alone(folders) -> None:
    folder = folders["image"]
    one, two, other = (
        FeatureBank.make("image", folder, split="train", count=8, seed=seed) for seed in (1, 1, 2)
    )
    assert one.items == two.items
    assert torch.equal(one.features, two.features)
    assert not torch.equal(one.features, other.features)


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
