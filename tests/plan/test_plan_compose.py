"""Plans of composites: every tensor once, the right treatment, clear refusals."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from omnicompose.errors import PlanError, RecipeError, SourceError
from omnicompose.merging.job import Copy, Factors, Merge
from omnicompose.plan import CompositePlan, make_plan
from omnicompose.recipe import read_compose_recipe

EXPERTS = "experts: {image: {source: image}, audio: {source: audio}}\n"


def plan_of(folder: Path, text: str) -> CompositePlan:
    path = folder / "recipe.yaml"
    path.write_text("base: base\n" + text)
    return make_plan(read_compose_recipe(path))


def job_of(plan: CompositePlan, name: str) -> object:
    return next(entry.job for entry in plan.plan.entries if entry.output.name == name)


QUERY = "model.language_model.layers.0.self_attn.q_proj.weight"


def test_every_tensor_on_disk_is_listed_once_and_has_a_fate(tiny: Path) -> None:
    described = plan_of(tiny, EXPERTS).to_json()
    tensors = [one["tensor"] for one in described["inputs"]]
    assert len(set(tensors)) == len(tensors)
    on_disk = 0
    for file in ("base/model", "llava/model", "image/adapter_model", "audio/connector"):
        with safe_open(tiny / f"{file}.safetensors", "pt") as opened:
            on_disk += len(opened.keys())
    for file in ("audio/adapter/adapter_model", "audio/encoder/model"):
        with safe_open(tiny / f"{file}.safetensors", "pt") as opened:
            on_disk += len(opened.keys())
    assert len(tensors) == on_disk
    assert all(bool(one["outputs"]) != ("dropped" in one) for one in described["inputs"])
    outputs = [one["name"] for one in described["outputs"]]
    assert len(set(outputs)) == len(outputs)


def test_roles_get_their_own_treatment(tiny: Path) -> None:
    plan = plan_of(tiny, EXPERTS + "text: {method: ties, parameters: {density: 0.5}}\n")
    query = job_of(plan, QUERY)
    assert isinstance(query, Merge)
    assert query.method.spec.name == "ties"
    assert query.parameters["density"] == 0.5
    assert query.weights == (0.5, 0.5)
    norm = job_of(plan, "model.language_model.layers.0.input_layernorm.weight")
    assert isinstance(norm, Merge)
    assert norm.method.spec.name == "task_arithmetic"
    assert isinstance(job_of(plan, "model.language_model.embed_tokens.weight"), Copy)
    assert isinstance(job_of(plan, "model.image_encoder.tower.post_layernorm.weight"), Copy)


def test_an_override_wins_over_the_role(tiny: Path) -> None:
    plan = plan_of(tiny, EXPERTS + 'overrides: [{match: "*.q_proj.*", policy: base}]\n')
    assert isinstance(job_of(plan, QUERY), Copy)


@pytest.mark.parametrize(
    ("weight", "expected"), [("[0, 1]", 0.0), ("0.25", 0.25), ('{"*.q_proj.*": 3, "*": 1}', 3.0)]
)
def test_coefficients_are_constant_over_depth_or_from_a_table(
    tiny: Path, weight: str, expected: float
) -> None:
    plan = plan_of(
        tiny, f"experts: {{image: {{source: image, weight: {weight}}}, audio: {{source: audio}}}}\n"
    )
    query = job_of(plan, QUERY)
    assert isinstance(query, Merge)
    assert query.weights == (expected, 0.5)


def test_exact_streams_of_low_rank_experts_stay_low_rank(tiny: Path) -> None:
    text = EXPERTS.replace("source: audio", "source: audio-decoupled") + "modality: exact\n"
    plan = plan_of(tiny, text)
    factor = job_of(plan, QUERY.replace(".weight", ".streams.audio.lora_A"))
    assert isinstance(factor, Factors)
    # Its modality adapter, and the text adapters of both experts with coefficient -1/2.
    assert factor.output.shape == (12, 32)
    own = job_of(plan, QUERY.replace(".weight", ".streams.image.lora_B"))
    assert isinstance(own, Factors)
    # A single adapter is own and merged at once: 1 - 1/2 of it, minus 1/2 of the other.
    assert [piece.scale for piece in own.pieces] == [1.0, -1.0]


def test_exact_streams_of_a_nonlinear_merge_are_dense(tiny: Path) -> None:
    plan = plan_of(tiny, EXPERTS + "modality: exact\ntext: {method: ties}\n")
    assert isinstance(job_of(plan, QUERY.replace(".weight", ".streams.image.weight")), Copy)
    assert plan.modalities()["image"]["stream"]["form"] == "dense"


def test_one_expert_with_coefficient_one_needs_no_stream(tiny: Path) -> None:
    plan = plan_of(tiny, "experts: {image: {source: image}}\nmodality: exact\n")
    assert plan.modalities()["image"]["stream"] is None


def test_the_digest_depends_on_settings_and_not_on_time(tiny: Path) -> None:
    first, again = (plan_of(tiny, EXPERTS).plan.digest() for _ in range(2))
    other = plan_of(tiny, EXPERTS.replace("source: audio", "source: audio, weight: 0.3"))
    assert first == again != other.plan.digest()


def test_an_expert_with_another_backbone_is_refused_with_both_values(
    tiny: Path, tmp_path: Path
) -> None:
    import tiny_experts

    base = tiny_experts.write_base(tmp_path / "base", intermediate_size=40, num_hidden_layers=3)
    tiny_experts.write_llava(tmp_path / "llava", base)
    with pytest.raises(PlanError) as caught:
        plan_of(tiny, f"experts: {{image: {{source: {tmp_path / 'llava'}}}}}\n")
    assert "num_hidden_layers is 3, the base has 2" in str(caught.value)
    assert "intermediate_size is 40, the base has 48" in str(caught.value)


def test_an_expert_of_unrelated_weights_is_refused_with_the_numbers(
    tiny: Path, tmp_path: Path
) -> None:
    import tiny_experts

    base = tiny_experts.write_base(tmp_path / "base", seed=99)
    tiny_experts.write_llava(tmp_path / "llava", base)
    text = f"experts: {{image: {{source: {tmp_path / 'llava'}}}}}\n"
    with pytest.raises(PlanError, match=r"not related to base: sampled weights have cosine"):
        plan_of(tiny, text)
    assert plan_of(tiny, text + "allow_different_base: true\n").plan.entries


def test_an_expert_trained_on_another_base_is_refused(tiny: Path, tmp_path: Path) -> None:
    import tiny_experts

    base = tiny_experts.write_base(tmp_path / "base", seed=99)
    tiny_experts.write_audio_expert(tmp_path / "audio", base)
    with pytest.raises(SourceError, match=r"trained on .*\d+ of 20 tensors differ"):
        plan_of(tiny, f"experts: {{audio: {{source: {tmp_path / 'audio'}}}}}\n")


def test_an_expert_under_the_wrong_modality_is_refused(tiny: Path) -> None:
    with pytest.raises(SourceError, match="understands audio, the recipe lists it as video"):
        plan_of(tiny, "experts: {video: {source: audio}}\n")
    with pytest.raises(SourceError, match="does not understand audio; it has image"):
        plan_of(tiny, "experts: {audio: {source: image}}\n")


def test_a_folder_that_is_no_expert_is_refused(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"found none of expert\.json, adapter_config\.json"):
        plan_of(tiny, f"experts: {{image: {{source: {tmp_path}}}}}\n")


def test_a_multimodal_base_is_refused(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"base: {tiny / 'llava'}\nexperts: {{image: {{source: {tiny / 'image'}}}}}\n")
    with pytest.raises(SourceError, match="the base must be the plain language model"):
        make_plan(read_compose_recipe(path))


def test_an_unknown_method_is_refused_with_the_nearest(tiny: Path) -> None:
    with pytest.raises(RecipeError, match="Did you mean"):
        plan_of(tiny, EXPERTS + "text: {method: tiess}\n")


def test_a_tensor_of_no_known_layout_is_refused_by_name(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "llava"
    shutil.copytree(tiny / "llava", folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["surprise.weight"] = tensors["multi_modal_projector.linear_1.bias"].clone()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SourceError, match=r"'surprise\.weight' is in no known layout"):
        plan_of(tiny, f"experts: {{image: {{source: {folder}}}}}\n")


def test_one_tensor_under_two_names_is_refused(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "llava"
    shutil.copytree(tiny / "llava", folder)
    tensors = load_file(folder / "model.safetensors")
    bias = "vision_tower.post_layernorm.bias"
    older = bias.replace("vision_tower.", "vision_tower.vision_model.")
    tensors[older] = tensors[bias].clone()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SourceError, match=r"are both 'tower\.post_layernorm\.bias' of one part"):
        plan_of(tiny, f"experts: {{image: {{source: {folder}}}}}\n")


def test_an_unknown_architecture_is_refused_with_those_known(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "llava"
    shutil.copytree(tiny / "llava", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["MysteryModel"]}))
    with pytest.raises(SourceError, match="'MysteryModel' is not one that can be composed yet"):
        plan_of(tiny, f"experts: {{image: {{source: {folder}}}}}\n")
