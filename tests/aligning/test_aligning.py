"""Aligned models compute what they did, and permuted copies are recovered."""

import json
import sys
from pathlib import Path

import pytest
import tiny_experts
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from omnicompose.aligning import align as aligning
from omnicompose.aligning.align import AlignOptions, align
from omnicompose.aligning.matching import Axis, apply, axes_of, match, permuted
from omnicompose.aligning.prior import inject, write_prior
from omnicompose.aligning.tensors import WholeModel, read_model
from omnicompose.aligning.transport import mapping, transport
from omnicompose.errors import ExportError, PlanError, SourceError
from omnicompose.recipe_values import Source, parse_source


def source(folder: Path) -> Source:
    return parse_source(str(folder), folder)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("aligning")
    for seed, tied in ((0, False), (1, False), (2, True)):
        tiny_experts.write_base(folder / f"m{seed}", seed=seed, tie_word_embeddings=tied)
    return folder


def model_of(models: Path, name: str = "m0") -> WholeModel:
    found = read_model(source(models / name))
    # Norms of a fresh model are all 1 and would not tell a wrong permutation.
    generator = torch.Generator().manual_seed(5)
    for key, tensor in found.tensors.items():
        if tensor.dim() == 1:
            found.tensors[key] = 1.0 + 0.1 * torch.randn(tensor.shape, generator=generator)
    return found


def shuffled(model: WholeModel, seed: int = 7) -> dict[str, torch.Tensor]:
    """All sets of units in another order, query heads inside their groups too."""
    generator = torch.Generator().manual_seed(seed)
    axes = axes_of(model.tensors, model.shape)
    sizes = {
        axis.units: model.tensors[name].shape[axis.number] // axis.width
        for name, own in axes.items()
        for axis in own
    }
    orders = {units: torch.randperm(size, generator=generator) for units, size in sizes.items()}
    found = apply(model.tensors, axes, orders)
    for layer in range(model.shape.layers):
        order = torch.tensor([1, 0, 2, 3])  # the two queries of the first group change places
        for part, number in (("q_proj", 0), ("o_proj", 1)):
            name = f"model.layers.{layer}.self_attn.{part}.weight"
            axis = Axis(units="queries", number=number, width=model.shape.head_width)
            found[name] = permuted(found[name], axis, order)
    return found


