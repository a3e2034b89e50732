"""Write trained experts in the formats in which the zoo ships them, rounded to fp16 once.

Our own format for audio, video and every decoupled expert; for a single-adapter image expert a PEFT
adapter on the zoo's LLaVA checkpoint, which transformers and peft load without us.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoTokenizer,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from omnicompose.encoders.clip_vision import LLAVA_PREFIXES
from omnicompose.encoders.folder import read_encoder, read_encoder_description
from omnicompose.modalities import MODALITIES
from omnicompose.streams import LINEAR_ROLES, DecoupledLinear, FactoredStream
from omnicompose.training import Learner
from omnicompose.zoo.preprocessing import make_preprocessor, write_preprocessor
from omnicompose.zoo.train_experts import CONNECTORS, Strategy

DTYPE = torch.float16
PROJECTOR = "multi_modal_projector"


def write_own_expert(
    folder: Path,
    learner: Learner,
    *,
    modality: str,
    strategy: Strategy,
    encoder: Mapping[str, object],
) -> None:
    """Write an expert in our own format.

    Args:
        folder: an expert folder as `omnicompose.experts.own_format` reads it.
        learner: the trained parts.
        modality: what it understands.
        strategy: which adapters it has.
        encoder: its encoder as expert.json names it: type, source and config.
    """
    description = {
        "format": "omnicompose-expert",
        "format_version": 1,
        "modality": modality,
        "base": "zoo:base",
        "strategy": strategy,
        "encoder": dict(encoder),
        "connector": CONNECTORS[modality],
        "num_prefix_tokens": 0,
        "num_suffix_tokens": 0,
    }
    _empty(folder)
    _write_json(folder / "expert.json", description)
    save_file(_rounded(learner.connectors[modality].state_dict()), folder / "connector.safetensors")
    write_preprocessor(modality, folder)
    places = {"adapter": "text"} if strategy == "single" else {"modality": modality, "text": "text"}
    for place, stream in places.items():
        _write_adapter(folder / place, learner, stream, inside="", extra={}, host="zoo:base")


def write_llava_adapter(folder: Path, learner: Learner) -> None:
    """Write a single-adapter image expert as a PEFT adapter, with its projector, on zoo:llava."""
    _empty(folder)
    projector = learner.connectors["image"].state_dict()
    _write_adapter(
        folder,
        learner,
        "text",
        inside="language_model.",
        extra={f"base_model.model.model.{PROJECTOR}.{name}": w for name, w in projector.items()},
        host="zoo:llava",
    )


def write_llava(folder: Path, *, base: Path, encoder: Path, connector: Path) -> None:
    """Assemble the LLaVA checkpoint: base, CLIP and the connector of the captioning stage.

    Args:
        folder: a transformers checkpoint with its processor.
        base: folder of the base language model.
        encoder: folder of the image encoder.
        connector: weights of the image connector.
    """
    _empty(folder)
    tokenizer = AutoTokenizer.from_pretrained(base)
    placeholder = MODALITIES["image"].placeholder
    tokenizer.add_tokens([placeholder], special_tokens=True)
    language_model = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
    # The new row is the mean of the others: its logit is never the largest.
    language_model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    table = language_model.get_input_embeddings().weight.data
    table[-1] = table[:-1].mean(dim=0)
    config = _llava_config(language_model.config, encoder, len(tokenizer) - 1)
    model = LlavaForConditionalGeneration(config)
    model.model.language_model.load_state_dict(language_model.model.state_dict())
    model.model.multi_modal_projector.load_state_dict(load_file(connector))
    _load_tower(model, read_encoder(encoder))
    model.tie_weights()
    model.generation_config.update(**language_model.generation_config.to_diff_dict())
    model.to(DTYPE).save_pretrained(folder)
    vision = config.vision_config
    LlavaProcessor(
        image_processor=make_preprocessor("image"),
        tokenizer=tokenizer,
        patch_size=vision.patch_size,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        num_additional_image_tokens=1,
        chat_template=tokenizer.chat_template,
        image_token=placeholder,
    ).save_pretrained(folder)


def _llava_config(text: LlamaConfig, encoder: Path, image_token_id: int) -> LlavaConfig:
    settings = read_encoder_description(encoder)["config"]
    assert isinstance(settings, dict)
    vision = CLIPVisionConfig(**settings["vision_config"])
    text.dtype = DTYPE
    text._name_or_path = ""  # the same bytes wherever the zoo is made
    return LlavaConfig(
        vision_config=vision,
        image_seq_length=(vision.image_size // vision.patch_size) ** 2,
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


def _load_tower(model: LlavaForConditionalGeneration, encoder: nn.Module) -> None:
    """Give the vision tower the encoder's weights, by the names that the encoder room keeps."""
    ((outside, inside),) = LLAVA_PREFIXES.items()
    tower = model.get_submodule(outside.rstrip("."))
    weights = {name.removeprefix(inside): w for name, w in encoder.state_dict().items()}
    tower.load_state_dict(weights)


def _write_adapter(
    folder: Path,
    learner: Learner,
    stream: str,
    *,
    inside: str,
    extra: Mapping[str, torch.Tensor],
    host: str,
) -> None:
    """Write one stream as a PEFT LoRA folder.

    Args:
        folder: gets adapter_config.json and adapter_model.safetensors.
        learner: holds the stream.
        stream: its name.
        inside: where the language model lies within the host's base model.
        extra: further tensors, of modules that are replaced as a whole.
        host: the model that the adapter belongs on.
    """
    weights = dict(extra)
    ranks = set()
    for path, factors in streams_of(learner.language_model, stream):
        name = f"base_model.model.model.{inside}{path.removeprefix('model.')}"
        weights[f"{name}.lora_A.weight"] = factors.lora_A
        weights[f"{name}.lora_B.weight"] = factors.lora_B
        ranks.add(factors.lora_A.shape[0])
    (rank,) = ranks
    roles = "|".join(LINEAR_ROLES)
    config = LoraConfig(
        r=rank,
        lora_alpha=rank,  # our factors carry their scale: alpha / r is 1
        # Within LLaVA by path: CLIP's layers have a q_proj too.
        target_modules=rf".*language_model.*\.({roles})" if inside else list(LINEAR_ROLES),
        modules_to_save=[PROJECTOR] if extra else None,
        base_model_name_or_path=host,
        task_type="CAUSAL_LM",
        inference_mode=True,
    )
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        key: sorted(value) if isinstance(value, set) else value
        for key, value in config.to_dict().items()
    }
    _write_json(folder / "adapter_config.json", content)
    save_file(_rounded(weights), folder / "adapter_model.safetensors", metadata={"format": "pt"})


def streams_of(language_model: nn.Module, stream: str) -> Iterator[tuple[str, FactoredStream]]:
    """The path of every linear layer that has `stream`, and its factors there."""
    for path, module in language_model.named_modules():
        if isinstance(module, DecoupledLinear) and stream in module.streams:
            factors = module.streams[stream]
            assert isinstance(factors, FactoredStream)
            yield path, factors


def _rounded(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: w.detach().to(DTYPE).contiguous() for name, w in sorted(weights.items())}


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True, default=str) + "\n")


def _empty(folder: Path) -> None:
    """An empty folder, whatever an earlier training left there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
