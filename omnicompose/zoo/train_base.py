"""The zoo's base language model: a small Llama that learns from text alone.

It reads captions of every kind and answers all questions about them.
"""

import math
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from omnicompose.zoo.tokenizer import make_tokenizer

NUM_STEPS = 1300
BATCH_SIZE = 16


def write_fresh_base(folder: Path, seed: int) -> None:
    """Write the base before it learns: fresh weights in fp32, and its tokenizer.

    Args:
        folder: what `AutoModelForCausalLM` and `AutoTokenizer` load afterwards.
        seed: of the weights.
    """
    torch.manual_seed(seed)
    tokenizer = make_tokenizer()
    model = make_base(tokenizer)
    model.generation_config.update(max_new_tokens=32, do_sample=False)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def base_config(fresh: Path) -> dict[str, object]:
    """The configuration of the base's training, as its YAML file would hold it.

    Args:
        fresh: a folder of `write_fresh_base`.
    """
    stage = {
        "strategy": "full",
        "data": {"generator": "text", "count": NUM_STEPS * BATCH_SIZE},
        "steps": NUM_STEPS,
        "batch_size": BATCH_SIZE,
        "learning_rate": 2.5e-3,
        "warmup_steps": 100,
        "weight_decay": 0.05,
        "shuffle": False,  # from easy to hard
    }
    return {
        "base": str(fresh),
        "stages": [stage],
        "attention": "eager",
        "dtype": "float16",
    }


def make_base(tokenizer: PreTrainedTokenizerBase) -> LlamaForCausalLM:
    """A small Llama (0.86 million parameters) with fresh weights for the tokenizer's vocabulary."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=344,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        # At this width the plain kernel is the fastest on a CPU; not saved.
        attn_implementation="eager",
    )
    model = LlamaForCausalLM(config)
    _initialise(model, config)
    return model


@torch.no_grad()
def _initialise(model: LlamaForCausalLM, config: LlamaConfig) -> None:
    """Weights of variance 1 / width, residual outputs smaller by the number of them.

    A model this small learns several times sooner than from transformers' constant 0.02.
    """
    residual = 1 / math.sqrt(2 * config.num_hidden_layers)
    for name, weight in model.named_parameters():
        if "embed_tokens" in name:
            weight.normal_(0, 0.5)
        elif weight.dim() == 2:
            scale = residual if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
            weight.normal_(0, scale / math.sqrt(weight.shape[1]))
    # The embeddings are the output matrix too: keep the first logits near unit variance.
    model.model.norm.weight.fill_(2 / math.sqrt(config.hidden_size))
