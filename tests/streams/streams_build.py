"""Composites of the tiny experts with streams of any kind."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForMultimodalLM, AutoProcessor

from omnicompose.composer import ComposeOptions, compose

BOTH = "experts: {image: {source: @image}, audio: {source: @audio-decoupled}}\ndtype: float32\n"
SINGLE = "experts: {image: {source: @image}, audio: {source: @audio}}\ndtype: float32\n"
NAME = "layers.1.mlp.up_proj"
LAYER = f"model.language_model.{NAME}"


def build(tiny: Path, out: Path, text: str, **options: object) -> Path:
    recipe = out.parent / f"{out.name}.yaml"
    recipe.write_text(f"base: {tiny / 'base'}\n" + text.replace("@", f"{tiny}/"))
    compose(recipe, out, ComposeOptions(**options))
    return out


def load(folder: Path):
    return AutoModelForMultimodalLM.from_pretrained(folder, dtype=torch.float32).eval()


def ask(folder: Path, *modalities: str) -> dict[str, torch.Tensor]:
    picture = Image.fromarray(np.arange(768, dtype=np.uint8).reshape(16, 16, 3))
    sound = np.sin(np.arange(8000) / 5).astype(np.float32)
    text = "".join(f"<{modality}>" for modality in modalities) + "what is this?"
    media = {"images": [picture]} if "image" in modalities else {}
    media |= {"audio": [sound]} if "audio" in modalities else {}
    inputs = AutoProcessor.from_pretrained(folder)(text=text, return_tensors="pt", **media)
    return dict(inputs)


def logits(folder: Path, *modalities: str) -> torch.Tensor:
    with torch.no_grad():
        return load(folder)(**ask(folder, *modalities)).logits


def facts(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())["facts"]["streams"]
