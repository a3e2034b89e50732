"""Statistics collected block by block are those of the whole model, and survive a kill."""

import json
from pathlib import Path

import pytest
import tiny_experts
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from omnicompose.errors import CalibrationError, PlanError, SourceError
from omnicompose.merger import merge
from omnicompose.merging.statistics_adding import add_statistics
from omnicompose.merging.statistics_file import (
    StatisticsFacts,
    open_statistics,
    write_statistics,
)
from omnicompose.recipe_values import parse_source
from omnicompose.statistics import collect as collecting
from omnicompose.statistics.collect import CollectOptions, collect
from omnicompose.statistics.prompts import read_prompts
from omnicompose.tensors.source import TensorInfo

TEXTS = ("what is this? a red three", "a red three is what", "this three")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for seed in range(3):
        tiny_experts.write_base(folder / f"m{seed}", seed=seed, tie_word_embeddings=False)
    for name, texts in (("a", TEXTS), ("b", TEXTS[:2]), ("c", TEXTS[2:])):
        lines = (json.dumps({"text": text}) for text in texts)
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    turn = {"content": "what is this?", "reply": "a three"}
    (folder / "turns.jsonl").write_text(json.dumps(turn) + "\n")
    return folder


def run(models: Path, out: Path, data: str = "a", **options: object) -> dict[str, torch.Tensor]:
    prompts = read_prompts(models / f"{data}.jsonl")
    source = parse_source("m1", models)
    collect(source, prompts, out, CollectOptions(**options))  # type: ignore[arg-type]
    return load_file(out)


def whole(models: Path) -> tuple[torch.nn.Module, list[torch.Tensor]]:
    model = AutoModelForCausalLM.from_pretrained(models / "m1").eval()
    tokenizer = AutoTokenizer.from_pretrained(models / "m1")
    return model, [tokenizer(text, return_tensors="pt")["input_ids"] for text in TEXTS]


def test_grams_are_those_of_the_whole_model(models: Path, tmp_path: Path) -> None:
    found = run(models, tmp_path / "gram.safetensors")
    model, prompts = whole(models)
    sums: dict[str, torch.Tensor] = {}

    def watch(name: str):
        def hook(_layer, given):
            rows = given[0].reshape(-1, given[0].shape[-1])
            sums[name] = sums.get(name, 0) + rows.T @ rows

        return hook

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(watch(f"{name}.weight"))
    with torch.no_grad():
        for ids in prompts:
            model(ids)
    opened = open_statistics(tmp_path / "gram.safetensors", "gram")
    for name, expected in sums.items():
        measure = opened.measure(name)
        assert measure is not None
        torch.testing.assert_close(found[measure.ref.name], expected, atol=1e-4, rtol=1e-4)
    # q, k and v read one input, gate and up another: 4 sums per block, and the head's.
    assert len(found) == 2 * 4 + 1
    assert opened.facts.num_tokens == sum(ids.shape[1] for ids in prompts)
    assert not (tmp_path / ".gram.safetensors.collecting").exists()


def test_sums_over_parts_of_the_data_add_up(models: Path, tmp_path: Path) -> None:
    every = run(models, tmp_path / "all.safetensors")
    for part in "bc":
        run(models, tmp_path / f"{part}.safetensors", part)
    paths = [tmp_path / "b.safetensors", tmp_path / "c.safetensors"]
    add_statistics(paths, tmp_path / "sum.safetensors")
    for name, total in load_file(tmp_path / "sum.safetensors").items():
        torch.testing.assert_close(total, every[name], atol=1e-4, rtol=1e-4)
    facts = [open_statistics(tmp_path / f"{n}.safetensors").facts for n in ("sum", "all")]
    assert facts[0].num_tokens == facts[1].num_tokens
    with pytest.raises(SourceError, match="its data are in another"):
        add_statistics([paths[0], paths[0]], tmp_path / "twice.safetensors")


