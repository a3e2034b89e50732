"""The zoo's LLaVA checkpoints: how their parts are put together."""

from pathlib import Path

from transformers import (
    BaseImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerBase,
)

from omnicompose.encoders.clip_vision import LLAVA_PREFIXES
from omnicompose.encoders.folder import read_encoder, read_encoder_description
from omnicompose.modalities import MODALITIES

PLACEHOLDER = MODALITIES["image"].placeholder


def llava_config(text: LlamaConfig, encoder: Path, image_token_id: int) -> LlavaConfig:
    """The configuration of a language model with the vision encoder in a folder.

    Args:
        text: of the language model, its row for the placeholder among its words.
        encoder: folder of the image encoder.
        image_token_id: of the placeholder.
    """
    settings = read_encoder_description(encoder)["config"]
    assert isinstance(settings, dict)
    vision = CLIPVisionConfig(**settings["vision_config"])
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


def load_tower(model: LlavaForConditionalGeneration, encoder: Path) -> None:
    """Give the vision tower the encoder's weights, by the names that the encoder room keeps."""
    ((outside, inside),) = LLAVA_PREFIXES.items()
    tower = model.get_submodule(outside.rstrip("."))
    weights = read_encoder(encoder).state_dict()
    tower.load_state_dict({name.removeprefix(inside): value for name, value in weights.items()})


def write_processor(
    folder: Path,
    model: LlavaForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    image_processor: BaseImageProcessor,
) -> None:
    """Write what turns chats and pictures into the model's inputs.

    Args:
        folder: of the checkpoint.
        model: whose inputs.
        tokenizer: with the placeholder among its tokens, and a chat template.
        image_processor: preprocesses pictures.
    """
    config = model.config
    LlavaProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=config.vision_config.patch_size,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        num_additional_image_tokens=1,
        chat_template=tokenizer.chat_template,
        image_token=PLACEHOLDER,
    ).save_pretrained(folder)
