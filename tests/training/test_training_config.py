"""A training's configuration: every mistake at once, with its line; the shipped ones are right."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from omnicompose.errors import TrainingError
from omnicompose.training.config import TrainConfig, read_train_config
from omnicompose.zoo.train_experts import (
    REGIMES,
    answering_stage,
    captioning_stage,
    expert_config,
)

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "train").glob("*.yaml"))
STAGE = "{strategy: lora, data: {generator: text, count: 8}, steps: 1, learning_rate: 1e-3}"


def read(folder: Path, text: str) -> TrainConfig:
    path = folder / "train.yaml"
    path.write_text(text)
    return read_train_config(path)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_is_read(path: Path) -> None:
    assert read_train_config(path).stages
    line = f"# omnicompose train configs/train/{path.name} --out out/{path.stem}\n"
    assert line in path.read_text()


def test_the_shipped_image_config_is_the_zoos_own() -> None:
    stages = [captioning_stage("image"), answering_stage(REGIMES["standard"], "single")]
    places = {"base": "zoo:base", "encoder": "zoo:llava"}
    zoo = TrainConfig.model_validate(expert_config("image", stages, places))
    assert read_train_config(next(p for p in CONFIGS if p.stem == "zoo-image")) == zoo


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = f"""base: zoo:base
seeds: 3
precision: float8
stages:
  - {STAGE}
  - {{strategy: lorra, data: {{files: [gone.jsonl]}}, steps: 1, learning_rate: 0}}
"""
    with pytest.raises(TrainingError) as caught:
        read(tmp_path, text)
    lines = str(caught.value).splitlines()
    assert f"{tmp_path / 'train.yaml'}:2: unknown key 'seeds'; did you mean 'seed'?" in lines
    assert any(":3: precision: found 'float8', expected one of" in line for line in lines)
    assert any("stages.1.strategy: found 'lorra'" in line and "'lora'" in line for line in lines)
    assert any("gone.jsonl is no file. Correct the path." in line for line in lines)
    assert any("stages.1.learning_rate: found 0" in line for line in lines)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ("[]", "stages: "),
        (f"[{STAGE.replace('steps: 1', 'steps: 1, epochs: 2')}]", "`steps` and `epochs`"),
        (f"[{STAGE.replace('generator: text, ', '')}]", "`files` and `generator`"),
        (f"[{STAGE.replace('count: 8', 'count: 0')}]", "`count` belongs to `generator`"),
        (f"[{STAGE}, {STAGE.replace('lora', 'full')}]", "adapted in one way"),
        (f"[{STAGE.replace('lora', 'decoupled')}]", "needs a plain language model"),
        (
            f"[{STAGE}, {STAGE.replace('lora, ', 'lora, lora: {rank: 3}, ')}]",
            "they share one adapter",
        ),
    ],
)
def test_stages_that_contradict_one_another(tmp_path: Path, stages: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        read(tmp_path, f"base: zoo:llava\nstages: {stages}\n")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("modality: image", "give both or neither"),
        ("prefix_tokens: 2", "belong to a new expert"),
        ("modality: image\nencoder: {}", "both or neither of `source` and `type`"),
        ("modality: image\nencoder: {type: clip_vision}", "a fresh encoder that never learns"),
        ("connector: {weights: none.safetensors}", "is no file"),
    ],
)
def test_parts_that_contradict_one_another(tmp_path: Path, more: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        read(tmp_path, f"base: zoo:base\n{more}\nstages: [{STAGE}]\n")


def test_a_file_that_is_no_yaml(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="not YAML"):
        read(tmp_path, "stages: [")


def test_paths_start_from_the_files_folder(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    config = read(
        tmp_path,
        f"base: zoo:llava\nstages: [{STAGE}]\n".replace(
            "generator: text, count: 8", "files: [a.jsonl]"
        ),
    )
    assert config.stages[0].data.files == (tmp_path / "a.jsonl",)
    assert TrainConfig.model_validate(config.model_dump(mode="json")) == config


def test_a_path_must_be_text() -> None:
    with pytest.raises(ValidationError, match="expected the path of a file"):
        TrainConfig.model_validate(
            {"base": "zoo:base", "stages": [{"strategy": "full", "data": {"files": [3]}}]}
        )
