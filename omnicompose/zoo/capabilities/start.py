"""The checkpoint that the capability zoo's training starts from: an encoder, and fresh weights."""

import math
from pathlib import Path

import torch
from transformers import (
    CLIPImageProcessor,
    LlamaConfig,
    LlavaForConditionalGeneration,
)

from omnicompose.zoo.capabilities.lessons import corpus
from omnicompose.zoo.capabilities.world import SIDE
from omnicompose.zoo.llava import PLACEHOLDER, llava_config, load_tower, write_processor
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
    tokenizer.add_tokens([PLACEHOLDER], special_tokens=True)
    ids = {
        f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")
    }
    text = LlamaConfig(vocab_size=len(tokenizer), **TEXT, **ids)
    model = LlavaForConditionalGeneration(llava_config(text, encoder, len(tokenizer) - 1))
    _initialise(model, text)
    load_tower(model, encoder)
    model.tie_weights()
    model.generation_config.update(max_new_tokens=16, do_sample=False)
    model.save_pretrained(folder)
    pictures = CLIPImageProcessor(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=_GREY,
        image_std=_GREY,
    )
    write_processor(folder, model, tokenizer, pictures)


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
