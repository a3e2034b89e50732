"""Streams as `compose` writes them: every form says the same, and the manifest says how near."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from streams_build import BOTH, LAYER, NAME, SINGLE, facts, load, logits
from transformers import (
    AutoModelForMultimodalLM,
)

from omnicompose.streams import MaskedStream, unpack_mask


def delta(tiny: Path, file: str, inside: str = "") -> torch.Tensor:
    factors = load_file(tiny / file / "adapter_model.safetensors")
    path = f"base_model.model.model.{inside}{NAME}"
    return 2.0 * factors[f"{path}.lora_B.weight"] @ factors[f"{path}.lora_A.weight"]


def base(tiny: Path) -> torch.Tensor:
    return load_file(tiny / "base/model.safetensors")[f"model.{NAME}.weight"]


EXACT = BOTH + "modality: exact\n"
MASKED = SINGLE + "modality: masked\ntext: {method: ties}\n"
EMR = SINGLE + "modality: emr\n"


def test_exact_streams_are_the_same_as_factors_and_as_matrices(built) -> None:
    factored = built(EXACT + "streams: {storage: factored}\n")
    dense = built(EXACT + "streams: {storage: dense}\n")
    assert facts(factored)["audio"]["form"] == "factored"
    assert facts(dense)["audio"]["form"] == "dense"
    for modalities in (("image",), ("audio",), ("audio", "image"), ()):
        torch.testing.assert_close(
            logits(factored, *modalities), logits(dense, *modalities), rtol=1e-5, atol=1e-5
        )


def test_the_automatic_choice_takes_the_smaller_and_says_why(built) -> None:
    chosen = facts(built(EXACT))["audio"]
    factored = facts(built(EXACT + "streams: {storage: factored}\n"))["audio"]
    dense = facts(built(EXACT + "streams: {storage: dense}\n"))["audio"]
    assert chosen["bytes"] == min(factored["bytes"], dense["bytes"])
    assert f"factors of rank {factored['rank']} hold it exactly in" in chosen["why"]
    assert "more products; dense matrices take" in chosen["why"]


@pytest.mark.parametrize("rank", [1, 3])
def test_a_truncated_stream_is_the_nearest_of_its_rank(tiny: Path, built, rank: int) -> None:
    folder = built(EXACT + f"streams: {{rank: {rank}}}\n")
    tensors = load_file(folder / "model.safetensors")
    own = base(tiny) + delta(tiny, "audio-decoupled/modality")
    difference = own - tensors[f"{LAYER}.weight"]
    ours = tensors[f"{LAYER}.streams.audio.lora_B"] @ tensors[f"{LAYER}.streams.audio.lora_A"]
    u, s, v = torch.linalg.svd(difference.double())
    nearest = (u[:, :rank] * s[:rank]) @ v[:rank]
    torch.testing.assert_close(ours.double(), nearest, rtol=1e-4, atol=1e-6)
    stated = facts(folder)["audio"]
    error = float((difference - ours).norm() / difference.norm())
    assert stated["relative_error"][f"{LAYER}.streams.audio"] == pytest.approx(error, rel=1e-4)
    assert 0 < stated["relative_error"]["all"] < 1
    assert f"truncated to the rank {rank} that the recipe asks for" in stated["why"]


def test_a_rank_that_is_enough_stays_exact(built) -> None:
    folder = built(EXACT + "streams: {rank: 40}\n")
    assert facts(folder)["audio"]["rank"] == 12
    assert "relative_error" not in facts(folder)["audio"]


def test_roles_and_layers_limit_what_is_decoupled(built) -> None:
    folder = built(EXACT + "streams: {roles: [mlp, q_proj], layers: [1]}\n")
    names = {
        name.split(".streams.")[0].removeprefix("model.language_model.")
        for name in load_file(folder / "model.safetensors")
        if ".streams." in name
    }
    roles = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "self_attn.q_proj")
    assert names == {f"layers.1.{role}" for role in roles}


def test_packed_masks_are_the_masked_matrices(tiny: Path, built) -> None:
    packed, dense = built(MASKED), built(MASKED + "streams: {storage: dense}\n")
    assert facts(packed)["audio"]["form"] == "masked"
    state, tensors = load(packed), load_file(dense / "model.safetensors")
    layers = dict(state.named_modules())
    for modality in ("image", "audio"):
        stream = layers[f"{LAYER}.streams.{modality}"]
        assert isinstance(stream, MaskedStream)
        torch.testing.assert_close(
            stream.weight_from(layers[LAYER].weight, layers[LAYER].base_weight),
            tensors[f"{LAYER}.streams.{modality}.weight"],
        )
        assert float(stream.mask_scale) == 1.0
    for modalities in (("image",), ("audio", "image"), ()):
        torch.testing.assert_close(
            logits(packed, *modalities), logits(dense, *modalities), rtol=1e-5, atol=1e-5
        )


def test_the_manifest_states_density_and_error_of_a_mask(tiny: Path, built) -> None:
    folder = built(MASKED + "streams: {roles: [up_proj], layers: [1]}\n")
    tensors = load_file(folder / "model.safetensors")
    own = delta(tiny, "audio/adapter")
    merged = tensors[f"{LAYER}.weight"] - base(tiny)
    kept = (own.abs() > (merged - own).abs()) & (own * merged > 0)
    mask = unpack_mask(tensors[f"{LAYER}.streams.audio.mask"], own.shape)
    assert float((mask == kept).float().mean()) > 0.99
    stated = facts(folder)["audio"]
    assert stated["density"] == pytest.approx(float(mask.float().mean()), rel=1e-5)
    error = float((own - mask * merged).abs().sum() / own.abs().sum())
    assert stated["l1_error"] == pytest.approx(error, rel=1e-4)
    other = facts(built(MASKED + "streams: {roles: [up_proj], layers: [1], storage: dense}\n"))
    assert other["audio"]["density"] == stated["density"]


def test_a_threshold_of_an_experts_own_changes_its_mask_alone(built) -> None:
    text = MASKED.replace("{source: @audio}", "{source: @audio, mask_threshold: 0.3}")
    before, after = facts(built(MASKED)), facts(built(text))
    assert after["audio"]["density"] > before["audio"]["density"]
    assert after["image"]["density"] == before["image"]["density"]


def emr_by_hand(tiny: Path) -> tuple[torch.Tensor, list[torch.Tensor], list[float]]:
    """Shared delta, masks, and scales over every decoupled matrix."""
    files = (("image", "language_model."), ("audio/adapter", ""))
    factors = [load_file(tiny / file / "adapter_model.safetensors") for file, _ in files]
    sums = torch.zeros(2, 2, dtype=torch.float64)
    modules = [key.removesuffix(".lora_A.weight") for key in factors[1] if "lora_A" in key]
    found = {}
    for module in modules:
        path = module.removeprefix("base_model.model.model.")
        deltas = [
            2.0 * f[f"{key}.lora_B.weight"] @ f[f"{key}.lora_A.weight"]
            for f, key in zip(
                factors, (f"base_model.model.model.{i}{path}" for _, i in files), strict=True
            )
        ]
        sign = torch.where(sum(deltas) > 0, 1.0, -1.0)
        shared = sign * torch.stack([(d * sign).clamp(min=0) for d in deltas]).amax(0)
        masks = [d * shared > 0 for d in deltas]
        sums[:, 0] += torch.tensor([float(d.abs().sum(dtype=torch.float64)) for d in deltas])
        sums[:, 1] += torch.tensor(
            [float((m * shared).abs().sum(dtype=torch.float64)) for m in masks]
        )
        found[path] = (shared, masks)
    return *found[NAME], (sums[:, 0] / sums[:, 1]).tolist()


def test_emr_streams_are_its_formula(tiny: Path, built) -> None:
    folder = built(EMR)
    tensors = load_file(folder / "model.safetensors")
    shared, masks, scales = emr_by_hand(tiny)
    for modality, mask, scale in zip(("image", "audio"), masks, scales, strict=True):
        expected = base(tiny) + scale * mask * shared
        torch.testing.assert_close(
            tensors[f"{LAYER}.streams.{modality}.weight"], expected, rtol=1e-5, atol=1e-6
        )
    assert "EMR's shared delta is not in the text weights" in facts(folder)["image"]["why"]
    assert 0 < facts(folder)["image"]["density"] < 1


def test_emr_packs_where_the_text_holds_its_shared_delta(built) -> None:
    packed = built(EMR + "text: {method: emr}\n")
    dense = built(EMR + "text: {method: emr}\nstreams: {storage: dense}\n")
    assert facts(packed)["audio"]["form"] == "masked"
    for modalities in (("image",), ("audio", "image"), ()):
        torch.testing.assert_close(
            logits(packed, *modalities), logits(dense, *modalities), rtol=1e-5, atol=1e-5
        )


def test_packed_masks_survive_bfloat16_and_saving_again(built, tmp_path: Path) -> None:
    folder = built(EMR + "text: {method: emr}\n")
    model = AutoModelForMultimodalLM.from_pretrained(folder, dtype=torch.bfloat16)
    stream = model.get_submodule(f"{LAYER}.streams.audio")
    assert stream.mask.dtype == torch.uint8 and stream.mask_scale.dtype == torch.float32
    assert model.get_submodule(LAYER).base_weight.dtype == torch.bfloat16
    load(folder).save_pretrained(tmp_path / "again")
    first, second = (load_file(f / "model.safetensors") for f in (folder, tmp_path / "again"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