def logits(models: Path, name: str, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(models / name).eval()
    model.load_state_dict(tensors, strict="lm_head.weight" in tensors)
    with torch.no_grad():
        return model(torch.arange(3, 19)[None]).logits


@pytest.mark.parametrize("name", ["m0", "m2"])
def test_a_permuted_copy_has_the_same_function_and_is_recovered(models: Path, name: str) -> None:
    model = model_of(models, name)
    copy = shuffled(model)
    expected = logits(models, name, model.tensors)
    torch.testing.assert_close(logits(models, name, copy), expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(
        copy["model.embed_tokens.weight"], model.tensors["model.embed_tokens.weight"]
    )
    found = match(model.tensors, copy, model.shape)
    for key, tensor in model.tensors.items():
        torch.testing.assert_close(found[key], tensor)


def test_matching_brings_other_models_nearer_and_keeps_their_function(models: Path) -> None:
    first, second = model_of(models, "m0"), model_of(models, "m1")
    found = match(first.tensors, second.tensors, first.shape)

    def likeness(tensors: dict[str, torch.Tensor]) -> float:
        return sum(float((first.tensors[k] * tensors[k]).sum()) for k in tensors)

    assert likeness(found) > likeness(second.tensors)
    torch.testing.assert_close(
        logits(models, "m1", found), logits(models, "m1", second.tensors), atol=1e-4, rtol=1e-4
    )


def test_a_model_is_aligned_with_itself(models: Path) -> None:
    model = model_of(models)
    found = match(model.tensors, model.tensors, model.shape)
    assert all(torch.equal(found[key], tensor) for key, tensor in model.tensors.items())


def test_exact_transport_recovers_permuted_units(models: Path) -> None:
    model = model_of(models)
    copy = dict(model.tensors)
    order = torch.randperm(48, generator=torch.Generator().manual_seed(0))
    for part, number in (("gate_proj", 0), ("up_proj", 0), ("down_proj", 1)):
        name = f"model.layers.0.mlp.{part}.weight"
        copy[name] = copy[name].index_select(number, order)
    found = transport(model.tensors, copy, model.shape)
    for key, tensor in model.tensors.items():
        torch.testing.assert_close(found[key], tensor, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("regularisation", [0.0, 0.06])
def test_transport_moves_all_of_every_unit(regularisation: float) -> None:
    generator = torch.Generator().manual_seed(1)
    first, second = (torch.randn(6, 9, generator=generator).double() for _ in range(2))
    plan = mapping(first, second, regularisation)
    ones = torch.ones(6, dtype=torch.float64)
    torch.testing.assert_close(plan.sum(0), ones, atol=1e-5, rtol=0)
    torch.testing.assert_close(plan.sum(1), ones, atol=1e-5, rtol=0)


def test_transport_without_its_library_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(PlanError, match="needs the package pot"):
        mapping(torch.eye(2).double(), torch.eye(2).double(), 0.0)


def test_a_folder_is_written_that_loads(models: Path, tmp_path: Path) -> None:
    align(source(models / "m0"), source(models / "m1"), tmp_path / "out")
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    expected = AutoModelForCausalLM.from_pretrained(models / "m1").eval()
    prompt = torch.arange(3, 19)[None]
    with torch.no_grad():
        torch.testing.assert_close(
            found(prompt).logits, expected(prompt).logits, atol=1e-4, rtol=1e-4
        )
    assert json.loads((tmp_path / "out/alignment.json").read_text())["how"] == "permutation"
    lines: list[str] = []
    with pytest.raises(ExportError, match="exists"):
        align(source(models / "m0"), source(models / "m1"), tmp_path / "out", say=lines.append)
    assert lines == []  # before any work
    (tmp_path / "out/model.safetensors").write_bytes(b"")
    align(
        source(models / "m0"), source(models / "m1"), tmp_path / "out", AlignOptions(overwrite=True)
    )
    assert load_file(tmp_path / "out/model.safetensors")


def test_another_vocabulary_keeps_shared_tokens(models: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    tiny_experts.write_base(target, seed=3, tie_word_embeddings=False, vocab_size=310)
    tiny_experts.write_tokenizer(target, ("<new>", "red three"))
    align(source(target), source(models / "m1"), tmp_path / "out", AlignOptions(how="vocabulary"))
    tables = [
        load_file(folder / "model.safetensors") for folder in (tmp_path / "out", models / "m1")
    ]
    tokenizers = [AutoTokenizer.from_pretrained(f) for f in (tmp_path / "out", models / "m1")]
    rows, own = (one["model.embed_tokens.weight"] for one in tables)
    assert len(rows) == 310
    shared = [tok.convert_tokens_to_ids("a") for tok in tokenizers]
    torch.testing.assert_close(rows[shared[0]], own[shared[1]])
    pieces = tokenizers[1]("red three", add_special_tokens=False)["input_ids"]
    joint = tokenizers[0].convert_tokens_to_ids("red three")
    torch.testing.assert_close(rows[joint], own[pieces].mean(0))
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").config.vocab_size == 310


def test_special_ids_follow_the_vocabulary_and_a_kill_leaves_no_folder(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tiny_experts.write_base(tmp_path / "target", seed=3, eos_token_id=[2, 5])
    options = AlignOptions(how="vocabulary")
    align(source(target), source(models / "m1"), tmp_path / "out", options)
    for name in ("config.json", "generation_config.json"):
        assert json.loads((tmp_path / "out" / name).read_text())["eos_token_id"] == [2, 5]

    def dying(*_given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(aligning, "_adopt_tokens", dying)
    with pytest.raises(KeyboardInterrupt):
        align(source(target), source(models / "m1"), tmp_path / "cut", options)
    assert not (tmp_path / "cut").exists()
    monkeypatch.undo()
    for path in target.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(SourceError, match="target: no tokenizer that can be read"):
        align(source(target), source(models / "m1"), tmp_path / "cut", options)


def test_what_does_not_fit_is_refused(models: Path, tmp_path: Path) -> None:
    wider = tiny_experts.write_base(tmp_path / "wider", intermediate_size=64)
    with pytest.raises(PlanError, match="Align models of one architecture"):
        align(source(models / "m2"), source(wider), tmp_path / "out")
    with pytest.raises(PlanError, match="--how: found 'magic'"):
        AlignOptions(how="magic")


def test_the_prior_points_from_vision_to_reasoning(tiny: Path, tmp_path: Path) -> None:
    other = tiny_experts.write_base(tmp_path / "reasoning", seed=4)
    out = tmp_path / "prior.safetensors"
    assert write_prior(source(other), source(tiny / "llava"), out) == 2 * 7
    found = load_file(out)
    name = "model.layers.1.mlp.down_proj.weight"
    mine = load_file(other / "model.safetensors")[name]
    base = load_file(tiny / "base/model.safetensors")[name]
    cosine = torch.cosine_similarity(found[name].flatten(), (mine - base).flatten(), dim=0)
    assert float(cosine) == pytest.approx(1.0, abs=1e-5)
    assert float(found[name].norm()) == pytest.approx(float(base.norm()), rel=1e-5)


def test_injection() -> None:
    gradient, direction = torch.tensor([3.0, 4.0]), torch.tensor([0.0, 2.0])
    for mode in ("absolute", "norm", "adaptive"):
        assert torch.equal(inject(gradient, direction, 0.0, mode), gradient)
    assert inject(gradient, direction, 1.0, "absolute").tolist() == [3.0, 2.0]
    assert inject(gradient, direction, 1.0, "norm").tolist() == [3.0, -1.0]
    adaptive = inject(gradient, direction, 1.0)
    torch.testing.assert_close(adaptive, torch.tensor([3.0, 4.0 - 0.9 * 5.0]))
    # A gradient that points away from the direction is left alone.
    torch.testing.assert_close(inject(-direction, direction, 1.0), -direction)
    assert torch.equal(inject(torch.zeros(2), direction, 1.0), torch.zeros(2))


def test_a_name_that_is_nothing_is_refused() -> None:
    from omnicompose.aligning.align import source_of

    with pytest.raises(SourceError, match="does not exist"):
        source_of("./nowhere")
