"""A composite passed on: with its results, as a LLaVA, as adapters, to the hub."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from PIL import Image
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMultimodalLM,
    AutoProcessor,
    LlavaForConditionalGeneration,
)

from omnicompose.composer import compose
from omnicompose.errors import ExportError
from omnicompose.export import Manifest, verify
from omnicompose.exporting import export_composite
from omnicompose.exporting_adapters import export_adapters
from omnicompose.exporting_native import export_native
from omnicompose.exporting_push import plan_upload, push

RESULTS = {
    "tasks": {
        "zoo/mcub": {
            "rows": [
                {
                    "subset": "image+audio",
                    "score": "letter",
                    "n": 40,
                    "accuracy": {"value": 0.5, "low": 0.25, "high": 0.75},
                },
                {
                    "subset": "none",
                    "score": "letter",
                    "n": 0,
                    "accuracy": {"value": None, "low": None, "high": None},
                },
            ]
        }
    }
}


def build(tiny: Path, out: Path, text: str) -> Path:
    recipe = out.parent / f"{out.name}.yaml"
    recipe.write_text(f"base: {tiny / 'base'}\ndtype: float32\n" + text.replace("@", f"{tiny}/"))
    compose(recipe, out)
    return out


@pytest.fixture(scope="module")
def image(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("forms") / "image"
    return build(tiny, out, "experts: {image: {source: @image}}\n")


@pytest.fixture(scope="module")
def decoupled(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("forms") / "decoupled"
    text = "experts: {image: {source: @image}, audio: {source: @audio-decoupled}}\n"
    return build(tiny, out, text + "modality: exact\n")


def test_results_stand_in_the_card_with_their_intervals(image: Path, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results/results.json").write_text(json.dumps(RESULTS))
    manifest = export_composite(image, tmp_path / "out", results=[tmp_path / "results"])
    card = (tmp_path / "out/README.md").read_text()
    assert "| zoo/mcub | image+audio | letter | 40 | 50.0 | [25.0, 75.0] |" in card
    assert "| zoo/mcub | none | letter | 0 |  |  |" in card
    assert "Not measured yet" in (image / "README.md").read_text()
    assert verify(tmp_path / "out") == []
    assert manifest.plan_sha256 == Manifest.read(image).plan_sha256
    assert verify(image) == []
    weights = "model.safetensors"
    assert (tmp_path / "out" / weights).samefile(image / weights)


def test_results_that_are_none_are_refused_and_nothing_is_left(image: Path, tmp_path: Path) -> None:
    message = r"results.json: found no results \(no such file or directory\), expected those of"
    with pytest.raises(ExportError, match=message):
        export_composite(image, tmp_path / "out", results=[tmp_path])
    assert list(tmp_path.iterdir()) == []


def test_a_changed_folder_is_not_passed_on(image: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(image, tmp_path / "changed")
    (tmp_path / "changed/config.json").write_text("{}")
    with pytest.raises(ExportError, match="found 2 bytes"):
        export_composite(tmp_path / "changed", tmp_path / "out")
    with pytest.raises(ExportError, match="exists already"):
        export_composite(image, tmp_path / "changed")
    manifest = json.loads((image / "manifest.json").read_text()) | {"kind": "merge"}
    (tmp_path / "changed/manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ExportError, match="expected a composite"):
        export_composite(tmp_path / "changed", tmp_path / "out")


def test_licences_are_read_from_the_experts_cards(tiny: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(tiny / "audio", tmp_path / "audio")
    card = "---\nlicense: other\nlicense_name: for-friends\n---\n# An expert\n"
    (tmp_path / "audio/README.md").write_text(card)
    out = build(tiny, tmp_path / "out", f"experts: {{audio: {{source: {tmp_path}/audio}}}}\n")
    text = (out / "README.md").read_text()
    assert "license: other" in text
    assert "for-friends" in text
    assert f"Not stated in the files of `{tiny}/base`" in text
    assert Manifest.read(out).facts["licences"][f"{tmp_path}/audio"] == "for-friends"


def test_pictures_alone_become_a_llava_with_the_same_logits(image: Path, tmp_path: Path) -> None:
    assert export_native(image, tmp_path / "llava") == "LlavaForConditionalGeneration"
    theirs = LlavaForConditionalGeneration.from_pretrained(tmp_path / "llava").eval()
    ours = AutoModelForMultimodalLM.from_pretrained(image).eval()
    picture = Image.effect_mandelbrot((16, 16), (-2, -1, 1, 1), 20).convert("RGB")
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what?"}]}]
    inputs = []
    for folder in (tmp_path / "llava", image):
        processor = AutoProcessor.from_pretrained(folder)
        text = processor.apply_chat_template(chat, add_generation_prompt=True)
        inputs.append(processor(images=picture, text=text, return_tensors="pt"))
    assert torch.equal(inputs[0]["input_ids"], inputs[1]["input_ids"])
    with torch.no_grad():
        logits = [model(**one).logits for model, one in zip((theirs, ours), inputs, strict=True)]
    torch.testing.assert_close(logits[0], logits[1], atol=1e-5, rtol=1e-5)


def test_what_has_no_class_says_why(decoupled: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"it has audio.*audio has weights of its own"):
        export_native(decoupled, tmp_path / "out")


def test_adapters_give_the_streams_back_on_the_base(
    tiny: Path, decoupled: Path, tmp_path: Path
) -> None:
    reports = export_adapters(decoupled, tmp_path / "out")
    assert {report.name for report in reports} == {"text", "image", "audio"}
    assert all(report.largest_error < 1e-3 for report in reports)
    composite = AutoModelForMultimodalLM.from_pretrained(decoupled)
    own = composite.model.language_model.state_dict()
    for name in ("text", "audio"):
        base = AutoModelForCausalLM.from_pretrained(tiny / "base")
        merged = PeftModel.from_pretrained(base, tmp_path / "out" / name).merge_and_unload()
        for path in ("layers.0.mlp.up_proj", "layers.1.self_attn.q_proj"):
            wanted = own[f"{path}.weight"]
            if name == "audio":
                stream = f"{path}.streams.audio"
                wanted = wanted + own[f"{stream}.lora_B"] @ own[f"{stream}.lora_A"]
            found = merged.state_dict()[f"model.{path}.weight"]
            assert (found - wanted).norm() <= 1e-3 * wanted.norm()
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert [one["rank"] for one in report] == [one.rank for one in reports]


def test_a_rank_that_is_asked_for_is_kept_and_its_error_told(
    decoupled: Path, tmp_path: Path
) -> None:
    text, *_ = export_adapters(decoupled, tmp_path / "out", rank=1)
    assert text.rank == 1
    assert text.largest_error > 0.01


def test_push_shows_what_would_go_and_nothing_else(image: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "omni"
    shutil.copytree(image, folder)
    (folder / "secret.txt").write_text("not for the hub")
    upload = plan_upload(folder, "somebody/omni")
    assert "secret.txt" not in upload.files
    assert {"manifest.json", "README.md", "model.safetensors"} <= set(upload.files)
    assert upload.to_json()["bytes"] == sum((folder / name).stat().st_size for name in upload.files)
    with pytest.raises(ExportError, match="owner/name"):
        plan_upload(folder, "no-owner")


def test_push_sends_only_with_a_token_and_tells_why_it_cannot(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = plan_upload(image, "somebody/omni")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(ExportError, match="HF_TOKEN is not set"):
        push(upload)
    import huggingface_hub

    sent: list[dict[str, object]] = []

    class Hub:
        def __init__(self, token: str) -> None:
            assert token == "t"

        def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> str:
            return f"hub/{name}"

        def upload_folder(self, **what: object) -> None:
            sent.append(what)

    monkeypatch.setenv("HF_TOKEN", "t")
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    assert push(upload) == "hub/somebody/omni"
    assert sent[0]["allow_patterns"] == list(upload.files)

    def refuse(self: object, **what: object) -> None:
        raise OSError("no way")

    monkeypatch.setattr(Hub, "upload_folder", refuse)
    with pytest.raises(ExportError, match="the hub did not take it: no way"):
        push(upload)


def test_a_forged_manifest_cannot_send_a_file_from_elsewhere(image: Path, tmp_path: Path) -> None:
    import shutil

    from omnicompose.export import hash_folder

    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "omni"
    shutil.copytree(image, folder)
    record = hash_folder(tmp_path / "secret")[0].to_json() | {"path": "../secret"}
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["outputs"].append(record)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ExportError, match=r"\.\./secret: lies outside"):
        plan_upload(folder, "somebody/omni")
    with pytest.raises(ExportError, match=r"\.\./secret: lies outside"):
        export_composite(folder, tmp_path / "out")
