"""Statistics of models that hear and see: composites of a recipe, token by token."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from omnicompose.errors import CalibrationError
from omnicompose.merging.statistics_file import open_statistics
from omnicompose.statistics.collect import CollectOptions
from omnicompose.statistics.encoding import Encoder
from omnicompose.statistics.prompts import read_prompts
from omnicompose.statistics.provide import Asked, alone, collect_any
from omnicompose.statistics.stages import logits_of, run_block, surroundings_of
from omnicompose.statistics.subject import open_subject

NAME = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    wave = 0.1 * np.sin(np.arange(16000) / 20).astype("float32")
    soundfile.write(folder / "a.wav", wave, 16000)
    turn = {"content": [{"type": "audio", "path": "a.wav"}, "what is this?"]}
    (folder / "data.jsonl").write_text(json.dumps(turn) + "\n")
    return folder / "data.jsonl"


def recipe(tiny: Path, folder: Path, expert: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(f"base: {tiny}/base\nexperts: {{audio: {{source: {tiny}/{expert}}}}}\n")
    return path


def collected(tiny: Path, folder: Path, data: Path, expert: str, kind: str) -> Path:
    asked = Asked(
        source=str(recipe(tiny, folder, expert)), data=data, limit=None, out=folder / "out"
    )
    found = collect_any(asked, CollectOptions(kind=kind), lambda _line: None)
    return found["audio"]


def test_experts_of_a_recipe_are_heard(tiny: Path, tmp_path: Path, data: Path) -> None:
    path = collected(tiny, tmp_path, data, "audio", "gram")
    facts = open_statistics(path, "gram").facts
    assert facts.num_examples == 1
    gram = load_file(path)[NAME]
    # Normalised inputs of width 32: every token adds its squared length, about 32, to the trace.
    assert float(gram.trace()) == pytest.approx(32 * facts.num_tokens, rel=0.05)


def test_text_weights_are_measured_on_text_alone(tiny: Path, tmp_path: Path, data: Path) -> None:
    path = collected(tiny, tmp_path, data, "audio-decoupled", "gram")
    media = 2 + 3  # prefix and pooled queries
    facts = open_statistics(path).facts
    trace = float(load_file(path)[NAME].trace())
    assert trace == pytest.approx(32 * (facts.num_tokens - media), rel=0.05)


def test_attention_to_sound(tiny: Path, tmp_path: Path, data: Path) -> None:
    path = collected(tiny, tmp_path, data, "audio", "attention")
    table = load_file(path)["attention"]
    assert table.shape == (2, 2)
    assert bool((table > 0).all())
    torch.testing.assert_close(table.sum(1), torch.ones(2), atol=1e-4, rtol=0)


def test_stages_give_what_the_whole_model_gives(tiny: Path, tmp_path: Path, data: Path) -> None:
    from omnicompose.composer import compose
    from omnicompose.evaluation.loading import load_composite
    from omnicompose.recipe import read_compose_recipe
    from omnicompose.recipe_values import parse_source
    from omnicompose.recipe_writing import write_recipe

    asked = read_compose_recipe(recipe(tiny, tmp_path, "audio-decoupled"))
    write_recipe(alone(asked, "audio"), tmp_path / "alone.yaml")
    compose(tmp_path / "alone.yaml", tmp_path / "composite")
    subject = open_subject(parse_source(str(tmp_path / "composite"), tmp_path))
    examples = Encoder(subject).encode(read_prompts(data).prompts, with_replies=False)
    kept: dict[tuple[int, int], torch.Tensor] = {}

    class Memory:
        def write(self, block: int, example: int, state: torch.Tensor) -> None:
            kept[block, example] = state

        def read(self, block: int, example: int) -> torch.Tensor:
            return kept[block, example]

    (around,) = surroundings_of(subject, examples, Memory())
    with torch.no_grad(), subject.holding(("",)):
        state = kept[0, 0]
        for block in range(len(subject.blocks)):
            state = run_block(subject, block, state, around)
        found = logits_of(subject, state)
    whole = load_composite(tmp_path / "composite", "cpu", "float32")
    with torch.no_grad():
        expected = whole.model(**examples[0].inputs).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_experts_without_prompts_of_their_own_are_missed(tiny: Path, tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text('{"content": "what is this?"}\n')
    with pytest.raises(CalibrationError, match="no line shows audio alone"):
        collected(tiny, tmp_path, file, "audio", "gram")


def test_an_adapter_on_a_llava_sees(tmp_path: Path) -> None:
    from peft import PeftModel
    from PIL import Image
    from transformers import LlavaForConditionalGeneration

    from omnicompose.recipe_values import parse_source
    from omnicompose.statistics.collect import collect
    from omnicompose.zoo.catalog import zoo_path

    Image.new("RGB", (40, 30), (200, 30, 30)).save(tmp_path / "a.png")
    turn = {"content": [{"type": "image", "path": "a.png"}, "what is this?"], "reply": "red"}
    (tmp_path / "data.jsonl").write_text(json.dumps(turn) + "\n")
    prompts = read_prompts(tmp_path / "data.jsonl")
    source = parse_source("zoo:image-standard", tmp_path)
    collect(source, prompts, tmp_path / "t.safetensors", CollectOptions(kind="targets"))
    found = load_file(tmp_path / "t.safetensors")["logits.0"]
    host = LlavaForConditionalGeneration.from_pretrained(zoo_path("llava"), dtype=torch.float32)
    model = PeftModel.from_pretrained(host, zoo_path("image-standard")).eval()
    subject = open_subject(source)
    (example,) = Encoder(subject).encode(prompts.prompts, with_replies=False)
    assert int(example.media.sum()) == 16
    with torch.no_grad():
        expected = model(**example.inputs).logits[0, -1]
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=2e-3)
    collect(source, prompts, tmp_path / "a.safetensors", CollectOptions(kind="attention"))
    assert bool((load_file(tmp_path / "a.safetensors")["attention"] > 0).all())
    options = CollectOptions(kind="fisher", labels="given")
    collect(source, prompts, tmp_path / "f.safetensors", options)
    assert float(load_file(tmp_path / "f.safetensors")[NAME].sum()) > 0
