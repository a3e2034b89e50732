"""Voxtral's sounds: written as mistral-common writes them, with Mistral's own tokenizer file."""

import base64
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as hf
from families_all import AS_EXPERT, Shelf, load_composite, medium
from families_tiny import make_tokenizer, shared_tokenizer, whisper
from tokenizers import Tokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from omnicompose.composer import ComposeOptions, compose
from omnicompose.errors import SourceError
from omnicompose.experts.tokens import read_tekken, read_tokens
from omnicompose.modeling.voxtral_processing import taking_sounds

pytestmark = pytest.mark.filterwarnings("ignore")

SECOND = 16000
SPECIAL = ("<unk>", "<s>", "</s>", "[AUDIO]", "[BEGIN_AUDIO]")
LISTED = ("<unk>", "<s>", "</s>", "<SPECIAL_3>", "<SPECIAL_4>")
"""The base has places for the two, as Mistral's bases do."""


def write_tekken(folder: Path, special: tuple[str, ...] = SPECIAL) -> Path:
    """Mistral's tokenizer file with single bytes for words."""
    pieces = [bytes([number]) for number in range(256)]
    content = {
        "config": {
            "pattern": r"\p{L}+|\p{N}|[^\p{L}\p{N}]",
            "default_vocab_size": len(special) + len(pieces),
            "default_num_special_tokens": len(special),
            "version": "v7",
        },
        "vocab": [
            {"rank": rank, "token_bytes": base64.b64encode(piece).decode(), "token_str": None}
            for rank, piece in enumerate(pieces)
        ],
        "special_tokens": [
            {"rank": rank, "token_str": token, "is_control": True}
            for rank, token in enumerate(special)
        ],
    }
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "tekken.json").write_text(json.dumps(content))
    return folder


# Lengths and counts as mistral-common 1.13.1 was seen to write them; tokens and features of the
# two were bit for bit the same.
@pytest.mark.parametrize(
    ("num_samples", "num_chunks"),
    [(1600, 1), (30 * SECOND - 1, 1), (30 * SECOND, 1), (30 * SECOND + 1, 2), (1000003, 3)],
)
def test_a_sound_is_whole_chunks_of_30_seconds(num_samples: int, num_chunks: int) -> None:
    tokenizer = make_tokenizer(("[AUDIO]", "[BEGIN_AUDIO]"))
    processor = taking_sounds(hf.VoxtralProcessor(whisper(), tokenizer))
    sound = np.resize(medium("audio"), num_samples)
    for prompt in ("a [AUDIO]", "a [BEGIN_AUDIO][AUDIO]"):
        inputs = processor(text=[prompt], audio=[sound])
        assert inputs["input_features"].shape == (num_chunks, 8, 3000)
        written = tokenizer.decode(inputs["input_ids"][0])
        assert written == "a [BEGIN_AUDIO]" + "[AUDIO]" * 375 * num_chunks


def test_other_families_keep_their_processor() -> None:
    processor = hf.AudioFlamingo3Processor(whisper(), make_tokenizer(("<sound>",)))
    assert taking_sounds(processor) is processor


def test_mistrals_own_tokenizer_file_is_enough(shelf: Shelf, tmp_path: Path) -> None:
    """As published it has no tokenizer.json; the row of [BEGIN_AUDIO] is found all the same."""
    expert, base = tmp_path / "expert", tmp_path / "base"
    shutil.copytree(shelf.expert("Voxtral"), expert)
    shutil.copytree(shelf.folder / "base-llama", base)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (expert / name).unlink()
        (base / name).unlink(missing_ok=True)
    config = json.loads((expert / "config.json").read_text()) | {"audio_token_id": 3}
    (expert / "config.json").write_text(json.dumps(config))
    write_tekken(expert)
    listed = hf.PreTrainedTokenizerFast.from_pretrained(write_tekken(base, LISTED))
    listed.pad_token = "<unk>"
    listed.save_pretrained(base)
    recipe = tmp_path / "recipe.yaml"
    source = f"experts:\n  audio: {{source: {expert}, weight: 1.0}}\n"
    recipe.write_text(f"base: {base}\n{source}{AS_EXPERT}")
    compose(recipe, tmp_path / "out", ComposeOptions())

    model, processor = load_composite(tmp_path / "out")
    ours = processor(text="a <audio>b", audio=[medium("audio")], return_tensors="pt")
    edge = processor.tokenizer.convert_tokens_to_ids("[BEGIN_AUDIO]")
    assert ours["input_ids"][0].tolist().count(edge) == 1
    original = hf.VoxtralForConditionalGeneration.from_pretrained(expert, dtype=torch.float32)
    own = hf.VoxtralProcessor(whisper(), make_tokenizer())
    features = own._retrieve_input_features([medium("audio")], **own.audio_kwargs)
    a, space, b = (len(SPECIAL) + ord(letter) for letter in "a b")
    theirs = {
        "input_ids": torch.tensor([[a, space, 4, *[3] * 375, b]]),
        "input_features": features,
    }
    with torch.no_grad():
        expected = original.eval()(**theirs).logits[..., :261]
        found = model(**ours).logits[..., :261]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_tekken_is_read_as_its_tokenizer_would_be_saved(tmp_path: Path) -> None:
    assert read_tekken(tmp_path) is None
    found = read_tekken(write_tekken(tmp_path))
    assert found is not None
    assert {token: found.added[token] for token in SPECIAL} == {t: i for i, t in enumerate(SPECIAL)}
    letters = bytes_to_unicode()
    assert all(found.ids[letters[number]] == number + len(SPECIAL) for number in range(256))
    (tmp_path / "tekken.json").write_text("{}")
    with pytest.raises(SourceError, match=r"tekken\.json: not a tokenizer of Mistral's .* Take"):
        read_tekken(tmp_path)


def test_merges_are_the_same_in_the_older_notation(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    Tokenizer.from_str(shared_tokenizer()).save(str(file))
    new = read_tokens(tmp_path)
    content = json.loads(file.read_text())
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
    file.write_text(json.dumps(content))
    assert read_tokens(tmp_path) == new
