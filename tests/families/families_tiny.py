"""Tiny experts of every family, written by the classes and processors that write real ones."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import torch
import transformers as hf
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedModel, PreTrainedTokenizerFast, ProcessorMixin

WIDTH = 32
NUM_ROWS = 320
MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
CLIP = hf.CLIPVisionConfig(**VISION, image_size=16, patch_size=8)
SIDE = {"height": 16, "width": 16}
GRIDS = [[16, 32], [32, 16], [32, 32]]
VISION_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
Ids = Callable[[str], int]


def language_config(kind: str, num_rows: int = NUM_ROWS, **changes: object) -> hf.PreTrainedConfig:
    """A language model of one family, 2 layers of width 32."""
    classes = {
        "llama": hf.LlamaConfig,
        "qwen2": hf.Qwen2Config,
        "mistral": hf.MistralConfig,
        "granite": hf.GraniteConfig,
    }
    settings = {
        "vocab_size": num_rows,
        "hidden_size": WIDTH,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    if kind == "mistral":  # As Mistral Small, which Voxtral Small's Llama shares weights with.
        settings["sliding_window"] = None
    return classes[kind](**(settings | changes))


def make_tokenizer(
    tokens: tuple[str, ...] = (), named: dict[str, str] | None = None
) -> PreTrainedTokenizerFast:
    """Byte-level BPE that every expert shares, with the expert's own tokens behind."""
    fast = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(shared_tokenizer()),
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<|end|>",
        extra_special_tokens=named or {},
    )
    added = [AddedToken(token, special=True, normalized=False) for token in tokens]
    fast.add_tokens(added, special_tokens=True)
    return fast


@cache
def shared_tokenizer() -> str:
    """Trained once: training twice may merge equally frequent pairs in another order."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=290,
        special_tokens=["<pad>", "<bos>", "<|end|>", "<|endoftext|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["what is this? a red three", "Frame: Time s:"], trainer)
    return tokenizer.to_str()


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """How a tiny expert of one family is made.

    Attributes:
        name: of the fixture; the class name's front, as in the package's entries, if `kind` is not.
        language: kind of its language model.
        tokens: what its tokenizer has beyond the shared one.
        named: tokens that its processor asks the tokenizer for by name.
        config: its configuration from the ids of its tokens and its language model's.
        processor: its processor from the tokenizer.
        prompts: modality to what stands for one medium in a prompt.
        ask: its inputs for a prompt with a medium, where its processor has no call for that.
        kind: the class name's front, where one class has several fixtures.
    """

    name: str
    language: str
    tokens: tuple[str, ...]
    config: Callable[[Ids, hf.PreTrainedConfig], hf.PreTrainedConfig]
    processor: Callable[[PreTrainedTokenizerFast], ProcessorMixin]
    prompts: dict[str, str]
    named: dict[str, str] = field(default_factory=dict)
    language_changes: dict[str, object] = field(default_factory=dict)
    ask: Callable[[ProcessorMixin, str, np.ndarray], dict[str, torch.Tensor]] | None = None
    kind: str | None = None

    @property
    def front(self) -> str:
        return self.kind or self.name

    @property
    def architecture(self) -> str:
        return f"{self.front}ForConditionalGeneration"


def write_base(folder: Path, kind: str, seed: int = 0, **changes: object) -> Path:
    """A plain language model with the shared tokenizer."""
    torch.manual_seed(seed)
    config = language_config(kind, **changes)
    hf.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def write_expert(folder: Path, family: Family, base: Path, seed: int) -> PreTrainedModel:
    """A tiny expert whose language model lies near the base's."""
    tokenizer = make_tokenizer(family.tokens, family.named)
    config = language_config(
        family.language, max(NUM_ROWS, len(tokenizer)), **family.language_changes
    )
    whole = family.config(tokenizer.convert_tokens_to_ids, config)
    torch.manual_seed(seed)
    model = getattr(hf, family.architecture)(whole).eval()
    _draw(model)
    _descend(model, base)
    model.save_pretrained(folder)
    processor = family.processor(tokenizer)
    processor.chat_template = chat_template(family)
    processor.save_pretrained(folder)
    return model


def chat_template(family: Family) -> str:
    """A chat template that writes the family's media as its published one does."""
    media = "".join(
        "{% elif part['type'] == '" + name + "' %}" + text for name, text in family.prompts.items()
    )
    return (
        "{% for message in messages %}<|{{ message['role'] }}|>{% for part in message['content'] %}"
        "{% if part['type'] == 'text' %}{{ part['text'] }}" + media + "{% endif %}{% endfor %}"
        "{% endfor %}"
    )


def _draw(model: PreTrainedModel) -> None:
    """Weights large enough that a wrong feature shows."""
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 or "newline" in name:
            torch.nn.init.normal_(parameter, std=0.15)


def _descend(model: PreTrainedModel, base: Path) -> None:
    """Give the expert the base's language model, a little moved."""
    parent = hf.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    inner = getattr(model.model, "language_model", None) or model.model.text_model
    own = dict(inner.named_parameters())
    for name, parameter in parent.model.named_parameters():
        rows = parameter.shape[0]
        moved = parameter.detach() + 0.0005 * torch.randn_like(parameter)
        own[name].data[:rows] = moved
    model.lm_head.weight.data[:NUM_ROWS] = parent.lm_head.weight.detach() + 0.0005 * torch.randn(
        NUM_ROWS, WIDTH
    )


def picture(seed: int = 0, height: int = 40, width: int = 56) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


def sound(seed: int = 0, num_samples: int = 9000) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 0.1, num_samples)
    return (np.sin(np.arange(num_samples) / 7) + noise).astype(np.float32)


def clip(seed: int = 0, num_frames: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (num_frames, 24, 32, 3), dtype=np.uint8)


MEDIA = {"image": picture, "audio": sound, "video": clip}


def whisper(mels: int = 8) -> hf.WhisperFeatureExtractor:
    return hf.WhisperFeatureExtractor(
        feature_size=mels, sampling_rate=16000, hop_length=160, chunk_length=1, n_fft=400
    )
