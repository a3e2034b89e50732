"""Taking modalities away."""

from pathlib import Path

import pytest

from omnicompose.errors import EvaluationError
from omnicompose.evaluation.sample import Medium, Sample, Shown
from omnicompose.evaluation.subsets import Subset, parse_modalities, subsets_of, view


def medium(modality: str) -> Medium:
    return Medium(modality=modality, path=Path(f"{modality}.bin"), sha256=modality)


def sample(*modalities: str, captions: bool = True) -> Sample:
    shown = [Shown(medium=medium(m), caption=f"{m}!" if captions else None) for m in modalities]
    return Sample(id="1", cluster="1", content=(*shown, "why?"), choices=("x", "y"), answer=1)


def test_labels_name_modalities_in_one_order() -> None:
    assert parse_modalities("all, video+image,none") == ("all", "image+video", "none")
    assert sample("video", "audio").modalities == ("audio", "video")


def test_subsets_are_all_of_them_from_the_largest() -> None:
    labels = [s.label for s in subsets_of(sample("image", "audio"), ["subsets", "all", "none"])]
    assert labels == ["image+audio", "image", "audio", "none"]


def test_a_subset_with_a_modality_that_is_not_there_is_not_asked() -> None:
    assert subsets_of(sample("image"), ["image+audio"]) == []
    assert subsets_of(sample("image", captions=False), ["captions"]) == []
    assert subsets_of(sample("image"), ["captions"]) == [Subset(captions=True)]


def test_absent_means_no_trace_and_captions_replace_everything() -> None:
    both = sample("image", "audio")
    assert view(both, Subset(modalities=("audio",))) == (medium("audio"), "why?")
    assert view(both, Subset()) == ("why?",)
    assert view(both, Subset(captions=True)) == ("image!audio!why?",)


@pytest.mark.parametrize("text", ["imge", "image+image", "image+all", "smell"])
def test_unknown_words_are_refused(text: str) -> None:
    with pytest.raises(EvaluationError, match="is not a set of modalities"):
        parse_modalities(text)


def test_near_names_are_offered() -> None:
    with pytest.raises(EvaluationError, match="Did you mean 'image'"):
        parse_modalities("imge")


def test_nothing_named() -> None:
    with pytest.raises(EvaluationError, match="nothing is named"):
        parse_modalities(" , ")
