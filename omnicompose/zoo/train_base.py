"""Train the zoo's base language model on text alone: captions of every kind and all questions."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from omnicompose.training import Chat, Group, Learner, Schedule, collate, fit
from omnicompose.zoo.lessons import Lesson, text_lesson
from omnicompose.zoo.tokenizer import make_tokenizer

Progress = Callable[[int, int], None]
"""Told how many steps are done, and how many there are."""

SCHEDULE = Schedule(num_steps=1300, warmup_steps=100, weight_decay=0.05)
PEAK_RATE = 2.5e-3
BATCH_SIZE = 16
CURRICULUM: tuple[tuple[float, tuple[float, float, float]], ...] = (
    (0.25, (1.0, 0.0, 0.0)),
    (0.45, (0.3, 0.7, 0.0)),
    (1.0, (0.15, 0.4, 0.45)),
)
"""Up to which share of the steps, how often a lesson has one, two or three items."""
DTYPE = torch.float16


def train_base(
    folder: Path, *, seed: int = 0, progress: Progress = lambda _done, _total: None
) -> None:
    """Train the base and write it with its tokenizer: a plain transformers checkpoint in fp16.

    Args:
        folder: what `AutoModelForCausalLM` and `AutoTokenizer` load afterwards.
        seed: of the weights and of the lessons; the same seed gives the same files.
        progress: told after every step.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    tokenizer = make_tokenizer()
    model = make_base(tokenizer)
    learner = Learner(model, {})
    rng = np.random.default_rng((seed, 0))

    def loss_at(step: int) -> torch.Tensor:
        lessons = [_lesson(rng, step / SCHEDULE.num_steps) for _ in range(BATCH_SIZE)]
        chats = [Chat(messages=lesson.messages) for lesson in lessons]
        loss: torch.Tensor = learner(collate(tokenizer, chats, {}))
        return loss

    fit(
        loss_at,
        [Group(parameters=list(model.parameters()), peak_rate=PEAK_RATE)],
        SCHEDULE,
        lambda done, _loss: progress(done, SCHEDULE.num_steps),
    )
    write_base(folder, model, tokenizer)


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


def write_base(folder: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write model and tokenizer as transformers does, rounded to fp16 once."""
    model.generation_config.update(max_new_tokens=32, do_sample=False)
    model.to(DTYPE).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


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


def _lesson(rng: np.random.Generator, progress: float) -> Lesson:
    """A lesson of one to three items, as the curriculum has it by then."""
    shares = next(shares for until, shares in CURRICULUM if progress < until)
    return text_lesson(rng, 1 + int(rng.choice(len(shares), p=shares)))
