"""ModelCompose folders and encoders that are not what they should be say so by name."""

import json
import shutil

import pytest
import torch
from modelcompose_goldens import ENCODERS, FOLDER, write_base
from safetensors.torch import load_file, save_file

from omnicompose.errors import SourceError
from omnicompose.experts.opening import open_base, open_expert
from omnicompose.recipe_values import parse_source
from omnicompose.tensors.joined import JoinedSource
from omnicompose.tensors.memory import MemorySource

VISION = FOLDER / "experts" / "multimodal-vision-naive"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = write_base(tmp_path_factory.mktemp("base") / "base")
    return open_base(parse_source(str(folder), folder))


@pytest.fixture
def expert(tmp_path):
    """A copy of the vision expert that a test may spoil."""
    return shutil.copytree(VISION, tmp_path / "expert")


def opened(base, folder, modality="image", encoder=None, *, allow_pickle=True):
    encoder = FOLDER / "encoders" / ENCODERS[modality] if encoder is None else encoder
    return open_expert(
        modality,
        parse_source(str(folder), folder),
        base,
        allow_pickle=allow_pickle,
        encoder=parse_source(str(encoder), folder) if encoder else None,
    )


def spoil(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def fails(match, base, folder, *arguments, **options):
    with pytest.raises(SourceError, match=match):
        opened(base, folder, *arguments, **options)


def test_an_expert_without_weights(base, expert) -> None:
    (expert / "adapter_model.safetensors").unlink()
    fails("found none of adapter_model, mm_projector, non_lora_trainables", base, expert)


def test_pickles_are_read_only_when_allowed(base) -> None:
    folder = FOLDER / "experts" / "multimodal-vision-damc"
    fails("found pickled weights", base, folder, allow_pickle=False)
    audio = FOLDER / "experts" / "multimodal-audio-naive"
    fails(r"beats_tiny\.pt: found pickled weights", base, audio, "audio", allow_pickle=False)


def test_a_merge_whose_coefficients_are_never_read(base, expert) -> None:
    spoil(expert, merge_default_weights="mean")
    fails("coefficients the published code never reads.*Compose the experts", base, expert)


def test_coefficients_that_are_none(base, expert) -> None:
    spoil(expert, reset_scaling_weights="default-vision")
    fails("found reset_scaling_weights 'default-vision'", base, expert)


def test_a_modality_that_the_expert_does_not_have(base) -> None:
    fails("names no mm_audio_encoder, so this expert does not", base, VISION, "audio", "")


def test_an_encoder_that_is_somewhere_else(base) -> None:
    fails(r"its encoder encoders/clip_tiny is not on this machine", base, VISION, "image", "")


def test_an_encoder_that_lies_where_the_configuration_says(base, expert) -> None:
    spoil(expert, mm_vision_encoder=str(FOLDER / "encoders" / "clip_tiny"))
    assert opened(base, expert, "image", "").encoder.type == "clip_vision"


def test_an_unknown_strategy(base, expert) -> None:
    spoil(expert, lora_strategy="both")
    fails("found lora_strategy 'both', expected one of same, modal, modal", base, expert)


def test_a_strategy_without_its_adapters(base, expert) -> None:
    spoil(expert, lora_strategy="modal+language")
    fails("but found factors of default and none of vision", base, expert)


def test_a_rank_that_is_none(base, expert) -> None:
    spoil(expert, lora_r=None)
    fails("found lora_r None and lora_alpha 8", base, expert)


def test_an_unknown_projector(base, expert) -> None:
    spoil(expert, mm_projector_type="resampler")
    fails("projector 'resampler': this type is unknown", base, expert)


def test_a_projector_of_another_type(base, expert) -> None:
    spoil(expert, mm_projector_type="qformer_4N_2L")
    fails("found no matrix 'audio_position_embedding.weight'", base, expert)
    spoil(expert, mm_projector_type="mlp1x_gelu")
    fails(r"tensor '2\.(weight|bias)' is not one of this module's", base, expert)


def test_one_tensor_in_two_files(base, expert) -> None:
    shutil.copy(expert / "adapter_model.safetensors", expert / "mm_projector.safetensors")
    fails("in two files; expected every name once", base, expert)


def test_sources_without_a_common_name_are_one() -> None:
    sources = [MemorySource(name, {name: torch.arange(4.0)}) for name in "ab"]
    joined = JoinedSource("both", sources)
    out = torch.empty(2)
    joined.read_into("b", 1, out)
    assert list(joined.infos()) == ["a", "b"]
    assert out.tolist() == [1.0, 2.0]


def test_an_encoder_for_an_expert_that_brings_its_own(base, tiny) -> None:
    fails("this expert brings its own. Leave out `encoder:`", base, tiny / "llava")


def test_a_tower_without_time_or_with_loras(base, tmp_path) -> None:
    folder = shutil.copytree(FOLDER / "encoders" / ENCODERS["video"], tmp_path / "tower")
    config = json.loads((folder / "config.json").read_text())
    video = FOLDER / "experts" / "multimodal-video-naive"
    for change in ({"add_time_attn": False}, {"lora_r": 2}):
        changed = config | {"vision_config": config["vision_config"] | change}
        (folder / "config.json").write_text(json.dumps(changed))
        fails(
            "expected LanguageBind's video tower with its LoRA merged in",
            base,
            video,
            "video",
            folder,
        )
    changed = config | {"vision_config": config["vision_config"] | {"image_size": None}}
    (folder / "config.json").write_text(json.dumps(changed))
    fails("found image_size None in config.json", base, video, "video", folder)
    (folder / "config.json").write_text("{}")
    fails("config.json has no 'vision_config'", base, video, "video", folder)


def test_beats_as_safetensors_with_its_settings_beside(base, tmp_path) -> None:
    content = torch.load(FOLDER / "encoders" / ENCODERS["audio"], weights_only=True)
    file = tmp_path / "beats.safetensors"
    save_file({name: tensor.clone() for name, tensor in content["model"].items()}, file)
    audio = FOLDER / "experts" / "multimodal-audio-naive"
    fails("found no 'embed_dim' in the settings of BEATs", base, audio, "audio", file)
    settings = tmp_path / "beats.cfg.json"
    settings.write_text(json.dumps(content["cfg"] | {"layer_norm_first": True}))
    fails("found a BEATs with layer_norm_first True, expected False", base, audio, "audio", file)
    settings.write_text(json.dumps(content["cfg"]))
    from_file = opened(base, audio, "audio", file).encoder
    from_pickle = opened(base, audio, "audio").encoder
    assert from_file.describe() == from_pickle.describe()
    assert set(from_file.weights.origins) == set(from_pickle.weights.origins)


def test_point_bert_inside_what_it_was_trained_with(base, tmp_path) -> None:
    """PointLLM's file holds the whole model under `state_dict`, and does not name three sizes."""
    tensors = load_file(FOLDER / "encoders" / ENCODERS["point"])
    inside = {f"module.point_encoder.{name}": tensor for name, tensor in tensors.items()}
    inside["module.logit_scale"] = torch.zeros(())
    file = tmp_path / "point.pt"
    torch.save({"state_dict": inside}, file)
    point = FOLDER / "experts" / "multimodal-point-naive"
    found = opened(base, point, "point", file).encoder
    assert set(found.weights.origins) == set(tensors)
    sizes = {"num_heads": 6, "num_groups": 512, "group_size": 32}
    assert sizes.items() <= found.config.items()
    assert found.config["num_layers"] == 2


def test_a_file_that_is_no_point_bert(base, tmp_path) -> None:
    point = FOLDER / "experts" / "multimodal-point-naive"
    fails(
        "is no file. Give the file of the weights",
        base,
        point,
        "point",
        FOLDER / "encoders/clip_tiny",
    )
    other = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, other)
    fails(
        "found no tensor 'cls_token', expected those of a Point-BERT", base, point, "point", other
    )
