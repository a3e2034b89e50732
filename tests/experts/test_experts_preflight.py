"""What configurations show to be wrong is said in the first second: no torch, no weights."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from omnicompose.errors import SourceError
from omnicompose.experts import first_weights, preflight
from omnicompose.experts.preflight import look_first
from omnicompose.recipe import read_compose_recipe

ROOT = Path(__file__).parents[2]
QWEN = {"model_type": "qwen2", "hidden_size": 32, "num_hidden_layers": 2}
BASE = QWEN | {"architectures": ["Qwen2ForCausalLM"]}
INTERN = {"architectures": ["InternVLForConditionalGeneration"], "text_config": QWEN}


def model(folder: Path, config: dict[str, object], *, bare: bool = False) -> Path:
    """A folder with a configuration, and a preprocessor's unless it is bare; never weights."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    if not bare:
        (folder / "preprocessor_config.json").write_text("{}")
    return folder


def recipe(folder: Path, base: Path, **experts: Path) -> Path:
    path = folder / "recipe.yaml"
    lines = "".join(f"  {name}: {{source: {source}}}\n" for name, source in experts.items())
    path.write_text(f"base: {base}\nexperts:\n{lines}")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(SourceError) as caught:
        look_first(read_compose_recipe(path))
    return str(caught.value)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return model(tmp_path / "base", BASE)


def test_what_is_right_passes(tmp_path: Path, base: Path) -> None:
    look_first(read_compose_recipe(recipe(tmp_path, base, image=model(tmp_path / "a", INTERN))))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantization_config": {"quant_method": "gptq"}}, r"a: its weights are quantised (gptq)"),
        (
            {"text_config": QWEN | {"quantization_config": {"quant_method": "awq"}}},
            "a: its weights are quantised (awq)",
        ),
        ({"architectures": ["NovelModel"]}, "'NovelModel' is not one that can be composed yet"),
        ({"architectures": None}, "config.json names no architectures"),
        (
            {"architectures": ["NovelModel"], "auto_map": {"AutoModel": "novel.Model"}},
            "NovelModel is a model whose code comes with the checkpoint, which is never run",
        ),
        ({"architectures": ["MllamaForConditionalGeneration"]}, "cross-attention"),
        ({"architectures": ["Qwen2AudioForConditionalGeneration"]}, "does not understand image"),
        (
            {"text_config": QWEN | {"hidden_size": 64}},
            "hidden_size is 64, the base has 32. Experts of one composite must descend from one",
        ),
    ],
)
def test_a_wrong_expert(
    tmp_path: Path, base: Path, changes: dict[str, object], message: str
) -> None:
    expert = model(tmp_path / "a", INTERN | changes)
    assert message in refusal(recipe(tmp_path, base, image=expert))


def test_a_missing_preprocessor(tmp_path: Path, base: Path) -> None:
    expert = model(tmp_path / "a", INTERN, bare=True)
    found = refusal(recipe(tmp_path, base, image=expert))
    assert "no usable preprocessor configuration for image" in found


def test_gguf_as_a_file_and_as_a_folder(tmp_path: Path, base: Path) -> None:
    expert = model(tmp_path / "a", INTERN)
    (expert / "model-Q4.gguf").write_bytes(b"GGUF")
    for source in (expert, expert / "model-Q4.gguf"):
        found = refusal(recipe(tmp_path, base, image=source))
        assert "model-Q4.gguf holds quantised weights (GGUF). Merging needs" in found


def test_a_multimodal_base_and_every_experts_mistake_at_once(tmp_path: Path) -> None:
    base = model(tmp_path / "base", INTERN)
    image = model(tmp_path / "a", INTERN | {"architectures": ["NovelModel"]})
    audio = model(tmp_path / "b", INTERN)
    lines = refusal(recipe(tmp_path, base, image=image, audio=audio)).splitlines()
    assert [line.split(": ")[0] for line in lines] == [str(base), str(image), str(audio)]
    assert "the base must be the plain language model" in lines[0]


def test_what_an_adapter_lies_on(tmp_path: Path, base: Path) -> None:
    host = model(tmp_path / "host", INTERN | {"quantization_config": {"quant_method": "fp8"}})
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    settings = {"peft_type": "LORA", "base_model_name_or_path": str(host), "r": 4, "lora_alpha": 4}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    assert "host: its weights are quantised (fp8)" in refusal(recipe(tmp_path, base, image=adapter))


