"""Files of data and of statistics: what is read, used again, added up, replaced or refused."""

import json
import os
from pathlib import Path

import pytest
import tiny_experts
import torch
from safetensors.torch import load_file

from omnicompose.errors import (
    CalibrationError,
    ExportError,
    MergeError,
    PlanError,
    SourceError,
)
from omnicompose.merger import merge
from omnicompose.merging.statistics_adding import add_statistics
from omnicompose.merging.statistics_file import StatisticsFacts, open_statistics, write_statistics
from omnicompose.recipe_values import parse_source
from omnicompose.statistics import merged
from omnicompose.statistics.collect import CollectOptions, collect
from omnicompose.statistics.prompts import read_prompts
from omnicompose.tensors.saving import save_tensors
from omnicompose.tensors.source import TensorInfo


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for seed in range(3):
        tiny_experts.write_base(folder / f"m{seed}", seed=seed)
    (folder / "a.jsonl").write_text('{"text": "what is this three"}\n{"text": "a red three"}\n')
    (folder / "b.jsonl").write_text('{"text": "what is red"}\n')
    return folder


def run(models: Path, out: Path, data: str = "a", **options: object) -> list[str]:
    lines: list[str] = []
    prompts = read_prompts(models / f"{data}.jsonl")
    source = parse_source("m1", models)
    collect(source, prompts, out, CollectOptions(**options), lines.append)  # type: ignore[arg-type]
    return lines


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "café"}\n'.encode("latin-1"), "no UTF-8"),
        (b'{"text": "a"}\n\n\nnonsense\n', ":4: found 'nonsense'"),
        (b'{"text": ""}\n', ":1: .*says and shows nothing"),
        (b'{"content": []}\n', ":1: .*says and shows nothing"),
        (b'{"content": 5}\n', ":1: "),
    ],
)
def test_data_that_cannot_be_used_are_named_by_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "data.jsonl").write_bytes(content)
    with pytest.raises(CalibrationError, match=message):
        read_prompts(tmp_path / "data.jsonl")


def test_only_line_feeds_end_a_line(tmp_path: Path) -> None:
    texts = ["one\u2028line", "two"]
    lines = (json.dumps({"text": text}, ensure_ascii=False) for text in texts)
    (tmp_path / "data.jsonl").write_text("\r\n".join(lines) + "\r\n", encoding="utf-8-sig")
    found = read_prompts(tmp_path / "data.jsonl").prompts
    assert [prompt.content for prompt in found] == [("one\u2028line",), ("two",)]
    assert [prompt.line for prompt in found] == [1, 2]


def test_what_is_there_is_used_again_and_nothing_else_is_replaced_unasked(
    models: Path, tmp_path: Path
) -> None:
    out = tmp_path / "gram.safetensors"
    assert run(models, out)[-1].startswith("block 2")
    before = out.read_bytes()
    assert run(models, out) == [f"{out}: used again"]
    with pytest.raises(CalibrationError, match="exists already, and holds something else"):
        run(models, out, "b")
    with pytest.raises(CalibrationError, match="exists already"):
        run(models, models / "m0/model.safetensors")
    assert out.read_bytes() == before
    run(models, out, "b", overwrite=True)
    assert out.read_bytes() != before
    weights = models / "m1/model.safetensors"
    os.utime(weights, (0, weights.stat().st_mtime + 1))
    with pytest.raises(CalibrationError, match="exists already, and holds something else"):
        run(models, out, "b")
    with pytest.raises(CalibrationError, match="exists already"):
        run(models, tmp_path, overwrite=True)


def test_targets_of_several_files_follow_one_another(models: Path, tmp_path: Path) -> None:
    for name in "ab":
        run(models, tmp_path / name, name, kind="targets")
    add_statistics([tmp_path / "a", tmp_path / "b"], tmp_path / "both")
    first, second, both = (load_file(tmp_path / name) for name in ("a", "b", "both"))
    assert len(both) == len(first) + len(second)
    assert torch.equal(both["logits.1"], first["logits.1"])
    assert torch.equal(both["hidden.2.1"], second["hidden.0.1"])
    assert open_statistics(tmp_path / "both").facts.num_examples == 3


def test_counts_of_layers_that_some_tokens_enter_add_up(tmp_path: Path) -> None:
    info = TensorInfo(name="w", dtype=torch.float32, shape=(2, 2))
    for name, tokens, counts in (("a", 10, {"w": 4}), ("b", 5, {})):
        facts = StatisticsFacts(
            kind="gram",
            model="m",
            num_examples=1,
            num_tokens=tokens,
            aliases={},
            data=(name,),
            counts=counts,
        )
        write_statistics(tmp_path / name, facts, {"w": info}, lambda _name: torch.eye(2))
    add_statistics([tmp_path / "a", tmp_path / "b"], tmp_path / "sum")
    measure = open_statistics(tmp_path / "sum").measure("w")
    assert measure is not None
    assert measure.count == 4 + 5


