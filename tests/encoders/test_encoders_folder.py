"""An encoder written as a folder comes back as it was, and a broken folder says what is wrong."""

import json

import pytest
import torch

from omnicompose.encoders import make_encoder
from omnicompose.encoders.folder import read_encoder, read_encoder_description, write_encoder
from omnicompose.errors import SourceError

DESCRIPTION = {"type": "conv_video", "config": {"channels": [4, 8], "feature_size": 12}}


@pytest.fixture
def written(tmp_path):
    encoder = make_encoder(DESCRIPTION)
    write_encoder(tmp_path, DESCRIPTION, encoder, torch.float16)
    return tmp_path, encoder


def test_what_is_read_is_what_was_written_up_to_rounding(written) -> None:
    folder, encoder = written
    assert read_encoder_description(folder) == DESCRIPTION
    for name, tensor in read_encoder(folder).state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, encoder.state_dict()[name].half().float())


def test_a_folder_without_a_description_is_an_error(tmp_path) -> None:
    with pytest.raises(SourceError, match=r"config\.json: not an encoder's description"):
        read_encoder(tmp_path)


def test_weights_of_another_encoder_are_an_error(written) -> None:
    folder, _ = written
    content = {"encoder_type": "conv_video", "config": {"channels": [4], "feature_size": 12}}
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(SourceError, match=r"model\.safetensors: not the weights of the encoder"):
        read_encoder(folder)


def test_missing_weights_are_an_error(written) -> None:
    folder, _ = written
    (folder / "model.safetensors").unlink()
    with pytest.raises(SourceError, match=r"model\.safetensors: not the weights"):
        read_encoder(folder)
