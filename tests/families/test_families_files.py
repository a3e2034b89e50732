"""Media as files in a chat, through families' own processors: pictures, timed clips, sounds."""

from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from families_all import Shelf, load_composite, medium
from PIL import Image

from omnicompose.errors import MediaError, ModelInputError

pytestmark = pytest.mark.filterwarnings("ignore")


def write_clip(path: Path, num_frames: int = 12) -> Path:
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for number in range(num_frames):
            shade = np.full((32, 32, 3), 20 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shade, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def chat(modality: str, path: Path) -> list[dict[str, object]]:
    words = {"type": "text", "text": "what is this?"}
    return [{"role": "user", "content": [{"type": modality, "path": str(path)}, words]}]


OPTIONS = {"tokenize": True, "return_dict": True, "return_tensors": "pt"}


@pytest.mark.parametrize("name", ["VideoLlama3", "Qwen2_5_VL", "LlavaNextVideo", "SmolVLM"])
def test_a_clip_from_a_file(shelf: Shelf, tmp_path: Path, name: str) -> None:
    model, processor = load_composite(shelf.compose(tmp_path / "out", {"video": name}))
    clip = write_clip(tmp_path / "clip.mp4")
    inputs = processor.apply_chat_template(chat("video", clip), **OPTIONS)
    assert int((inputs["mm_token_type_ids"] == 2).sum()) > 0
    said = model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert said.shape[1] > inputs["input_ids"].shape[1]
    if name == "VideoLlama3":  # It writes the time of each frame between frames.
        text = processor.tokenizer.decode(inputs["input_ids"][0])
        assert "Time 0.0s:" in text
        assert "Time 1.0s:" in text or "Time 2.0s:" in text
    if name == "SmolVLM":  # It takes one frame a second, though its video processor takes all.
        text = processor.tokenizer.decode(inputs["input_ids"][0])
        assert "series of three frames from a 0:00:03" in text


def test_a_picture_and_a_sound_from_files(shelf: Shelf, tmp_path: Path) -> None:
    pair = {"image": "InternVL", "audio": "Qwen2Audio"}
    model, processor = load_composite(shelf.compose(tmp_path / "out", pair))
    Image.fromarray(medium("image")).save(tmp_path / "a.png")
    soundfile.write(tmp_path / "a.wav", medium("audio"), 16000)
    content = [
        {"type": "image", "path": str(tmp_path / "a.png")},
        {"type": "audio", "path": str(tmp_path / "a.wav")},
        {"type": "text", "text": "what is this?"},
    ]
    inputs = processor.apply_chat_template([{"role": "user", "content": content}], **OPTIONS)
    given = processor(
        text="<|user|><image><audio>what is this?",
        images=[medium("image")],
        audio=[medium("audio")],
        return_tensors="pt",
    )
    assert inputs["input_ids"].tolist() == given["input_ids"].tolist()
    assert model(**inputs).logits.isfinite().all()


def test_what_a_family_does_not_take_is_said(shelf: Shelf, tmp_path: Path) -> None:
    _, processor = load_composite(shelf.compose(tmp_path / "out", {"audio": "Qwen2Audio"}))
    with pytest.raises(ModelInputError, match="found 8000 samples a second, expected 16000"):
        processor(text="<audio>", audio=[medium("audio")], sampling_rate=8000)
    (tmp_path / "a.wav").write_bytes(b"no sound")
    with pytest.raises(MediaError, match=r"a\.wav"):
        processor(text="<audio>", audio=[tmp_path / "a.wav"])
    with pytest.raises(ModelInputError, match="counts embeddings while it preprocesses"):
        processor.count_tokens("audio", (8, 100))
    counted = processor._get_num_multimodal_tokens(audio_lengths=[16000])
    assert counted.num_audio_tokens[0] > 0