def test_what_is_no_sum_over_data_does_not_add_up(tmp_path: Path) -> None:
    info = TensorInfo(name="w", dtype=torch.float32, shape=(1,))
    facts = StatisticsFacts(
        kind="prior", model="m", num_examples=0, num_tokens=0, aliases={}, data=()
    )
    for name in "ab":
        write_statistics(tmp_path / name, facts, {"w": info}, lambda _name: torch.ones(1))
    with pytest.raises(SourceError, match="found prior, expected what `omnicompose collect`"):
        add_statistics([tmp_path / "a", tmp_path / "b"], tmp_path / "sum")


def test_a_model_without_tokenizer_or_processor_says_so(models: Path, tmp_path: Path) -> None:
    folder = tiny_experts.write_base(tmp_path / "bare")
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(CalibrationError, match="bare: no tokenizer that can be read"):
        collect(parse_source("bare", tmp_path), read_prompts(models / "a.jsonl"), tmp_path / "out")
    (models / "a.png").write_bytes(b"no picture")
    line = {"content": ["what is this?", {"type": "image", "path": "a.png"}]}
    (models / "shown.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(CalibrationError, match="m1: the data show media, and it has no processor"):
        run(models, tmp_path / "out", "shown")


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_given: object, **_named: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("omnicompose.tensors.saving.save_file", full)
    with pytest.raises(MergeError, match=r"part.safetensors: cannot be written .*No space left"):
        save_tensors({"a": torch.ones(1)}, tmp_path / "part.safetensors")
    assert not (tmp_path / "part.safetensors").exists()


def recipe(models: Path, folder: Path) -> Path:
    entries = "".join(
        f"\n  - {{source: {models}/m{i}, name: m{i}, data: {models}/{data}.jsonl}}"
        for i, data in ((1, "a"), (2, "b"))
    )
    path = folder / "recipe.yaml"
    path.write_text(f"base: {models}/m0\nmethod: regmean_plus_plus\nmodels:{entries}\n")
    return path


def test_grams_along_the_merge_go_on_after_a_kill_and_are_used_again(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = recipe(models, tmp_path)
    merge(path, tmp_path / "whole")
    real, calls = merged.run_block, []

    def dying(*given: object) -> object:
        calls.append(given)
        if len(calls) == 8:  # three prompts measured and merged in block 0, one in block 1
            raise KeyboardInterrupt
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(merged, "run_block", dying)
    with pytest.raises(KeyboardInterrupt):
        merge(path, tmp_path / "cut")
    lines: list[str] = []
    merge(path, tmp_path / "cut", say=lines.append)
    assert lines[0].startswith("block 2 of 2")
    for name in ("m1", "m2"):
        files = (
            tmp_path / f"{out}.statistics/{name}.merged_gram.safetensors"
            for out in ("whole", "cut")
        )
        first, second = map(load_file, files)
        assert all(torch.equal(first[key], second[key]) for key in first | second)
    count = len(calls)
    (tmp_path / "cut").rename(tmp_path / "earlier")
    merge(path, tmp_path / "cut", say=lines.append)
    assert lines[-1].endswith("used again")
    assert len(calls) == count


def test_results_are_not_written_over_a_users_files(models: Path, tmp_path: Path) -> None:
    from omnicompose.commands.aligning import prior
    from omnicompose.commands.collecting import add_statistics as add

    weights = models / "m1/model.safetensors"
    before = weights.read_bytes()
    with pytest.raises(ExportError, match="exists already"):
        prior(str(models / "m2"), str(models / "m1"), weights)
    with pytest.raises(ExportError, match="exists already"):
        add([weights], weights)
    assert weights.read_bytes() == before


@pytest.mark.parametrize(
    ("base", "first", "message"),
    [
        ("m0", "weight: 1", "measures its models, and m1 give neither `data:` nor `statistics:`"),
        ("wider", "data: {models}/a.jsonl", "must be fine-tunes of one architecture"),
    ],
)
def test_what_cannot_be_merged_is_not_measured(
    models: Path, tmp_path: Path, base: str, first: str, message: str
) -> None:
    tiny_experts.write_base(tmp_path / "wider", intermediate_size=64)
    place = models if base == "m0" else tmp_path
    field = first.format(models=models)
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"base: {place}/{base}\nmethod: fisher\nmodels:\n"
        f"  - {{source: {models}/m1, name: m1, {field}}}\n"
        f"  - {{source: {models}/m2, name: m2, data: {models}/b.jsonl}}\n"
    )
    lines: list[str] = []
    with pytest.raises((CalibrationError, PlanError), match=message):
        merge(path, tmp_path / "out", say=lines.append)
    assert lines == []


def test_statistics_of_another_shape_are_refused(models: Path, tmp_path: Path) -> None:
    tiny_experts.write_base(tmp_path / "wider", intermediate_size=64)
    for kind in ("fisher", "gram"):
        file = tmp_path / f"{kind}.safetensors"
        prompts = read_prompts(models / "b.jsonl")
        collect(parse_source("wider", tmp_path), prompts, file, CollectOptions(kind=kind))
        path = tmp_path / "recipe.yaml"
        method = "fisher" if kind == "fisher" else "regmean"
        entries = "".join(f"\n  - {{source: {models}/m{i}, statistics: {file}}}" for i in (1, 2))
        path.write_text(f"base: {models}/m0\nmethod: {method}\nmodels:{entries}\n")
        with pytest.raises(MergeError, match=r"found .* of shape .*Collect the statistics"):
            merge(path, tmp_path / "out")
