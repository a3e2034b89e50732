"""Two LoRAs of a small base, with prompts of their own."""

import json
from pathlib import Path

import pytest
import tiny_experts


@pytest.fixture(scope="package")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    base = tiny_experts.write_base(folder / "m0", seed=0)
    for number in (1, 2):
        tiny_experts.write_lora(folder / f"lora{number}", base, seed=number)
    for name, replies in (("a", ("a three", "what")), ("b", ("red", "this is a three"))):
        lines = [{"content": f"what is this {i}?", "reply": r} for i, r in enumerate(replies)]
        text = "\n".join(map(json.dumps, lines))
        (folder / f"{name}.jsonl").write_text(text + "\n")
    return folder
