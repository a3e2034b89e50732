"""Swapped and blank media, and options in other orders."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from evaluation_fakes import FakeAnswerer, FakeTask
from evaluation_media import put, put_clip, put_points
from PIL import Image

from omnicompose.errors import EvaluationError
from omnicompose.evaluation import write_report
from omnicompose.evaluation.answerer import Prompt
from omnicompose.evaluation.controls import derangement, prepare_media
from omnicompose.evaluation.derived import blank, opened
from omnicompose.evaluation.evaluate import ask
from omnicompose.evaluation.options import EvaluationOptions
from omnicompose.evaluation.results import Results
from omnicompose.evaluation.runner import Share
from omnicompose.evaluation.sample import LETTERS, Medium, Options, Sample, open_medium
from omnicompose.evaluation.subsets import coalition, parse_modalities, subsets_of, view
from omnicompose.zoo.media import decode


def run(out: Path, answerer: FakeAnswerer, task: FakeTask, **changes: object) -> Results:
    options = replace(EvaluationOptions(out_dir=out), **changes)  # type: ignore[arg-type]
    results = ask(answerer, [task], options, (Path("model"), Share()))
    assert results is not None
    return results


@pytest.mark.parametrize("seed", range(5))
def test_a_derangement_has_no_fixed_point(seed: int) -> None:
    rng = np.random.default_rng(seed)
    digests = [str(d) for d in rng.integers(0, 12, size=60)]
    sizes = [int(d) * 100 for d in digests]
    donors = derangement(digests, sizes, seed)
    assert sorted(donors) == list(range(60))
    assert all(digests[i] != digests[donor] for i, donor in enumerate(donors))
    assert donors == derangement(digests, sizes, seed)


def test_media_of_like_size_change_places() -> None:
    sizes = [10] * 50 + [10_000] * 50
    donors = derangement([str(i) for i in range(100)], sizes, seed=0)
    assert sum((i < 50) == (donor < 50) for i, donor in enumerate(donors)) == 98


def test_too_few_different_media_cannot_be_swapped() -> None:
    with pytest.raises(EvaluationError, match="one medium is shown 2 times in 3 questions"):
        derangement(["a", "a", "b"], [1, 1, 1], 0)
    assert derangement([], [], 0) == []


def test_labels_of_controls(tmp_path: Path) -> None:
    sample = FakeTask(num=1).samples(tmp_path, None)[0]
    assert [s.label for s in subsets_of(sample, parse_modalities("swapped,blank"))] == [
        "swapped:image",
        "swapped:audio",
        "swapped:image:alone",
        "swapped:audio:alone",
        "blank:image",
        "blank:audio",
    ]
    assert coalition("image+audio") == {"image", "audio"}
    assert coalition("none") == frozenset()
    assert coalition("captions") is coalition("swapped:image") is None


def test_swapped_media_are_another_questions(tmp_path: Path) -> None:
    samples = FakeTask(num=8).samples(tmp_path / "media", None)
    ready = prepare_media(samples, ("swapped",), tmp_path / "media", 0)
    seen: Counter[str] = Counter()
    for sample in ready:
        (subset, *_) = subsets_of(sample, ("swapped",))
        image, audio = (part for part in view(sample, subset) if isinstance(part, Medium))
        own_image, own_audio = sample.media
        assert image.sha256 != own_image.sha256
        assert audio == own_audio
        seen[image.sha256] += 1
    assert set(seen.values()) == {1}


def follows_audio(prompt: Prompt) -> str:
    """Knows what the sound says, whosever it is; the picture only when alone."""
    heard = [m.path.name for m in prompt.media if m.modality == "audio"]
    shown = heard or [m.path.name for m in prompt.media]
    return LETTERS[sum(map(ord, shown[0])) % 4] if shown else ""


def test_conflict_is_won_by_the_modality_that_is_listened_to(tmp_path: Path) -> None:
    found = run(
        tmp_path,
        FakeAnswerer(say=follows_audio),
        FakeTask(num=40),
        modalities=("all", "swapped"),
        scores=("generate",),
    ).tasks["fake/common"]
    assert {(c.modality, c.kind) for c in found.controls} == {
        ("image", "swapped"),
        ("audio", "swapped"),
    }
    image, audio = found.controls
    assert image.kept is not None
    assert audio.followed is not None
    assert (image.kept.value, audio.followed.value) == (1.0, 1.0)
    assert image.loss.difference.value == 0.0
    assert min(image.conflicts, audio.conflicts) > 10
    assert found.complementarity == ()


def test_blank_media_have_the_size_of_the_real_ones(tmp_path: Path) -> None:
    put(tmp_path / "a.png", "image")
    put(tmp_path / "a.flac", "audio")
    put(tmp_path / "a.mp4", "video")
    put_points(tmp_path / "a.npy")
    made = {
        modality: blank(open_medium(modality, tmp_path / name), tmp_path / "made").path
        for modality, name in (
            ("image", "a.png"),
            ("audio", "a.flac"),
            ("video", "a.mp4"),
            ("point", "a.npy"),
        )
    }
    with Image.open(tmp_path / "a.png") as real, Image.open(made["image"]) as grey:
        assert grey.size == real.size
        assert grey.convert("RGB").getextrema() == ((128, 128),) * 3
    silence, rate = soundfile.read(made["audio"])
    assert (silence.shape, rate) == (soundfile.read(tmp_path / "a.flac")[0].shape, 8000)
    assert not silence.any()
    frames = decode("video", made["video"].read_bytes())
    real_frames = decode("video", (tmp_path / "a.mp4").read_bytes())
    assert frames.shape == real_frames.shape
    assert np.ptp(frames) <= 2
    assert not np.load(made["point"]).any()
    assert np.load(made["point"]).shape == (8192, 6)


def test_blank_media_are_asked_with(tmp_path: Path) -> None:
    class Pictures(FakeTask):
        def _medium(self, media_dir: Path, modality: str, i: int) -> Medium:
            path = media_dir / f"{modality}{i}.png"
            put(path, "image", i)
            return open_medium("image", path)

    results = run(
        tmp_path,
        FakeAnswerer(say=follows_audio),
        Pictures(num=4, modalities=("image",)),
        modalities=("all", "blank"),
    ).tasks["fake/common"]
    assert {row.subset for row in results.rows} == {"image", "blank:image"}
    (control,) = results.controls
    assert (control.kind, control.conflicts, control.kept) == ("blank", 0, None)


def test_what_cannot_be_decoded_stays_itself(tmp_path: Path) -> None:
    broken = tmp_path / "a.mp4"
    broken.write_bytes(b"no clip")
    sound = opened(Medium(modality="audio", path=broken), tmp_path)
    assert sound.path == broken
    assert blank(sound, tmp_path).path == broken
    gone = opened(Medium(modality="audio", path=tmp_path / "b.mp4"), tmp_path)
    assert gone.sha256.startswith("missing:")
    assert blank(gone, tmp_path) == gone
    put(tmp_path / "silent.mp4", "video")
    silent = opened(Medium(modality="audio", path=tmp_path / "silent.mp4"), tmp_path)
    assert silent.path.name == "silent.mp4"


def test_the_sound_of_a_clip_is_made_once(tmp_path: Path) -> None:
    put_clip(tmp_path / "a.mp4")
    medium = Medium(modality="audio", path=tmp_path / "a.mp4")
    first = opened(medium, tmp_path / "made")
    stamp = first.path.stat().st_mtime_ns
    again = opened(medium, tmp_path / "made")
    assert (again, again.path.stat().st_mtime_ns) == (first, stamp)
    assert soundfile.info(first.path).frames > 1000


class Lettered(FakeTask):
    """Its options stand in the prompt, so that they can change places."""

    def samples(self, media_dir: Path, limit: int | None) -> list[Sample]:
        return [
            replace(s, content=(*s.content[:-1], f"what? {s.choices[s.answer]} wins\n", Options()))
            for s in super().samples(media_dir, limit)
        ]


def knows_words(prompt: Prompt) -> str:
    """Finds the line of the winning option, wherever it stands."""
    wins = prompt.text.split("what? ")[1].split(" wins")[0]
    lines = prompt.text.split(" wins\n")[1].splitlines()
    return next(line[0] for line in lines if line[3:].startswith(wins))


def test_rotated_options_are_the_same_question(tmp_path: Path) -> None:
    sample = Lettered(num=1).samples(tmp_path, None)[0]
    turned = sample.rotated(1)
    assert turned.choices == ("two", "three", "four", "one")
    assert turned.choices[turned.answer] == sample.choices[sample.answer]
    assert sample.rotated(4) == sample


def test_rotations_are_averaged_and_their_agreement_is_told(tmp_path: Path) -> None:
    knows = run(tmp_path / "a", FakeAnswerer(say=knows_words), Lettered(), rotations=4)
    (row,) = knows.tasks["fake/common"].rows
    assert (row.n, row.accuracy.value, row.consistency) == (12, 1.0, 1.0)
    page = write_report(tmp_path / "a").read_text(encoding="utf-8")
    assert "right in all of them: 100.0 %" in page
    always = FakeAnswerer(say=lambda prompt: "A")
    (row,) = run(tmp_path / "b", always, Lettered(), rotations=4).tasks["fake/common"].rows
    assert (row.n, row.accuracy.value, row.consistency) == (12, 0.25, 0.0)
    assert sum(always.forwarded) == 48
    (row,) = run(tmp_path / "c", always, FakeTask(), rotations=4).tasks["fake/common"].rows
    assert row.consistency is None
