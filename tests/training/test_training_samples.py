"""What a model is given: padded tokens, media in order, and features instead of media."""

from pathlib import Path

import pytest
import torch
from training_tiny import new_expert, stage, write_lessons

from omnicompose.errors import TrainingError
from omnicompose.training.host import load_host
from omnicompose.training.new_expert import build_new_expert
from omnicompose.training.preparing import UNSEEN, Preparer
from omnicompose.training.records import read_records
from omnicompose.training.samples import Samples, collate
from omnicompose.training.subject import Subject
from omnicompose.training.templates import ChatRenderer

GIGABYTE = 10**9


def samples_of(subject: Subject, file: Path, memory: int = GIGABYTE, length: int = 512) -> Samples:
    renderer = ChatRenderer(tokenizer=subject.tokenizer, template=str(subject.chat_template))
    preparer = Preparer(subject=subject, renderer=renderer, max_length=length)
    return Samples(preparer, read_records([file], subject.modalities), memory)


def subject_of(kind: str, folder: Path, file: Path) -> Subject:
    config = new_expert(folder, "image" if kind == "llava" else kind, [stage("connector", file)])
    if kind == "llava":
        return load_host(config.model_copy(update={"base": config.encoder.source}))
    return build_new_expert(config)


@pytest.mark.parametrize("kind", ["llava", "image", "audio"])
def test_features_give_the_loss_that_media_give(tmp_path: Path, kind: str) -> None:
    file = write_lessons(tmp_path, "image" if kind == "llava" else kind, 6)
    subject = subject_of(kind, tmp_path, file)
    samples = samples_of(subject, file)

    @torch.no_grad()
    def loss() -> float:
        batch = collate([samples[i] for i in range(6)], pad_token_id=0)
        return float(subject.model.eval()(**batch).loss)

    before = loss()
    assert samples.encode_media(GIGABYTE)
    for frontend in subject.frontends.values():
        frontend.stand_in()
    assert loss() == pytest.approx(before, abs=1e-5)
    for frontend in subject.frontends.values():
        frontend.put_back()
    assert not any("forward" in module.__dict__ for module in subject.model.modules())


def test_what_does_not_fit_is_preprocessed_again(tmp_path: Path) -> None:
    file = write_lessons(tmp_path, "image", 5)
    subject = subject_of("image", tmp_path, file)
    kept, fresh = samples_of(subject, file), samples_of(subject, file, memory=1)
    assert not fresh.encode_media(1)
    for place in range(5):
        assert kept[place].keys() == fresh[place].keys()
        assert all(torch.equal(kept[place][name], fresh[place][name]) for name in kept[place])


def test_batches_are_padded_on_the_right() -> None:
    one = {"input_ids": torch.tensor([1, 2, 3]), "labels": torch.tensor([UNSEEN, 2, 3])}
    two = {"input_ids": torch.tensor([4]), "labels": torch.tensor([4]), "points": [torch.ones(2)]}
    batch = collate([one, two], pad_token_id=9)
    assert batch["input_ids"].tolist() == [[1, 2, 3], [4, 9, 9]]
    assert batch["labels"].tolist() == [[UNSEEN, 2, 3], [4, UNSEEN, UNSEEN]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert [points.tolist() for points in batch["points"]] == [[1, 1]]


def test_media_of_one_shape_are_one_tensor() -> None:
    row = {"input_ids": torch.tensor([1]), "pixel_values": torch.zeros(1, 3, 2, 2)}
    assert collate([row, row], pad_token_id=0)["pixel_values"].shape == (2, 3, 2, 2)


def test_records_that_are_too_long_are_all_told(tmp_path: Path) -> None:
    file = write_lessons(tmp_path, None, 3)
    subject = subject_of("image", tmp_path, file)
    with pytest.raises(TrainingError) as caught:
        samples_of(subject, file, length=10)
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert f"{file}:1: messages: found" in lines[0] and "Shorten the chat" in lines[0]


def test_features_can_be_asked_for_while_the_encoder_is_left_out(tmp_path: Path) -> None:
    file = write_lessons(tmp_path, "image", 3)
    subject = subject_of("image", tmp_path, file)
    frontend = subject.frontends["pixel_values"]
    pictures = torch.randn(2, 3, 32, 32)
    before = frontend.features(pictures)
    frontend.stand_in()
    assert torch.equal(frontend.features(pictures), before)
