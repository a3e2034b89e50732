"""Experts of a few thousand random weights, written by the classes that write real ones."""

import json
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
    WhisperConfig,
    WhisperFeatureExtractor,
)

from omnicompose.connectors import make_connector
from omnicompose.encoders import make_encoder

WIDTH = 32
ROLES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def text_config(**changes: object) -> LlamaConfig:
    settings = {
        "vocab_size": 300,
        "hidden_size": WIDTH,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    return LlamaConfig(**(settings | changes))


def write_tokenizer(folder: Path, extra: tuple[str, ...] = ()) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<bos>", "<|end|>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=290,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["what is this? a red three"], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<|end|>"
    )
    fast.chat_template = TEMPLATE
    if extra:
        fast.add_tokens(list(extra), special_tokens=True)
    fast.save_pretrained(folder)
    return fast


def write_base(folder: Path, seed: int = 0, **changes: object) -> Path:
    torch.manual_seed(seed)
    LlamaForCausalLM(text_config(**changes)).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def write_llava(folder: Path, base: Path) -> Path:
    """A LLaVA whose language model is the base with one more row for `<image>`."""
    torch.manual_seed(1)
    language = LlamaForCausalLM.from_pretrained(base)
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
    )
    tokenizer = write_tokenizer(folder, ("<image>",))
    image_token_id = tokenizer.convert_tokens_to_ids("<image>")
    config = LlavaConfig(
        vision_config=vision,
        text_config=language.config,
        image_token_id=image_token_id,
        tie_word_embeddings=language.config.tie_word_embeddings,
        image_seq_length=4,
    )
    model = LlavaForConditionalGeneration(config)
    model.model.language_model.load_state_dict(language.model.state_dict())
    model.save_pretrained(folder)
    CLIPImageProcessor(
        size={"height": 16, "width": 16}, crop_size={"height": 16, "width": 16}
    ).save_pretrained(folder)
    return folder


def write_image_adapter(folder: Path, llava: Path, rank: int = 4) -> Path:
    """A PEFT LoRA on the LLaVA's language model, its projector saved in full."""
    torch.manual_seed(2)
    model = LlavaForConditionalGeneration.from_pretrained(llava)
    pattern = r".*language_model.*\.(" + "|".join(ROLES) + ")"
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules=pattern,
        modules_to_save=["multi_modal_projector"],
        init_lora_weights=False,
    )
    adapted = get_peft_model(model, config)
    for name, parameter in adapted.named_parameters():
        if "multi_modal_projector" in name and "modules_to_save" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    adapted.save_pretrained(folder)
    _set_base(folder, llava)
    return folder


def write_audio_expert(folder: Path, base: Path, *, decoupled: bool = False) -> Path:
    """Our own format: a Whisper encoder, attention pooling, one or two LoRAs, prefix tokens."""
    torch.manual_seed(3)
    whisper = WhisperConfig(
        d_model=16,
        encoder_layers=1,
        encoder_attention_heads=2,
        encoder_ffn_dim=32,
        num_mel_bins=8,
        max_source_positions=50,
    )
    encoder_config = {"audio_config": whisper.to_diff_dict()}
    encoder = {"type": "whisper", "config": encoder_config}
    connector = {
        "type": "attention_pool",
        "config": {"input_size": 16, "hidden_size": 16, "output_size": WIDTH, "num_queries": 3},
    }
    write_encoder(folder / "encoder", encoder)
    WhisperFeatureExtractor(
        feature_size=8, sampling_rate=16000, hop_length=160, chunk_length=1, n_fft=400
    ).save_pretrained(folder)
    write_expert(
        folder,
        base,
        {
            "modality": "audio",
            "encoder": {"type": "whisper", "source": None},
            "connector": connector,
            "num_prefix_tokens": 2,
        },
        decoupled=decoupled,
    )
    return folder


def write_encoder(folder: Path, description: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    module = make_encoder(description)
    save_file(module.state_dict(), folder / "model.safetensors")
    config = {"encoder_type": description["type"], "config": description["config"]}
    (folder / "config.json").write_text(json.dumps(config))


def write_expert(folder: Path, base: Path, entry: dict, *, decoupled: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tensors = dict(make_connector(entry["connector"]).state_dict())
    for affix in ("prefix", "suffix"):
        if count := entry.get(f"num_{affix}_tokens"):
            tensors[affix] = torch.randn(count, WIDTH)
    save_file(tensors, folder / "connector.safetensors")
    expert = {
        "format": "omnicompose-expert",
        "format_version": 1,
        "base": str(base),
        "strategy": "decoupled" if decoupled else "single",
    }
    (folder / "expert.json").write_text(json.dumps(expert | entry))
    for seed, name in enumerate(("text", "modality") if decoupled else ("adapter",)):
        write_lora(folder / name, base, seed=10 + seed)


def write_lora(folder: Path, base: Path, *, seed: int, rank: int = 4) -> Path:
    torch.manual_seed(seed)
    model = LlamaForCausalLM.from_pretrained(base)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=ROLES, init_lora_weights=False)
    get_peft_model(model, config).save_pretrained(folder)
    _set_base(folder, base)
    return folder


def _set_base(folder: Path, base: Path) -> None:
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text()) | {"base_model_name_or_path": str(base)}
    path.write_text(json.dumps(config))
