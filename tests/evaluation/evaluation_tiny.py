"""A composite as large as the zoo's, with random weights, written as any export is."""

from pathlib import Path

import torch
from transformers import LlamaConfig

from omnicompose.modeling import (
    OmniComposeConfig,
    OmniComposeForConditionalGeneration,
    OmniComposeProcessor,
)
from omnicompose.zoo.preprocessing import make_preprocessor
from omnicompose.zoo.tokenizer import make_tokenizer
from omnicompose.zoo.train_encoders import DESCRIPTIONS

MLP = {"type": "mlp", "config": {"input_size": 64, "output_size": 128}}


def write_tiny(folder: Path, seed: int = 0, modalities: tuple[str, ...] = ()) -> Path:
    """Write model and processor with `modalities` (none named: all three)."""
    tokenizer = make_tokenizer()
    names = modalities or ("image", "audio", "video")
    tokenizer.add_tokens([f"<{name}>" for name in names], special_tokens=True)
    entries = {
        name: {
            "token": f"<{name}>",
            "token_id": tokenizer.convert_tokens_to_ids(f"<{name}>"),
            "encoder": DESCRIPTIONS[name],
            "connector": MLP,
            "num_prefix_tokens": 1 if name == "audio" else 0,
        }
        for name in names
    }
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=344,
        num_hidden_layers=4,
        num_attention_heads=4,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.1,
    )
    torch.manual_seed(seed)
    model = OmniComposeForConditionalGeneration(
        OmniComposeConfig(text_config=text, modalities=entries)
    )
    model.save_pretrained(folder)
    processors = {"image": "image_processor", "audio": "feature_extractor"}
    OmniComposeProcessor(
        tokenizer=tokenizer,
        modalities=entries,
        **{processors.get(name, "video_processor"): make_preprocessor(name) for name in names},
    ).save_pretrained(folder)
    return folder
