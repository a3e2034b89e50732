"""What is refused until the user allows it: pickled weights, and numbers that are not finite."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from omnicompose.cli import app


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (os.system, ("touch pwned",))


def run(command: str, folder: Path, text: str, *flags: str) -> Result:
    recipe = folder / "recipe.yaml"
    recipe.write_text(text)
    out = [] if command == "plan" else ["--out", str(folder / "out")]
    return CliRunner().invoke(app, [command, str(recipe), *out, *flags])


def pickled(source: Path, folder: Path) -> Path:
    """A copy of a model with its weights as `pytorch_model.bin`, tied head included."""
    shutil.copytree(source, folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    return folder


def test_pickled_models_merge_only_when_allowed(tiny: Path, tmp_path: Path) -> None:
    pickled(tiny / "base", tmp_path / "tuned")
    text = f"models: [{{source: {tiny}/base}}, {{source: tuned}}]\nmethod: linear\n"
    refused = run("merge", tmp_path, text)
    assert refused.exit_code == 2
    assert "found pickled weights (pytorch_model.bin); expected safetensors" in refused.stderr
    assert "--allow-pickle" in refused.stderr
    assert run("plan", tmp_path, text).exit_code == 2
    assert not (tmp_path / "out").exists()

    assert run("plan", tmp_path, text, "--allow-pickle").exit_code == 0
    assert run("merge", tmp_path, text, "--allow-pickle").exit_code == 0
    base = load_file(tiny / "base/model.safetensors")
    merged = load_file(tmp_path / "out/model.safetensors")
    assert all(torch.equal(merged[name], tensor) for name, tensor in base.items())
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["recipe"]["allow_pickle"] is True
    assert "tuned/pytorch_model.bin" in [record["path"] for record in manifest["inputs"]]
    shutil.rmtree(tmp_path / "out")
    assert run("merge", tmp_path, text + "allow_pickle: true\n").exit_code == 0


def test_a_pickle_that_would_run_code_never_runs(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pickled(tiny / "base", tmp_path / "evil")
    torch.save({"model.norm.weight": Evil()}, tmp_path / "evil/pytorch_model.bin")
    for text in (
        "models: [{source: evil}]\n",
        "layout: raw\nmodels: [{source: evil/pytorch_model.bin}]\n",
    ):
        refused = run("merge", tmp_path, text, "--allow-pickle")
        assert refused.exit_code == 2
        assert "would run code" in refused.stderr
        assert not (tmp_path / "pwned").exists()
        assert not (tmp_path / "out").exists()


def test_a_pickled_adapter_on_a_pickled_base(tiny: Path, tmp_path: Path) -> None:
    pickled(tiny / "base", tmp_path / "base")
    shutil.copytree(tiny / "audio/adapter", tmp_path / "adapter")
    factors = load_file(tmp_path / "adapter/adapter_model.safetensors")
    (tmp_path / "adapter/adapter_model.safetensors").unlink()
    torch.save(factors, tmp_path / "adapter/adapter_model.bin")
    text = "base: {}\nmodels: [{{source: {}, weight: 1}}]\nmethod: task_arithmetic\n"
    ours = text.format("base", "base+adapter")
    assert run("merge", tmp_path, ours).exit_code == 2
    assert run("merge", tmp_path, ours, "--allow-pickle").exit_code == 0
    found = load_file(tmp_path / "out/model.safetensors")
    shutil.rmtree(tmp_path / "out")
    theirs = text.format(f"{tiny}/base", f"{tiny}/base+{tiny}/audio/adapter")
    assert run("merge", tmp_path, theirs).exit_code == 0
    expected = load_file(tmp_path / "out/model.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_a_pickled_base_composes_only_when_allowed(tiny: Path, tmp_path: Path) -> None:
    pickled(tiny / "base", tmp_path / "base")
    text = f"base: base\nexperts: {{audio: {{source: {tiny}/audio}}}}\n"
    refused = run("compose", tmp_path, text)
    assert refused.exit_code == 2
    assert "--allow-pickle" in refused.stderr
    assert run("compose", tmp_path, text, "--allow-pickle").exit_code == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_pass_only_when_allowed(value: float, tmp_path: Path) -> None:
    for place in ("a", "b"):
        save_file({"x.weight": torch.ones(2, 3)}, tmp_path / f"{place}.safetensors")
    broken = torch.ones(2, 3)
    broken[1, 2] = value
    save_file({"x.weight": broken}, tmp_path / "b.safetensors")
    text = "layout: raw\nmodels: [{source: a.safetensors}, {source: b.safetensors}]\n"
    refused = run("merge", tmp_path, text)
    assert refused.exit_code == 2
    where = f"{tmp_path}/b.safetensors: tensor 'x.weight': found {value} at index [1, 2]"
    assert where in refused.stderr
    assert "expected finite numbers" in refused.stderr
    assert "--allow-nonfinite" in refused.stderr
    assert not (tmp_path / "out").exists()
    assert run("merge", tmp_path, text, "--allow-nonfinite").exit_code == 0
    merged = load_file(tmp_path / "out/model.safetensors")["x.weight"]
    assert not torch.isfinite(merged[1, 2])
    assert torch.isfinite(merged).sum() == 5