def test_fisher_is_the_square_of_each_examples_gradient(models: Path, tmp_path: Path) -> None:
    found = run(models, tmp_path / "f.safetensors", kind="fisher", labels="given")
    model, prompts = whole(models)
    expected = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for ids in prompts:
        model.zero_grad()
        log_p = model(ids).logits.log_softmax(-1)[0, :-1]
        log_p.gather(1, ids[0, 1:, None]).sum().backward()
        for name, parameter in model.named_parameters():
            expected[name] += parameter.grad.square()
    del expected["model.embed_tokens.weight"]
    assert found.keys() == expected.keys()
    for name, squares in expected.items():
        torch.testing.assert_close(found[name], squares, atol=1e-5, rtol=1e-3)


def test_sampled_labels_depend_on_the_seed_alone(models: Path, tmp_path: Path) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    once, again, other = (
        run(models, tmp_path / f"{i}.safetensors", kind="fisher", seed=seed)[name]
        for i, seed in enumerate((0, 0, 1))
    )
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


def test_targets_are_the_last_positions(models: Path, tmp_path: Path) -> None:
    found = run(models, tmp_path / "t.safetensors", kind="targets")
    model, prompts = whole(models)
    with torch.no_grad():
        output = model(prompts[1], output_hidden_states=True)
    torch.testing.assert_close(found["logits.1"], output.logits[0, -1], atol=1e-4, rtol=1e-4)
    for layer in (0, 1):
        expected = output.hidden_states[layer][0, -1]
        torch.testing.assert_close(found[f"hidden.1.{layer}"], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["gram", "fisher"])
def test_a_killed_run_goes_on(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    expected = run(models, tmp_path / "whole.safetensors", kind=kind)
    name = "run_block" if kind == "gram" else "block_squares"
    real, calls = getattr(collecting, name), []

    def dying(*given: object) -> object:
        calls.append(given)
        if len(calls) > (4 if kind == "gram" else 1):
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(collecting, name, dying)
    with pytest.raises(KeyboardInterrupt):
        run(models, tmp_path / "cut.safetensors", kind=kind)
    monkeypatch.undo()
    assert not (tmp_path / "cut.safetensors").exists()
    with pytest.raises(CalibrationError, match="work of another collection"):
        run(models, tmp_path / "cut.safetensors", "b", kind=kind)
    found = run(models, tmp_path / "cut.safetensors", kind=kind)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)


def recipe(models: Path, method: str, *fields: str) -> Path:
    entries = "".join(
        f"\n  - {{source: {models}/m{i + 1}, name: m{i + 1}, {field}}}"
        for i, field in enumerate(fields)
    )
    path = models / f"{method}.yaml"
    path.write_text(f"base: {models}/m0\nmethod: {method}\nmodels:{entries}\n")
    return path


@pytest.mark.parametrize("method", ["regmean", "fisher", "regmean_plus_plus"])
def test_a_merge_collects_what_its_method_needs(models: Path, tmp_path: Path, method: str) -> None:
    path = recipe(models, method, f"data: {models}/b.jsonl", f"data: {models}/c.jsonl")
    merge(path, tmp_path / "out")
    files = sorted(file.name for file in (tmp_path / "out.statistics").glob("*.safetensors"))
    assert len(files) == 2
    merged = load_file(tmp_path / "out/model.safetensors")
    mean = {
        name: (tensor + load_file(models / "m2/model.safetensors")[name]) / 2
        for name, tensor in load_file(models / "m1/model.safetensors").items()
    }
    name = "model.layers.1.mlp.down_proj.weight"
    assert not torch.allclose(merged[name], mean[name], atol=1e-3)
    embedding = "model.embed_tokens.weight"
    torch.testing.assert_close(merged[embedding], mean[embedding])
    assert torch.isfinite(merged[name]).all()


