"""The held-out media that ship: complete, readable by transformers' own loaders, findable."""

from collections import Counter

import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoVideoProcessor
from transformers.audio_utils import load_audio
from transformers.image_utils import load_image
from transformers.video_utils import load_video

from omnicompose.errors import MediaError
from omnicompose.zoo import media as media_module
from omnicompose.zoo.media import MediaLibrary, Medium, decode, encode, held_out_media
from omnicompose.zoo.preprocessing import preprocess, write_preprocessor
from omnicompose.zoo.rendering import HELD_OUT_REPEATS, all_items
from omnicompose.zoo.world import make_item

MODALITIES = ("image", "audio", "video")
RED_SEVEN = make_item("image", size=1, colour=0, number=7, level=1)


def first(modality: str, count: int) -> list[Medium]:
    return [m for m in held_out_media().media if m.item.modality == modality][:count]


@pytest.mark.parametrize("modality", MODALITIES)
def test_every_item_is_shown_equally_often(modality) -> None:
    library = held_out_media()
    assert set(library.items(modality)) == set(all_items(modality))
    counts = {len(library.by_item[item]) for item in all_items(modality)}
    assert counts == {HELD_OUT_REPEATS[modality]}


def test_clusters_are_of_about_equal_size() -> None:
    for modality in MODALITIES:
        shown = [m.cluster for m in held_out_media().media if m.item.modality == modality]
        sizes = Counter(shown).values()
        assert max(sizes) <= min(sizes) + 1


def test_names_are_unique_and_the_file_is_small() -> None:
    names = [medium.name for medium in held_out_media().media]
    assert len(set(names)) == len(names)
    assert media_module.LIBRARY_PATH.stat().st_size < 4_500_000


def test_choice_is_deterministic_and_shows_the_item() -> None:
    chosen = [held_out_media().choose(RED_SEVEN, np.random.default_rng(3)) for _ in range(2)]
    assert chosen[0] == chosen[1]
    assert chosen[0].item == RED_SEVEN


def test_an_item_that_nothing_shows_is_an_error() -> None:
    with pytest.raises(MediaError, match=r"shows no Item.*holds 0 different image items"):
        MediaLibrary.of([]).choose(RED_SEVEN, np.random.default_rng(0))


def test_a_file_that_is_no_library_is_an_error(tmp_path) -> None:
    path = tmp_path / "media.zip"
    path.write_bytes(b"not a zip")
    with pytest.raises(MediaError, match=r"media\.zip: not a packed media library.*Reinstall"):
        MediaLibrary.read(path)


def test_packing_the_same_media_gives_the_same_bytes_and_reads_back(tmp_path) -> None:
    library = MediaLibrary.of(first("image", 2) + first("audio", 2) + first("video", 2))
    for name in ("one.zip", "two.zip"):
        library.write(tmp_path / name)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    assert MediaLibrary.read(tmp_path / "one.zip") == library


@pytest.mark.parametrize("modality", MODALITIES)
def test_media_are_what_their_modality_says(modality) -> None:
    shapes = {decode(modality, medium.data).shape for medium in first(modality, 5)}
    if modality == "audio":
        assert all(1000 < length <= 8000 for (length,) in shapes)
    else:
        assert shapes == {{"image": (32, 32, 3), "video": (6, 32, 32, 3)}[modality]}


@pytest.mark.parametrize("modality", ["image", "audio"])
def test_pictures_and_sounds_survive_their_files_exactly(modality) -> None:
    for medium in first(modality, 3):
        raw = decode(modality, medium.data)
        assert np.array_equal(decode(modality, encode(modality, raw)), raw)


def test_clips_survive_their_files_nearly() -> None:
    clip = np.zeros((6, 32, 32, 3), np.uint8)
    clip[:, 8:24, 8:24, 0] = 255
    kept = decode("video", encode("video", clip))
    assert np.abs(kept.astype(int) - clip).mean() < 8


def test_pictures_show_the_colour_and_level_they_claim() -> None:
    for medium in first("image", 60):
        light = decode("image", medium.data).astype(float)
        rows = light.sum(axis=(1, 2))
        assert (rows[:16].sum() > rows[16:].sum()) == (medium.item.word("level") == "high")
        red, green, blue = light.sum(axis=(0, 1))
        is_yellow = min(red, green) > 1.5 * blue
        brightest = ("red", "green", "blue")[int(np.argmax([red, green, blue]))]
        assert ("yellow" if is_yellow else brightest) == medium.item.word("colour")


def test_the_shipped_files_through_transformers_loaders_give_the_same_tensors(tmp_path) -> None:
    """What a user's processor makes of a file is what the encoders were trained on."""
    for modality in MODALITIES:
        write_preprocessor(modality, tmp_path / modality)
    media = {modality: first(modality, 2) for modality in MODALITIES}
    paths = {m: [str(x.write(tmp_path)) for x in media[m]] for m in MODALITIES}
    image = AutoImageProcessor.from_pretrained(tmp_path / "image")
    audio = AutoFeatureExtractor.from_pretrained(tmp_path / "audio")
    video = AutoVideoProcessor.from_pretrained(tmp_path / "video")
    pictures = image([load_image(p) for p in paths["image"]], return_tensors="pt")
    waveforms = [load_audio(p, sampling_rate=16000) for p in paths["audio"]]
    sounds = audio(waveforms, sampling_rate=16000, return_tensors="pt")
    clips = video([load_video(p)[0] for p in paths["video"]], return_tensors="pt")
    loaded = (pictures.pixel_values, sounds.input_features, clips.pixel_values_videos)
    for modality, tensors in zip(MODALITIES, loaded, strict=True):
        raw = [decode(modality, medium.data) for medium in media[modality]]
        assert torch.equal(preprocess(modality, raw), tensors)
