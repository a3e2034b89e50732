"""The checkpoint that the capability zoo's training starts from: an encoder, and fresh weights."""

import math
from pathlib import Path

import torch
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from omnicompose.encoders.clip_vision import LLAVA_PREFIXES
from omnicompose.encoders.folder import read_encoder, read_encoder_description
from omnicompose.modalities import MODALITIES
from omnicompose.zoo.capabilities.lessons import corpus
from omnicompose.zoo.capabilities.world import GRID, SIDE
from omnicompose.zoo.tokenizer import make_tokenizer

WIDTH = 96
TEXT = {
    "hidden_size": WIDTH,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
}
_GREY = [0.5, 0.5, 0.5]


def write_start(folder: Path, encoder: Path, seed: int = 0) -> None:
    """Write a LLaVA checkpoint: the encoder's weights, a fresh connector, a fresh small Llama.

    Args:
        folder: a transformers checkpoint with its processor, in fp32.
        encoder: folder of the trained vision encoder.
        seed: of the fresh weights.
    """
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(corpus())
    tokenizer.model_max_length = TEXT["max_position_embeddings"]
    placeholder = MODALITIES["image"].placeholder
    tokenizer.add_tokens([placeholder], special_tokens=True)
    ids = {
        f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")
    }
    text = LlamaConfig(vocab_size=len(tokenizer), **TEXT, **ids)
    model = LlavaForConditionalGeneration(_config(text, encoder, len(tokenizer) - 1))
    _initialise(model, text)
    _load_tower(model, encoder)
    model.tie_weights()
    model.generation_config.update(max_new_tokens=16, do_sample=False)
    model.save_pretrained(folder)
    LlavaProcessor(
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": SIDE},
            crop_size={"height": SIDE, "width": SIDE},
            image_mean=_GREY,
            image_std=_GREY,
        ),
        tokenizer=tokenizer,
        patch_size=SIDE // GRID,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=tokenizer.chat_template,
        image_token=placeholder,
    ).save_pretrained(folder)


def _config(text: LlamaConfig, encoder: Path, image_token_id: int) -> LlavaConfig:
    settings = read_encoder_description(encoder)["config"]
    assert isinstance(settings, dict)
    return LlavaConfig(
        vision_config=CLIPVisionConfig(**settings["vision_config"]),
        image_seq_length=GRID * GRID,
        text_config=text,
        image_token_index=image_token_id,
        projector_hidden_act="gelu",
        vision_feature_layer=settings["feature_layer"],
        vision_feature_select_strategy=settings["select"],
        tie_word_embeddings=True,
        pad_token_id=text.pad_token_id,
        bos_token_id=text.bos_token_id,
        eos_token_id=text.eos_token_id,
    )


def _load_tower(model: LlavaForConditionalGeneration, encoder: Path) -> None:
    """Give the vision tower the encoder's weights, by the names that the encoder room keeps."""
    ((outside, inside),) = LLAVA_PREFIXES.items()
    tower = model.get_submodule(outside.rstrip("."))
    weights = read_encoder(encoder).state_dict()
    tower.load_state_dict({name.removeprefix(inside): value for name, value in weights.items()})


@torch.no_grad()
def _initialise(model: LlavaForConditionalGeneration, config: LlamaConfig) -> None:
    """Weights of variance 1 / width, residual outputs smaller by the number of them.

    A model this small learns several times sooner than from transformers' constant 0.02.
    """
    residual = 1 / math.sqrt(2 * config.num_hidden_layers)
    language_model = model.model.language_model
    for part in (language_model, model.model.multi_modal_projector):
        for name, weight in part.named_parameters():
            if "embed_tokens" in name:
                weight.normal_(0, 0.5)
            elif weight.dim() == 2:
                scale = residual if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
                weight.normal_(0, scale / math.sqrt(weight.shape[1]))
    # The embeddings are the output matrix too: keep the first logits near unit variance.
    language_model.norm.weight.fill_(2 / math.sqrt(config.hidden_size))