def test_grams_along_the_merge_begin_like_the_models_own(models: Path, tmp_path: Path) -> None:
    """One model alone is its own merge: then both kinds of Gram are one."""
    path = recipe(models, "regmean_plus_plus", f"data: {models}/a.jsonl")
    merge(path, tmp_path / "out")
    own = run(models, tmp_path / "gram.safetensors")
    along = load_file(tmp_path / "out.statistics/m1.merged_gram.safetensors")
    for name, total in along.items():
        torch.testing.assert_close(total, own[name], atol=1e-3, rtol=1e-3)


def test_a_method_without_statistics_says_how_to_get_them(models: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"needs statistics .gram. of m1, m2.*omnicompose collect"):
        merge(recipe(models, "regmean", "weight: 1", "weight: 1"), tmp_path / "out")
    with pytest.raises(PlanError, match=r"merged_gram.*give every model its `data:`"):
        merge(recipe(models, "regmean_plus_plus", "weight: 1", "weight: 1"), tmp_path / "out")


def test_statistics_of_another_kind_are_refused(models: Path, tmp_path: Path) -> None:
    file = tmp_path / "f.safetensors"
    run(models, file, kind="fisher")
    path = recipe(models, "regmean", f"statistics: {file}", f"statistics: {file}")
    with pytest.raises(SourceError, match="found fisher, expected gram"):
        merge(path, tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file of calibration data"),
        ("", "found no examples"),
        ("nonsense", "1: found 'nonsense'"),
        ('{"content": [{"type": "smell", "path": "x"}]}', "type is none of"),
        ('{"content": [{"type": "image", "path": "x.png"}]}', "does not exist"),
    ],
)
def test_bad_data_are_refused(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "data.jsonl"
    if content is not None:
        file.write_text(content)
    with pytest.raises(CalibrationError, match=message):
        read_prompts(file)


def test_labels_that_are_not_there_are_missed(models: Path, tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text('{"content": "what is this?"}\n')
    options = CollectOptions(kind="fisher", labels="given")
    source = parse_source("m1", models)
    with pytest.raises(CalibrationError, match=r"line 1 has no `reply` .1 of 1"):
        collect(source, read_prompts(file), tmp_path / "out", options)


def test_attention_wants_media(models: Path, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="line 1 shows no media"):
        run(models, tmp_path / "out", "turns", kind="attention")


@pytest.mark.parametrize(
    ("options", "message"), [({"kind": "x"}, "--what"), ({"labels": "x"}, "--labels")]
)
def test_unknown_words_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        CollectOptions(**options)


def test_frank_reads_the_attention_of_its_first_model(models: Path, tmp_path: Path) -> None:
    file = tmp_path / "attention.safetensors"
    table = torch.tensor([[0.4, 0.6], [0.1, 0.9]])
    facts = StatisticsFacts(
        kind="attention", model="m1", num_examples=1, num_tokens=9, aliases={}, data=("x",)
    )
    info = TensorInfo(name="attention", dtype=torch.float32, shape=(2, 2))
    write_statistics(file, facts, {"attention": info}, lambda _name: table)
    path = recipe(models, "frank", f"statistics: {file}", "weight: null")
    merge(path, tmp_path / "out")
    base, first, second, merged = (
        load_file(folder / "model.safetensors")
        for folder in (models / "m0", models / "m1", models / "m2", tmp_path / "out")
    )
    block = [name for name in base if name.startswith("model.layers.0.")]
    sizes = [
        sum(float((one[name] - base[name]).square().sum()) for name in block)
        for one in (first, second)
    ]
    vision = 0.4 / (0.4 + 0.1)  # two points lie on their own line
    share = vision * sizes[0] / (vision * sizes[0] + (1 - vision) * sizes[1])
    name = "model.layers.0.mlp.up_proj.weight"
    expected = base[name] + share * (first[name] - base[name])
    expected += (1 - share) * (second[name] - base[name])
    torch.testing.assert_close(merged[name], expected, atol=1e-5, rtol=1e-5)
