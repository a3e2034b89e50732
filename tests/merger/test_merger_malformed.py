"""Malformed inputs through the command line: tensor, file, found, expected, remedy; no traceback.

The room of tensors tests every lie of a header one by one; this is what a user gets to see.
"""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file
from typer.testing import CliRunner

from omnicompose.cli import app

WEIGHTS = {"x.weight": torch.ones(2, 3), "y.weight": torch.ones(4)}


def run(folder: Path, text: str = "") -> str:
    """What a merge of a sound model and a malformed one says; it must refuse."""
    recipe = folder / "recipe.yaml"
    recipe.write_text(f"layout: raw\nmodels: [{{source: good}}, {{source: bad}}]\n{text}")
    done = CliRunner().invoke(app, ["merge", str(recipe), "--out", str(folder / "out")])
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.stderr
    assert not (folder / "out").exists()
    return " ".join(done.stderr.split())


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for place in ("good", "bad"):
        (tmp_path / place).mkdir()
        save_file(WEIGHTS, tmp_path / place / "model.safetensors")
    return tmp_path


def file_of(models: Path) -> Path:
    return models / "bad" / "model.safetensors"


def with_header(models: Path, header: dict[str, object], data: int = 40) -> None:
    text = json.dumps(header).encode()
    file_of(models).write_bytes(struct.pack("<Q", len(text)) + text + bytes(data))


def entry(begin: int, end: int, shape: tuple[int, ...]) -> dict[str, object]:
    return {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, end]}


def truncated(models: Path) -> None:
    content = file_of(models).read_bytes()
    file_of(models).write_bytes(content[:-5])


def past_the_end(models: Path) -> None:
    with_header(models, {"x.weight": entry(0, 24, (2, 3)), "y.weight": entry(24, 424, (100,))})


def overlapping(models: Path) -> None:
    with_header(models, {"x.weight": entry(0, 24, (2, 3)), "y.weight": entry(8, 24, (4,))}, 24)


def negative(models: Path) -> None:
    with_header(models, {"x.weight": entry(-24, 0, (2, 3)), "y.weight": entry(0, 16, (4,))}, 16)


def huge(models: Path) -> None:
    file_of(models).write_bytes(struct.pack("<Q", 1 << 62) + b"{}")


def twice_in_a_header(models: Path) -> None:
    one = json.dumps(entry(0, 24, (2, 3)))
    text = f'{{"x.weight": {one}, "x.weight": {one}}}'.encode()
    file_of(models).write_bytes(struct.pack("<Q", len(text)) + text + bytes(24))


def twice_in_a_folder(models: Path) -> None:
    file_of(models).rename(models / "bad" / "a.safetensors")
    save_file({"y.weight": torch.ones(4)}, models / "bad" / "b.safetensors")


def not_a_number(models: Path) -> None:
    save_file(WEIGHTS | {"y.weight": torch.tensor([1, 2, float("nan"), 4])}, file_of(models))


def infinite(models: Path) -> None:
    save_file(WEIGHTS | {"y.weight": torch.tensor([1, -float("inf"), 3, 4])}, file_of(models))


def another_shape(models: Path) -> None:
    save_file(WEIGHTS | {"x.weight": torch.ones(3, 3)}, file_of(models))


def another_dtype(models: Path) -> None:
    save_file(WEIGHTS | {"x.weight": torch.ones(2, 3).half()}, file_of(models))


def missing(models: Path) -> None:
    save_file({"x.weight": torch.ones(2, 3)}, file_of(models))


def escaping(models: Path) -> None:
    file_of(models).rename(models / "stolen.safetensors")
    index = {"weight_map": dict.fromkeys(WEIGHTS, "../stolen.safetensors")}
    (models / "bad" / "model.safetensors.index.json").write_text(json.dumps(index))


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (os.system, ("touch pwned",))


def pickled(models: Path) -> None:
    file_of(models).unlink()
    torch.save({"x.weight": Evil()}, models / "bad" / "pytorch_model.bin")


CASES: dict[Callable[[Path], None], tuple[str, ...]] = {
    truncated: ("bad/model.safetensors", "found", "expected data within the file", "Download"),
    past_the_end: ("bad/model.safetensors", "'y.weight'", "found", "expected data", "Download"),
    overlapping: ("'y.weight'", "found overlapping", "expected data at byte", "Download"),
    negative: ("'x.weight'", "found data_offsets [-24, 0]", "expected whole numbers", "Download"),
    huge: ("found a header of 4611686018427387904 bytes", "expected at most", "Download"),
    twice_in_a_header: ("model.safetensors", "'x.weight' occurs twice", "expected", "Download"),
    twice_in_a_folder: ("b.safetensors", "'y.weight'", "expected every name once", "Remove"),
    not_a_number: ("'y.weight'", "found nan at index [2]", "expected finite", "--allow-nonfinite"),
    infinite: ("'y.weight'", "found -inf at index [1]", "expected finite", "--allow-nonfinite"),
    another_shape: ("bad: x.weight has shape [3, 3], good has [2, 3]", "one architecture"),
    another_dtype: ("x.weight: stored in different precisions", "bad: torch.float16", "`dtype:"),
    missing: ("bad: lacks 'y.weight', which good has", "one architecture"),
    escaping: ("index.json: found the file name '../stolen", "expected a plain name", "Do not use"),
    pickled: ("pytorch_model.bin", "expected safetensors", "--allow-pickle"),
}


@pytest.mark.parametrize("spoil", CASES, ids=lambda spoil: spoil.__name__)
def test_malformed_inputs_are_refused_by_name(
    spoil: Callable[[Path], None], models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(models)
    spoil(models)
    said = run(models)
    assert [part for part in CASES[spoil] if part not in said] == [], said
    assert not (models / "pwned").exists()


def test_a_pickle_that_is_allowed_still_runs_nothing(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(models)
    pickled(models)
    assert "would run code; expected tensors alone" in run(models, "allow_pickle: true\n")
    assert not (models / "pwned").exists()


def test_a_file_that_is_no_safetensors_at_all(models: Path) -> None:
    file_of(models).write_bytes(save(WEIGHTS)[:4])
    assert "found a file of 4 bytes; expected at least 8. Download" in run(models)


@pytest.mark.parametrize("tensors", [{}, {"ids": torch.arange(4)}])
def test_models_without_anything_to_merge_are_refused(models, tensors):
    for place in ("good", "bad"):
        save_file(tensors, models / place / "model.safetensors")
    assert f"found {len(tensors)} tensors, and none of them would be merged" in run(models)