def with_weights(folder: Path, weights: dict[str, np.ndarray], prefix: str) -> Path:
    save_file({f"{prefix}{name}": w for name, w in weights.items()}, folder / "model.safetensors")
    return folder


@pytest.fixture
def weights() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    name = "layers.{}.mlp.up_proj.weight"
    return {name.format(i): draw.normal(size=(48, 32)).astype(np.float32) for i in range(2)}


def moved(weights: dict[str, np.ndarray], keep: float, seed: int = 1) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    return {
        name: (keep * w + 0.1 * draw.normal(size=w.shape)).astype(np.float32)
        for name, w in weights.items()
    }


def test_weights_of_another_base_are_refused_unless_allowed(
    tmp_path: Path, base: Path, weights: dict[str, np.ndarray]
) -> None:
    with_weights(base, weights, "model.")
    expert = with_weights(
        model(tmp_path / "a", INTERN), moved(weights, keep=0.0), "language_model.model."
    )
    path = recipe(tmp_path, base, image=expert)
    assert re.search(
        r"a: its backbone is not related to .*base: sampled weights have cosine -?0\.0\d\d "
        r"\(expected close to 1\) and relative distance 1\.\d+.*allow_different_base",
        refusal(path),
    )
    path.write_text(path.read_text() + "allow_different_base: true\n")
    look_first(read_compose_recipe(path))


def test_weights_of_one_base_pass(
    tmp_path: Path, base: Path, weights: dict[str, np.ndarray]
) -> None:
    with_weights(base, weights, "model.")
    expert = with_weights(
        model(tmp_path / "a", INTERN), moved(weights, keep=1.0), "language_model.model."
    )
    look_first(read_compose_recipe(recipe(tmp_path, base, image=expert)))


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 40, b"\x02\0\0\0\0\0\0\0{}", b"\x02" + bytes(7) + b"[]"]
)
def test_weights_that_cannot_be_read_are_left_to_the_second_look(
    tmp_path: Path, base: Path, weights: dict[str, np.ndarray], content: bytes
) -> None:
    with_weights(base, weights, "model.")
    expert = model(tmp_path / "a", INTERN)
    (expert / "model.safetensors").write_bytes(content)
    look_first(read_compose_recipe(recipe(tmp_path, base, image=expert)))


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_a_sample_is_what_safetensors_reads(tmp_path: Path, dtype: str) -> None:
    torch_dtype = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}[dtype]
    tensor = torch.randn(60, 50).to(torch_dtype)
    save_torch({"x": torch.ones(3), "t": tensor}, tmp_path / "m.safetensors")
    stored = first_weights._entries(tmp_path / "m.safetensors")["t"]
    assert stored.dtype == dtype
    middle = tensor.flatten()[988 : 988 + first_weights.SAMPLE_SIZE].double()
    assert torch.equal(torch.from_numpy(stored.sample()), middle)


def test_no_weights_are_fetched_for_a_first_look(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expert = model(tmp_path / "a", INTERN | {"architectures": ["NovelModel"]})
    path = recipe(tmp_path, base, image=Path("owner") / "name")
    asked = []

    def resolved(source: object, *, weights: bool) -> Path:
        asked.append(weights)
        return expert if "owner" in str(source) else base

    monkeypatch.setattr(preflight, "resolve", resolved)
    assert "NovelModel" in refusal(path)
    assert asked == [False, False]


def test_the_command_refuses_without_torch(tmp_path: Path, base: Path) -> None:
    expert = model(tmp_path / "a", INTERN | {"quantization_config": {"quant_method": "gptq"}})
    path = recipe(tmp_path, base, image=expert)
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from typer.testing import CliRunner\n"
        "from omnicompose.cli import app\n"
        f"for command in (['plan', {str(path)!r}], ['inspect', 'a/onfig.json']):\n"
        "    done = CliRunner().invoke(app, command)\n"
        "    print(done.exit_code, 'torch' in sys.modules, done.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    planned, inspected = done.stdout.strip().split("\n\n")
    assert planned.startswith("2 False omnicompose: ")
    assert "quantised (gptq)" in planned
    assert inspected.startswith("2 False omnicompose: found 'a/onfig.json', but ")
    assert "did you mean a/config.json?" in inspected
