"""The code in a composite's folder: it runs without omnicompose and gives the same tokens."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMultimodalLM, AutoProcessor, pipeline

from omnicompose.composer import compose
from omnicompose.encoders import ENCODERS
from omnicompose.errors import ExportError
from omnicompose.export import verify
from omnicompose.export_code import add_code, code_files
from omnicompose.zoo.media import held_out_media

ROOT = Path(__file__).parents[2]
ROOTS = ("modeling.modeling_omnicompose", "modeling.processing_omnicompose")
SENSES = ("image", "audio", "video")
BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "omnicompose":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocked())
sys.path[:] = [p for p in sys.path if p not in ("", {root!r})]
"""
"""What a fresh environment lacks; benchmarks/fresh_export.py makes a real one."""
ANSWER = """
import json
from transformers import AutoModelForMultimodalLM, AutoProcessor
folder, chats = sys.argv[1], json.loads(sys.argv[2])
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
model = AutoModelForMultimodalLM.from_pretrained(folder, trust_remote_code=True).eval()
inputs = processor.apply_chat_template(chats, add_generation_prompt=True, tokenize=True,
    return_dict=True, return_tensors="pt", processor_kwargs={"padding": True})
tokens = model.generate(**inputs, max_new_tokens=8, do_sample=False)
assert type(model).__module__.startswith("transformers_modules."), type(model)
assert "omnicompose" not in sys.modules
print(json.dumps(tokens.tolist()))
"""


@pytest.fixture(scope="module")
def omni(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "omni"
    compose(ROOT / "configs/naive-standard.yaml", out)
    return out


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """Two prompts over one picture, one sound and one clip, in another order each."""
    folder = tmp_path_factory.mktemp("media")
    media = held_out_media().media
    paths = {m: next(x for x in media if x.item.modality == m).write(folder) for m in SENSES}
    return [
        [
            {
                "role": "user",
                "content": [
                    *({"type": name, "path": str(paths[name])} for name in order),
                    {"type": "text", "text": "What do these have in common?"},
                ],
            }
        ]
        for order in (SENSES, ("video", "audio", "image"))
    ]


def test_the_folder_answers_without_omnicompose_as_with_it(
    omni: Path, chats: list[object], tmp_path: Path
) -> None:
    environment = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED.format(root=str(ROOT)) + ANSWER, omni, json.dumps(chats)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    processor = AutoProcessor.from_pretrained(omni)
    model = AutoModelForMultimodalLM.from_pretrained(omni).eval()
    assert type(model).__module__.startswith("omnicompose.")
    inputs = processor.apply_chat_template(
        chats, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    tokens = model.generate(**inputs, max_new_tokens=8, do_sample=False)
    assert json.loads(done.stdout.splitlines()[-1]) == tokens.tolist()


def test_a_batch_goes_through_the_pipeline(omni: Path, chats: list[object]) -> None:
    answer = pipeline("any-to-any", model=str(omni))

    def ask(text: list[object]) -> list[dict[str, str]]:
        generation = {"do_sample": False, "max_new_tokens": 8}  # the pipeline adds to it
        return answer(text=text, generate_kwargs=generation, return_full_text=False)

    together = [one[0]["generated_text"] for one in ask(chats)]
    assert together == [ask(chat)[0]["generated_text"] for chat in chats]
    assert all(together)


def test_the_code_imports_torch_and_transformers_alone(omni: Path) -> None:
    known = {"torch", "transformers", "numpy", "tokenizers", "huggingface_hub"}
    for path in omni.glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import):
                packages = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                packages = {str(node.module).split(".")[0]}
            else:
                continue
            assert packages <= known | set(sys.stdlib_module_names), f"{path.name}: {packages}"
            assert "omnicompose" not in packages


def test_encoders_that_are_not_used_stay_away(omni: Path) -> None:
    names = {path.stem for path in omni.glob("*.py")}
    assert {"encoders_clip_vision", "encoders_whisper", "encoders_conv_video"} <= names
    assert not {"encoders_beats", "encoders_timm_vision", "connectors_qformer"} & names


def test_every_encoder_and_connector_can_be_exported() -> None:
    files = code_files(ROOTS, {*ENCODERS, "mlp", "qformer", "perceiver"})
    for name, text in files.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                assert f"{node.module}.py" in files, f"{name}: {node.module}"
    assert "encoders_timm_vision.py" in files


def test_no_code_file_hides_another() -> None:
    files = code_files(ROOTS, set(ENCODERS))
    assert len(files) == len({text for text in files.values()})
    assert files == code_files(tuple(reversed(ROOTS)), set(ENCODERS))


def test_a_lacking_package_is_named_when_it_is_needed(tmp_path: Path) -> None:
    from omnicompose.export_imports import STAND_IN, guarded

    (tmp_path / "lacking.py").write_text(STAND_IN["lacking.py"])
    text = guarded("import nowhere\nfrom nowhere.deep import Thing\n").replace(
        ".lacking", "lacking"
    )
    text += "Kind = str | Thing.Inner\nassert not isinstance(3, nowhere.Error)\n"
    text += "try:\n    raise ValueError\nexcept (ValueError, nowhere.Error):\n    pass\n"
    text += "nowhere.open('x')\n"
    (tmp_path / "reader.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "reader.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "ImportError: reading this medium needs the package 'nowhere'" in done.stderr


def test_composing_leaves_the_folder_verified(omni: Path) -> None:
    assert verify(omni) == []
    config = json.loads((omni / "config.json").read_text())
    assert config["auto_map"]["AutoModel"] == "modeling_omnicompose.OmniComposeModel"


def test_a_folder_of_another_model_is_refused(omni: Path, tmp_path: Path) -> None:
    shutil.copytree(omni, tmp_path / "other")
    (tmp_path / "other/config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ExportError, match="found model_type 'llama', expected 'omnicompose'"):
        add_code(tmp_path / "other")
    (tmp_path / "other/config.json").write_text("[]")
    with pytest.raises(ExportError, match="found list, expected an object"):
        add_code(tmp_path / "other")
    (tmp_path / "other/config.json").unlink()
    with pytest.raises(ExportError, match="found no readable JSON"):
        add_code(tmp_path / "other")


def test_the_weights_are_the_same_under_both_codes(omni: Path) -> None:
    model, info = AutoModelForMultimodalLM.from_pretrained(omni, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert model.dtype == torch.float32
