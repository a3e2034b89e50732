"""`omnicompose verify` computes rows again: it finds what rewritten hashes would hide."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from omnicompose.cli import app
from omnicompose.composer import compose
from omnicompose.errors import ExportError
from omnicompose.merger import merge
from omnicompose.merging.job import Copy, TensorRef
from omnicompose.merging.recomputing import first_difference, sample
from omnicompose.recipe import ComposeRecipe, MergeRecipe, recipe_from_manifest
from omnicompose.tensors.memory import MemorySource
from omnicompose.tensors.source import TensorInfo
from omnicompose.verification import recompute

METHODS = ("linear", "ties", "dare_ties", "tsv", "emr", "karcher")


def verify(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["verify", *map(str, arguments)])


def make_merge(folder: Path, method: str, more: str = "") -> Path:
    """base, m0 and m1 of some tensors, merged in bf16."""
    for number, place in enumerate(("base", "m0", "m1")):
        generator = torch.Generator().manual_seed(number)
        tensors = {
            "a.weight": torch.randn(40, 24, generator=generator),
            "b.weight": torch.randn(64, 8, generator=generator),
            "b.bias": torch.randn(64, generator=generator),
            "empty": torch.zeros(0, 4),
            "steps": torch.arange(9),
        }
        (folder / place).mkdir()
        save_file(tensors, folder / place / "model.safetensors")
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        f"layout: raw\nbase: base\nmodels: [{{source: m0}}, {{source: m1}}]\nmethod: {method}\n"
        "dtype: bfloat16\nseed: 3\n" + more
    )
    merge(recipe, folder / "out")
    return folder / "out"


def rewrite_hash(folder: Path, name: str = "model.safetensors") -> None:
    """What somebody does who hides a change from the hashes."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    content = (folder / name).read_bytes()
    for record in manifest["outputs"]:
        if record["path"] == name:
            record |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    path.write_text(json.dumps(manifest))


def change(folder: Path, name: str, factor: float) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors[name] = (tensors[name].float() * factor).to(tensors[name].dtype)
    save_file(tensors, folder / "model.safetensors")
    rewrite_hash(folder)


@pytest.mark.parametrize("method", METHODS)
def test_every_kind_of_method_is_computed_again(method: str, tmp_path: Path) -> None:
    out = make_merge(tmp_path, method)
    done = verify(out)
    assert done.exit_code == 0, done.stderr
    assert "of 4 of 5 tensors were computed from the inputs again" in done.stderr
    change(out, "b.weight", 1.03)
    wrong = verify(out)
    assert wrong.exit_code == 2
    assert "tensor 'b.weight': found" in wrong.stderr
    assert "computed from the inputs again" in wrong.stderr


def test_a_flipped_byte_is_found_by_its_hash_and_behind_a_new_hash(tmp_path: Path) -> None:
    out = make_merge(tmp_path, "linear")
    content = bytearray((out / "model.safetensors").read_bytes())
    content[-1] ^= 0x40
    (out / "model.safetensors").write_bytes(content)
    assert "its sha256 is not the manifest's" in verify(out).stderr
    rewrite_hash(out)
    assert verify(out, "--hashes-only").exit_code == 0
    wrong = verify(out)
    assert wrong.exit_code == 2
    assert "expected" in wrong.stderr
    assert "computed from the inputs again" in wrong.stderr


def test_another_recipe_in_the_manifest_is_found(tmp_path: Path) -> None:
    out = make_merge(tmp_path, "ties")
    path = out / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["recipe"]["parameters"] = {"density": 0.9}
    path.write_text(json.dumps(manifest))
    assert "its recipe gives another plan than the one recorded" in verify(out).stderr


def test_inputs_that_are_gone_are_said_and_nothing_is_claimed(tmp_path: Path) -> None:
    out = make_merge(tmp_path, "linear")
    moved = tmp_path / "elsewhere" / "out"
    moved.parent.mkdir()
    shutil.move(out, moved)
    gone = verify(moved)
    assert gone.exit_code == 2
    assert "no row could be computed again: the inputs are not there" in gone.stderr
    assert "--inputs" in gone.stderr
    assert "--hashes-only" in gone.stderr
    assert verify(moved, "--hashes-only").exit_code == 0
    assert verify(moved, "--inputs", tmp_path).exit_code == 0

    tensors = load_file(tmp_path / "m1/model.safetensors")
    save_file(tensors | {"b.bias": tensors["b.bias"] + 1}, tmp_path / "m1/model.safetensors")
    changed = verify(moved, "--inputs", tmp_path)
    assert changed.exit_code == 2
    assert "m1/model.safetensors has another content than the manifest says" in changed.stderr


