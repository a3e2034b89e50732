"""The wrapped encoders are their originals: same numbers, names one prefix away."""

import numpy as np
import pytest
import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Siglip2ImageProcessor,
    WhisperConfig,
    WhisperModel,
)

from omnicompose.connectors import make_connector
from omnicompose.connectors import mlp as mlp_module
from omnicompose.encoders import clip_vision, make_encoder, whisper

TEXT = {
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 50,
}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
}


def renamed(state: dict[str, torch.Tensor], prefixes: dict[str, str]) -> dict[str, torch.Tensor]:
    ((old, new),) = prefixes.items()
    return {new + name.removeprefix(old): t for name, t in state.items() if name.startswith(old)}


@pytest.mark.parametrize("layer", [-2, -1, 1, [-2, 0]])
@pytest.mark.parametrize("select", ["default", "full"])
def test_clip_and_mlp_together_are_llavas_image_features(layer, select) -> None:
    torch.manual_seed(0)
    llava = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=CLIPVisionConfig(**VISION),
            text_config=LlamaConfig(**TEXT),
            vision_feature_layer=layer,
            vision_feature_select_strategy=select,
        )
    ).eval()
    config = {"vision_config": VISION, "feature_layer": layer, "select": select}
    encoder = make_encoder({"type": "clip_vision", "config": config}).eval()
    sizes = {"input_size": encoder.feature_size, "output_size": 24}
    connector = make_connector({"type": "mlp", "config": sizes}).eval()
    encoder.load_state_dict(renamed(llava.state_dict(), clip_vision.LLAVA_PREFIXES))
    connector.load_state_dict(renamed(llava.state_dict(), mlp_module.LLAVA_PREFIXES))
    pictures = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        expected = torch.stack(list(llava.get_image_features(pictures).pooler_output))
        assert torch.equal(connector(encoder(pictures)), expected)


def test_whisper_is_transformers_encoder() -> None:
    torch.manual_seed(0)
    sizes = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2}
    sizes |= {"encoder_ffn_dim": 32, "num_mel_bins": 8, "max_source_positions": 10}
    small = {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 8}
    small |= {"vocab_size": 9, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    original = WhisperModel(WhisperConfig(**sizes, **small, decoder_start_token_id=1)).eval()
    encoder = make_encoder({"type": "whisper", "config": {"audio_config": sizes}}).eval()
    state = {f"model.{name}": tensor for name, tensor in original.state_dict().items()}
    encoder.load_state_dict(renamed(state, whisper.WHISPER_PREFIXES))
    sounds = torch.randn(2, 8, 20)
    with torch.no_grad():
        expected = original.encoder(sounds).last_hidden_state
        assert torch.equal(encoder(sounds), expected)


def test_a_frame_sees_its_neighbours_and_no_further() -> None:
    torch.manual_seed(0)
    config = {"channels": [4, 8], "feature_size": 12}
    encoder = make_encoder({"type": "conv_video", "config": config}).eval()
    clip = torch.randn(1, 6, 3, 16, 16)
    changed = clip.clone()
    changed[:, 5] += 1
    with torch.no_grad():
        moved = (encoder(clip) != encoder(changed)).any(dim=-1)[0]
    assert moved.tolist() == [False] * 4 + [True] * 2


def test_siglip2_cuts_pictures_as_its_own_preprocessor() -> None:
    torch.manual_seed(0)
    sizes = {name: VISION[name] for name in VISION if name != "image_size"}
    encoder = make_encoder({"type": "siglip2_vision", "config": {"vision_config": sizes}}).eval()
    pictures = np.random.default_rng(0).integers(0, 255, (1, 16, 24, 3), dtype=np.uint8)
    inputs = Siglip2ImageProcessor(patch_size=4, max_num_patches=24)(
        list(pictures), return_tensors="pt", do_resize=False
    )
    media = torch.from_numpy(pictures).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        expected = encoder.tower(**inputs, output_hidden_states=True).hidden_states[-1]
        torch.testing.assert_close(encoder(media), expected, atol=1e-5, rtol=1e-5)


def test_hubert_layers_are_torchaudios() -> None:
    torch.manual_seed(0)
    config = {"convolutions": [[8, 10, 5]], "extractor_mode": "group_norm", "conv_bias": False}
    config |= {"hidden_size": 16, "intermediate_size": 24, "num_layers": 3, "num_heads": 2}
    config |= {"position_kernel": 4, "position_groups": 2, "feature_layer": 2}
    encoder = make_encoder({"type": "wav2vec2", "config": config}).eval()
    sounds = torch.randn(2, 200)
    with torch.no_grad():
        layers, _ = encoder.tower.extract_features(sounds)
        assert torch.equal(encoder(sounds), layers[1])
