"""ModelCompose's tiny folders (tests/goldens/e2e): recipes on them, and what their cases hold."""

import json
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

FOLDER = Path(__file__).parents[1] / "goldens" / "e2e"
MANIFEST = json.loads((FOLDER / "manifest.json").read_text())
MODELS = {entry["model"]: entry for entry in MANIFEST["models"]}
ENCODERS = {
    "image": "clip_tiny",
    "audio": "beats_tiny.pt",
    "video": "LanguageBind_Video_merge",
    "point": "pointbert_tiny.safetensors",
}
OUR_NAMES = {"vision": "image", "audio": "audio", "video": "video", "point": "point"}
SENTINELS = {-200: "image", -203: "audio", -204: "video", -205: "point"}
EMBEDDINGS = {"image": 4, "audio": 4, "video": 20, "point": 17}
INPUTS = {
    "image": "pixel_values",
    "audio": "input_features",
    "video": "pixel_values_videos",
    "point": "points",
}
NUM_WORDS = 96


def write_base(folder: Path) -> Path:
    """The base beside a tokenizer whose word wN has the id N, which the goldens lack."""
    folder.mkdir(parents=True)
    for file in (FOLDER / "base").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    words = {f"w{place}": place for place in range(NUM_WORDS)}
    made = Tokenizer(models.WordLevel(words, unk_token="w3"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="w1", eos_token="w2", pad_token="w0", unk_token="w3"
    )
    tokenizer.save_pretrained(folder)
    return folder


def write_recipe(path: Path, base: Path, experts: dict[str, object], **choices: object) -> Path:
    """A recipe on folders of the goldens; an expert is a folder, or an entry of a recipe."""
    entries = {}
    for modality, expert in experts.items():
        entry = expert if isinstance(expert, dict) else {"source": expert}
        encoder = str(FOLDER / "encoders" / ENCODERS[modality])
        entries[modality] = {"encoder": encoder} | entry
        entries[modality]["source"] = str(FOLDER / str(entries[modality]["source"]))
    recipe = {"base": str(base), "experts": entries, "dtype": "float32", "allow_pickle": True}
    path.write_text(yaml.safe_dump(recipe | choices, sort_keys=False))
    return path


def case_tensors(model: str, case: str) -> dict[str, torch.Tensor]:
    """What the published code took and gave."""
    start = f"{model}::{case}::"
    tensors = load_file(FOLDER / "cases.safetensors")
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}


def case_inputs(ids: torch.Tensor, modalities: dict[str, dict[str, object]]) -> dict[str, object]:
    """Model inputs of a case: each sentinel as placeholders, each medium in reading order."""
    found = dict.fromkeys(ENCODERS, 0)
    rows = []
    for row in ids.tolist():
        tokens = []
        for token in row:
            if token >= 0:
                tokens.append(token)
                continue
            modality = SENTINELS[token]
            entry = modalities[modality]
            found[modality] += 1
            edges = entry["num_prefix_tokens"] + entry["num_suffix_tokens"]
            tokens += [entry["token_id"]] * (EMBEDDINGS[modality] + edges)
        rows.append(tokens)
    media = media_tensors()
    given = {INPUTS[name]: media[name][:number] for name, number in found.items() if number}
    return {"input_ids": torch.tensor(rows), **given}


def media_tensors() -> dict[str, torch.Tensor]:
    """Preprocessed media by modality."""
    tensors = load_file(FOLDER / "media" / "media_tensors.safetensors")
    return {
        "image": tensors["vision.pixel_values"],
        "audio": tensors["audio.audio_inputs"],
        "video": tensors["video.pixel_values"].transpose(1, 2),
        "point": tensors["point.points"],
    }
