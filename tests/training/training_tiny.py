"""Records and configurations small enough to train in a second."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from omnicompose.training.config import TrainConfig
from omnicompose.zoo.lessons import media_lesson, text_lesson
from omnicompose.zoo.media import held_out_media

ENCODERS = {"image": "zoo:llava", "audio": "zoo:encoder-audio", "video": "zoo:encoder-video"}


def write_lessons(folder: Path, modality: str | None, count: int = 12) -> Path:
    """Lessons about held-out media; every fourth, or all without a modality, is text alone."""
    rng, library = np.random.default_rng(0), held_out_media()
    path = folder / f"{modality}.jsonl"
    with path.open("w") as stream:
        for place in range(count):
            shown = modality is not None and place % 4
            lesson = media_lesson(rng, str(modality), 0.3) if shown else text_lesson(rng, 1)
            media = iter([library.choose(item, rng).write(folder) for item in lesson.media])
            messages = []
            for message in lesson.messages:
                content = message["content"]
                if isinstance(content, list):
                    content = [
                        entry
                        if entry["type"] == "text"
                        else {**entry, "path": str(next(media).relative_to(folder))}
                        for entry in content
                    ]
                messages.append({"role": message["role"], "content": content})
            stream.write(json.dumps({"messages": messages}) + "\n")
    return path


def stage(strategy: str, file: Path, **more: object) -> dict[str, object]:
    return {
        "strategy": strategy,
        "data": {"files": [str(file)]},
        "steps": 2,
        "batch_size": 4,
        "learning_rate": 1e-2,
        "warmup_steps": 1,
        "lora": {"rank": 2},
        **more,
    }


def new_expert(
    folder: Path, modality: str, stages: Sequence[object], **more: object
) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "base": "zoo:base",
            "modality": modality,
            "encoder": {"source": ENCODERS[modality]},
            "stages": list(stages),
            "attention": "eager",
            **more,
        },
        context={"folder": folder},
    )


def host(
    folder: Path, stages: Sequence[object], base: str = "zoo:llava", **more: object
) -> TrainConfig:
    return TrainConfig.model_validate(
        {"base": base, "stages": list(stages), "attention": "eager", **more},
        context={"folder": folder},
    )
