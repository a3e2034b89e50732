"""Encoders as their own projects publish them open whole and become ours, tensor by tensor."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers as hf
from safetensors.torch import save_file
from tiny_experts import WIDTH, write_expert

from omnicompose.assembly import check_loads, composite_config, make_processor
from omnicompose.encoders import make_encoder
from omnicompose.errors import SourceError
from omnicompose.experts.encoder_checkpoints import open_encoder_checkpoint
from omnicompose.experts.encoder_names import PUBLISHED
from omnicompose.plan import make_plan
from omnicompose.recipe import read_compose_recipe
from omnicompose.tensors.source import read_tensor

SIZES = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
VISION = SIZES | {"image_size": 16, "patch_size": 4}
TEXT = SIZES | {"vocab_size": 8, "max_position_embeddings": 8, "eos_token_id": 2}
SPEECH = {"d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "num_mel_bins": 8}
SPEECH |= {"encoder_ffn_dim": 32, "max_source_positions": 10}
WRITING = {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 8}
WRITING |= {"vocab_size": 8, "pad_token_id": 0, "max_target_positions": 4}
CLAP = {"window_size": 2, "num_mel_bins": 8, "spec_size": 32, "patch_size": 4, "hidden_size": 32}
CLAP |= {"patch_stride": [4, 4], "depths": [1, 1], "num_attention_heads": [2, 2]}
CLAP |= {"patch_embeds_hidden_size": 16, "num_hidden_layers": 2}
JEPA = {"patch_size": 4, "crop_size": 16, "frames_per_clip": 4, "tubelet_size": 2}
JEPA |= {"hidden_size": 24, "num_attention_heads": 2, "num_hidden_layers": 2, "mlp_ratio": 2.0}
JEPA |= {"pred_hidden_size": 12, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}
TUBES = VISION | {"num_frames": 4, "tubelet_size": 2}
TUBES |= {"decoder_hidden_size": 8, "decoder_num_hidden_layers": 1}
TUBES |= {"decoder_num_attention_heads": 2, "decoder_intermediate_size": 8}
DINO = {name: size for name, size in VISION.items() if name != "intermediate_size"}
INTERN = SIZES | {"image_size": [16, 16], "patch_size": [4, 4]}
FRAMES = SIZES | {"patch_size": 4, "max_length": 20, "num_mel_bins": 10}
TWO_TOWERS = {"vision_config": VISION, "text_config": TEXT, "projection_dim": 8}

MODELS: dict[str, Callable[[], hf.PreTrainedModel]] = {
    "clip": lambda: hf.CLIPModel(hf.CLIPConfig(**TWO_TOWERS)),
    "clip_vision_model": lambda: hf.CLIPVisionModel(hf.CLIPVisionConfig(**VISION)),
    "siglip": lambda: hf.SiglipModel(
        hf.SiglipConfig(vision_config=VISION, text_config=TEXT | {"projection_size": 16})
    ),
    "siglip_vision_model": lambda: hf.SiglipVisionModel(hf.SiglipVisionConfig(**VISION)),
    "siglip2": lambda: hf.Siglip2Model(
        hf.Siglip2Config(
            vision_config=SIZES | {"patch_size": 4, "num_patches": 16},
            text_config=TEXT | {"projection_size": 16},
        )
    ),
    "siglip2_vision_model": lambda: hf.Siglip2VisionModel(
        hf.Siglip2VisionConfig(**SIZES, patch_size=4, num_patches=16)
    ),
    "dinov2": lambda: hf.Dinov2ForImageClassification(hf.Dinov2Config(**DINO)),
    "pixtral": lambda: hf.PixtralVisionModel(hf.PixtralVisionConfig(**VISION)),
    "internvl_vision": lambda: hf.InternVLVisionModel(hf.InternVLVisionConfig(**INTERN)),
    "whisper": lambda: hf.WhisperForConditionalGeneration(hf.WhisperConfig(**SPEECH, **WRITING)),
    "qwen2_audio_encoder": lambda: hf.Qwen2AudioEncoder(hf.Qwen2AudioEncoderConfig(**SPEECH)),
    "audio-spectrogram-transformer": lambda: hf.ASTForAudioClassification(hf.ASTConfig(**FRAMES)),
    "clap": lambda: hf.ClapModel(
        hf.ClapConfig(audio_config=CLAP, text_config=TEXT | {"pad_token_id": 1})
    ),
    "clap_audio_model": lambda: hf.ClapAudioModel(hf.ClapAudioConfig(**CLAP)),
    "videomae": lambda: hf.VideoMAEForPreTraining(hf.VideoMAEConfig(**TUBES)),
    "vjepa2": lambda: hf.VJEPA2Model(hf.VJEPA2Config(**JEPA)),
}


def loaded(folder: Path) -> torch.nn.Module:
    """The encoder of a folder with its weights, every one of which must have a place."""
    found = open_encoder_checkpoint("x", folder)
    assert found is not None
    encoder = make_encoder(found.module.describe())
    assert isinstance(encoder, torch.nn.Module)
    source = found.module.weights.source
    tensors = {
        name: read_tensor(source, name, 0, info.num_elements).view(info.shape)
        for name, info in source.infos().items()
    }
    encoder.load_state_dict(tensors)
    return encoder.eval()


def test_every_kind_is_tested() -> None:
    assert set(MODELS) == set(PUBLISHED)


@pytest.mark.parametrize("kind", MODELS)
def test_a_checkpoint_of_transformers(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(0)
    model = MODELS[kind]()
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == kind
    theirs = {tuple(one.shape) for one in model.state_dict().values()}
    assert {tuple(one.shape) for one in loaded(tmp_path).state_dict().values()} <= theirs


def test_features_are_the_towers_own(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = MODELS["siglip"]().eval()
    model.save_pretrained(tmp_path)
    pictures = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        expected = model.vision_model(pictures, output_hidden_states=True).hidden_states[-1]
        torch.testing.assert_close(loaded(tmp_path)(pictures), expected)


def test_a_model_of_timm(tmp_path: Path) -> None:
    import timm

    arguments = {"img_size": 32, "depth": 1}
    model = timm.create_model("vit_tiny_patch16_224", pretrained=False, **arguments).eval()
    config = {
        "architecture": "vit_tiny_patch16_224",
        "model_args": arguments,
        "pretrained_cfg": {"input_size": [3, 32, 32], "crop_pct": 0.5, "classifier": "head"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    pictures = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        expected = model.forward_features(pictures)[:, 1:]
        torch.testing.assert_close(loaded(tmp_path)(pictures), expected)
    found = open_encoder_checkpoint("x", tmp_path)
    assert found is not None
    assert not isinstance(found.preprocessor, Path)
    assert found.preprocessor["size"] == {"shortest_edge": 64}


def test_a_model_of_open_clip(tmp_path: Path) -> None:
    from open_clip.model import _build_vision_tower

    vision = {"layers": 2, "width": 16, "head_width": 8, "patch_size": 4, "image_size": 16}
    tower = _build_vision_tower(8, dict(vision), quick_gelu=False)
    tensors = {f"visual.{name}": tensor for name, tensor in tower.state_dict().items()}
    save_file(tensors | {"logit_scale": torch.ones(1)}, tmp_path / "open_clip_model.safetensors")
    config = {"model_cfg": {"embed_dim": 8, "vision_cfg": vision}, "preprocess_cfg": {}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    found = loaded(tmp_path)
    for name, tensor in tower.state_dict().items():
        assert torch.equal(found.state_dict()[f"tower.{name}"], tensor)


def test_an_expert_on_a_published_encoder(tiny: Path, tmp_path: Path) -> None:
    """The expert's folder names a SigLIP by its place and the layer that it reads."""
    MODELS["siglip"]().save_pretrained(tmp_path / "siglip")
    hf.SiglipImageProcessor(size={"height": 16, "width": 16}).save_pretrained(tmp_path / "siglip")
    entry = {
        "modality": "image",
        "encoder": {
            "type": "siglip_vision",
            "source": "../siglip",
            "config": {"feature_layer": -2},
        },
        "connector": {"type": "linear", "config": {"input_size": 16, "output_size": WIDTH}},
    }
    write_expert(tmp_path / "image", tiny / "base", entry, decoupled=False)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"base: {tiny}/base\nexperts: {{image: {{source: {tmp_path}/image}}}}\n")
    plan = make_plan(read_compose_recipe(recipe))
    config = composite_config(plan)
    check_loads(config, plan)
    assert config.modalities["image"]["encoder"]["config"]["feature_layer"] == -2
    assert type(make_processor(plan).image_processor).__name__.startswith("SiglipImageProcessor")


def test_what_is_no_encoder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert open_encoder_checkpoint("x", tmp_path) is None
    (tmp_path / "config.json").write_text('{"model_type": "siglip"}')
    with pytest.raises(SourceError, match=r"config\.json has no 'vision_config'"):
        open_encoder_checkpoint("x", tmp_path)