def test_a_composite_is_computed_again(tiny: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"base: {tiny}/base\nexperts: {{image: {{source: {tiny}/image}}, audio: {{source: "
        f"{tiny}/audio-decoupled}}}}\ntext: {{method: ties}}\nmodality: exact\n"
    )
    compose(recipe, tmp_path / "out")
    found = recompute(tmp_path / "out", every_tensor=True)
    assert found.num_checked == found.num_tensors
    change(tmp_path / "out", "model.audio_connector.queries", 1.01)
    with pytest.raises(ExportError, match=r"tensor 'model\.audio_connector\.queries': found"):
        recompute(tmp_path / "out")


def test_the_sample_is_the_same_for_everybody_and_never_empty(tmp_path: Path) -> None:
    make_merge(tmp_path, "tsv")
    from omnicompose.plan import make_merge_plan
    from omnicompose.recipe import read_merge_recipe

    jobs = make_merge_plan(read_merge_recipe(tmp_path / "recipe.yaml")).plan.jobs
    first, again = (sample(jobs, "seed", 1) for _ in range(2))
    assert first == again
    assert first != sample(jobs, "another", 1)
    # One tensor that must be read whole, and the copy, whose rows are cheap.
    assert len({span.job.output.name for span in first}) == 2
    assert {span.job.output.name for span in sample(jobs, "seed", None)} > {
        span.job.output.name for span in first
    }


def test_large_tensors_are_sampled_by_rows() -> None:
    job = Copy(
        output=TensorInfo(name="x", dtype=torch.float32, shape=(5000, 100)),
        tensor=TensorRef(source=MemorySource("m", {"x": torch.zeros(5000, 100)}), name="x"),
    )
    spans = sample([job], "seed", 1)
    assert [span.count for span in spans] == [100] * len(spans)
    assert 2 <= len(spans) <= 4
    assert all(span.start % 100 == 0 for span in spans)


def test_rounding_of_another_machine_is_no_difference() -> None:
    exact = torch.linspace(0.5, 1.0, 400)
    assert first_difference(exact, exact * (1 + 3e-7)) is None
    assert first_difference(exact, exact * 1.001) == 0
    half = exact.bfloat16()
    border = half.clone()
    border[7] = torch.nextafter(half[7].double(), torch.tensor(2.0)).bfloat16() + 2**-8
    assert first_difference(border, half) is None
    assert first_difference(half * 1.01, half) is not None
    assert first_difference(torch.tensor([1, 2]), torch.tensor([1, 3])) == 1
    nan = torch.tensor([float("nan"), 1.0])
    assert first_difference(nan, nan) is None
    assert first_difference(torch.tensor([0.0, 1.0]), nan) == 0


@pytest.mark.parametrize("name", ["naive-standard", "ties-masked", "merge-adapters"])
def test_a_recipe_comes_back_from_its_manifest(name: str) -> None:
    from omnicompose.recipe import read_recipe
    from omnicompose.shelf import config_path

    recipe = read_recipe(config_path(f"{name}.yaml"))
    data = json.loads(json.dumps(recipe.model_dump(mode="json")))
    again = recipe_from_manifest(data, Path.cwd())
    assert isinstance(again, ComposeRecipe | MergeRecipe)
    assert again == recipe


def test_a_link_is_read_and_not_believed(tmp_path: Path) -> None:
    out = make_merge(tmp_path, "linear")
    manifest = json.loads((out / "manifest.json").read_text())
    (record,) = (r for r in manifest["outputs"] if r["path"] == "model.safetensors")
    content = bytearray((out / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "blobs").mkdir()
    blob = tmp_path / "blobs" / record["sha256"]
    blob.write_bytes(content)
    (out / "model.safetensors").unlink()
    (out / "model.safetensors").symlink_to(blob)
    found = verify(out, "--hashes-only")
    assert found.exit_code == 2
    assert "its sha256 is not the manifest's" in found.output


@pytest.mark.parametrize(
    "name", ["extra.safetensors", "modeling.py", "model.safetensors.index.json"]
)
def test_files_that_loading_may_read_must_be_listed(tmp_path: Path, name: str) -> None:
    out = make_merge(tmp_path, "linear")
    (out / name).write_text("{}")
    found = verify(out, "--hashes-only")
    assert found.exit_code == 2
    assert f"{name}: not in the manifest" in found.output.replace("\n", " ")


@pytest.mark.parametrize(
    "change", [{"format_version": 99}, {"format": "other"}, {"outputs": [{"bytes": "abc"}]}]
)
def test_a_manifest_of_another_kind_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    out = make_merge(tmp_path, "linear")
    manifest = json.loads((out / "manifest.json").read_text()) | change
    (out / "manifest.json").write_text(json.dumps(manifest))
    found = verify(out, "--hashes-only")
    assert found.exit_code == 2
    assert "not a manifest of ours" in found.output
