"""`omnicompose inspect` on real families: parts, fates, tokens per medium, from headers."""

import json
from pathlib import Path

import pytest
from families_all import Shelf
from typer.testing import CliRunner

from omnicompose.cli import app
from omnicompose.inspection import inspect_source

pytestmark = pytest.mark.filterwarnings("ignore")


def test_a_family_that_runs_as_it_is(shelf: Shelf) -> None:
    found = inspect_source(str(shelf.expert("InternVL")))
    fates = {part.name: part.fate for part in found.parts}
    assert fates == {
        "backbone": "merged",
        "encoder: vision_tower": "copied",
        "encoder: multi_modal_projector": "copied",
    }
    assert found.facts["modalities"] == "image, video"
    assert found.facts["backbone"] == "qwen2, 32 x 2, 320 rows"
    assert found.facts["tokens_per_item"] == {
        "image: picture of 448 x 448": 20,
        "video: clip of 8 frames, 448 x 448": 32,
    }


def test_a_thinker_hears_and_sees(shelf: Shelf) -> None:
    found = inspect_source(str(shelf.expert("Qwen2_5OmniThinker")))
    names = {part.name for part in found.parts}
    assert names == {"encoder: audio_tower", "backbone", "encoder: visual"}
    assert found.facts["tokens_per_item"]["audio: sound of 10 s"] > 1


def test_without_a_processor_the_rest_is_told(shelf: Shelf, tmp_path: Path) -> None:
    folder = shelf.expert("VipLlava")
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).symlink_to(folder / name)
    found = inspect_source(str(bare))
    assert "tokens_per_item" not in found.facts
    assert found.facts["modalities"] == "image"


def test_the_table_and_the_json(shelf: Shelf) -> None:
    source = str(shelf.expert("AudioFlamingo3"))
    table = CliRunner().invoke(app, ["inspect", source], env={"COLUMNS": "200"})
    assert table.exit_code == 0
    assert "copied" in table.stdout
    assert "sound of 10 s" in table.stdout
    found = json.loads(CliRunner().invoke(app, ["inspect", source, "--json"]).stdout)
    assert {part["fate"] for part in found["parts"]} == {"merged", "copied"}


def test_a_sound_that_another_library_writes(shelf: Shelf) -> None:
    found = inspect_source(str(shelf.expert("Voxtral")))
    # Whole chunks of 30 s, 12.5 embeddings a second.
    assert found.facts["tokens_per_item"] == {"audio: sound of 10 s": 375}


def test_a_family_that_is_rebuilt(shelf: Shelf) -> None:
    found = inspect_source(str(shelf.expert("Llava")), base=str(shelf.folder / "base-llama"))
    assert found.facts["tokens_per_item"] == {"image: picture of 448 x 448": 4}
    lineage = found.facts["lineage"]
    assert isinstance(lineage, dict)
    assert 0.9 < float(lineage["cosine"]) < 1
    shelf.expert("InternVL")
    other = inspect_source(str(shelf.expert("Llava")), base=str(shelf.folder / "base-qwen2"))
    assert "model_type is 'llama'" in str(other.facts["lineage"])
