"""The shipped weights, by transformers and peft alone where they should do."""

import json
from functools import cache

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoProcessor,
    AutoTokenizer,
    LlamaForCausalLM,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerBase,
)

from omnicompose.connectors import make_connector
from omnicompose.zoo.catalog import ZOO, zoo_path
from omnicompose.zoo.media import decode, held_out_media
from omnicompose.zoo.questions import Question, make_questions, render_messages
from omnicompose.zoo.tokenizer import make_tokenizer
from omnicompose.zoo.train_experts import CONNECTORS

OWN_FORMAT = [name for name in ZOO if name.startswith(("audio", "video"))] + [
    "image-standard-decoupled",
    "image-stressed-decoupled",
]


@cache
def base() -> LlamaForCausalLM:
    return AutoModelForCausalLM.from_pretrained(zoo_path("base"), dtype=torch.float32)


@cache
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(zoo_path("base"))


def first_tokens(question: Question) -> list[int]:
    return [tokenizer()(o, add_special_tokens=False)["input_ids"][0] for o in question.options]


def accuracy(logits: torch.Tensor, questions: tuple[Question, ...]) -> float:
    """Share of questions whose right option has the most likely first word; logits `[n, V]`."""
    chosen = [int(row[first_tokens(q)].argmax()) for row, q in zip(logits, questions, strict=True)]
    return float(np.mean([c == q.answer_index for c, q in zip(chosen, questions, strict=True)]))


@torch.no_grad()
def told(model: nn.Module, questions: tuple[Question, ...]) -> float:
    """How well a model answers from captions."""
    chats = [render_messages(q, (), "captions") for q in questions]
    inputs = tokenizer().apply_chat_template(
        chats, return_dict=True, return_tensors="pt", padding=True, add_generation_prompt=True
    )
    return accuracy(model(**inputs, logits_to_keep=1).logits[:, -1], questions)


@pytest.mark.parametrize("modalities", [("image", "audio"), ("image", "audio", "video")])
def test_the_base_answers_from_captions(modalities: tuple[str, ...]) -> None:
    assert told(base(), make_questions("mcub", modalities, 100, seed=11)) >= 0.95


def test_the_base_says_phrase_and_letter() -> None:
    (question,) = make_questions("true", ("image",), 1, seed=12)
    inputs = tokenizer().apply_chat_template(
        render_messages(question, (), "captions"),
        return_dict=True,
        return_tensors="pt",
        add_generation_prompt=True,
    )
    output = base().generate(**inputs)[0, inputs["input_ids"].shape[1] :]
    assert tokenizer().decode(output, skip_special_tokens=True) == question.reply


def test_the_shipped_tokenizer_is_the_one_that_is_made() -> None:
    made = make_tokenizer()
    assert tokenizer().get_vocab() == made.get_vocab()
    assert tokenizer().chat_template == made.chat_template


def test_llava_holds_the_base_exactly() -> None:
    inside = load_file(zoo_path("llava") / "model.safetensors")
    for name, weight in load_file(zoo_path("base") / "model.safetensors").items():
        kept = inside[f"language_model.{name}"]
        assert weight.dtype == torch.float16
        assert torch.equal(kept[: len(weight)], weight)
        assert len(kept) == len(weight) + ("embed_tokens" in name)


@pytest.mark.parametrize(("regime", "least"), [("standard", 0.85), ("stressed", 0.7)])
def test_the_image_expert_needs_transformers_and_peft_alone(regime: str, least: float) -> None:
    host = LlavaForConditionalGeneration.from_pretrained(zoo_path("llava"), dtype=torch.float32)
    model = PeftModel.from_pretrained(host, zoo_path(f"image-{regime}")).eval()
    processor = AutoProcessor.from_pretrained(zoo_path("llava"))
    questions = make_questions("true", ("image",), 100, seed=13)
    rng = np.random.default_rng(0)
    pictures = [held_out_media().choose(q.items[0], rng).data for q in questions]
    prompts = [
        processor.apply_chat_template(render_messages(q), add_generation_prompt=True)
        for q in questions
    ]
    inputs = processor(
        images=[decode("image", picture) for picture in pictures],
        text=prompts,
        padding=True,
        return_tensors="pt",
    )
    with torch.no_grad():
        logits = model(**inputs, logits_to_keep=1).logits[:, -1]
    assert accuracy(logits, questions) >= least


@pytest.mark.parametrize("name", OWN_FORMAT)
def test_experts_of_our_own_format_are_whole(name: str) -> None:
    """Every file fits the model it is for, and the expert reads text as well as the base."""
    folder = zoo_path(name)
    description = json.loads((folder / "expert.json").read_text())
    modality, decoupled = description["modality"], description["strategy"] == "decoupled"
    connector = make_connector(description["connector"])
    assert isinstance(connector, nn.Module)
    connector.load_state_dict(load_file(folder / "connector.safetensors"))
    assert CONNECTORS[modality] == description["connector"]
    for place in ("modality", "text") if decoupled else ("adapter",):
        plain = LlamaForCausalLM.from_pretrained(zoo_path("base"), dtype=torch.float32)
        model = PeftModel.from_pretrained(plain, folder / place).eval()
        adapters = [w for n, w in model.state_dict().items() if "lora_A" in n]
        assert len(adapters) == 7 * plain.config.num_hidden_layers
    questions = make_questions("mcub", ("image", "audio"), 40, seed=14)
    assert told(model, questions) >= 0.85
