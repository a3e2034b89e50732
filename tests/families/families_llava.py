"""Tiny experts of the LLaVA kind."""

from collections.abc import Callable

import transformers as hf
from families_tiny import CLIP, GRIDS, SIDE, VISION, Family, Ids


def _llava_next(name: str) -> Callable[..., hf.PreTrainedConfig]:
    def make(ids: Ids, text: hf.PreTrainedConfig) -> hf.PreTrainedConfig:
        videos = {"video_token_id": ids("<video>")} if name != "LlavaNextConfig" else {}
        return getattr(hf, name)(
            vision_config=CLIP,
            text_config=text,
            image_token_id=ids("<image>"),
            image_grid_pinpoints=GRIDS,
            **videos,
        )

    return make


def _next_pictures() -> hf.LlavaNextImageProcessor:
    return hf.LlavaNextImageProcessor(
        size={"shortest_edge": 16}, crop_size=SIDE, image_grid_pinpoints=GRIDS
    )


def _pictures() -> hf.CLIPImageProcessor:
    return hf.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=SIDE)


LLAVAS = (
    Family(
        name="Llava",
        language="llama",
        tokens=("<image>",),
        config=lambda ids, text: hf.LlavaConfig(
            vision_config=CLIP,
            text_config=text,
            image_token_id=ids("<image>"),
            image_seq_length=4,
            tie_word_embeddings=False,
        ),
        processor=lambda tokenizer: hf.LlavaProcessor(
            _pictures(),
            tokenizer,
            patch_size=8,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
        ),
        prompts={"image": "<image>"},
    ),
    Family(
        name="LlavaNext",
        language="llama",
        tokens=("<pad2>", "<image>"),
        config=_llava_next("LlavaNextConfig"),
        processor=lambda tokenizer: hf.LlavaNextProcessor(
            _next_pictures(),
            tokenizer,
            patch_size=8,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
        ),
        prompts={"image": "<image>"},
    ),
    Family(
        name="LlavaNextVideo",
        language="llama",
        tokens=("<video>", "<image>"),
        config=_llava_next("LlavaNextVideoConfig"),
        processor=lambda tokenizer: hf.LlavaNextVideoProcessor(
            hf.LlavaNextVideoVideoProcessor(size={"shortest_edge": 16}, crop_size=SIDE),
            _next_pictures(),
            tokenizer,
            patch_size=8,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
        ),
        prompts={"image": "<image>", "video": "<video>"},
    ),
    Family(
        name="VideoLlava",
        language="llama",
        tokens=("<image>", "<video>"),
        config=lambda ids, text: hf.VideoLlavaConfig(
            vision_config=CLIP,
            text_config=text,
            image_token_index=ids("<image>"),
            video_token_index=ids("<video>"),
            image_seq_length=4,
            video_seq_length=20,
        ),
        processor=lambda tokenizer: hf.VideoLlavaProcessor(
            hf.VideoLlavaImageProcessor(size={"shortest_edge": 16}, crop_size=SIDE),
            hf.VideoLlavaVideoProcessor(size={"shortest_edge": 16}, crop_size=SIDE),
            tokenizer,
            patch_size=8,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
        ),
        prompts={"image": "<image>", "video": "<video>"},
    ),
    Family(
        name="VipLlava",
        language="llama",
        tokens=("<image>",),
        config=lambda ids, text: hf.VipLlavaConfig(
            vision_config=CLIP,
            text_config=text,
            image_token_index=ids("<image>"),
            vision_feature_layers=[-1, -2],
        ),
        processor=lambda tokenizer: hf.LlavaProcessor(
            _pictures(),
            tokenizer,
            patch_size=8,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
        ),
        prompts={"image": "<image>"},
    ),
    Family(
        name="GraniteVision",
        kind="LlavaNext",
        language="granite",
        tokens=("<image>",),
        language_changes={"logits_scaling": 8.0, "embedding_multiplier": 12.0},
        config=_llava_next("LlavaNextConfig"),
        processor=lambda tokenizer: hf.LlavaNextProcessor(
            _next_pictures(),
            tokenizer,
            patch_size=8,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
        ),
        prompts={"image": "<image>"},
    ),
    Family(
        name="LlavaOnevision",
        language="qwen2",
        tokens=("<image>", "<video>"),
        config=lambda ids, text: hf.LlavaOnevisionConfig(
            vision_config=hf.SiglipVisionConfig(**VISION, image_size=16, patch_size=8),
            text_config=text,
            image_token_index=ids("<image>"),
            video_token_index=ids("<video>"),
            image_grid_pinpoints=GRIDS,
            vision_aspect_ratio="anyres_max_9",
        ),
        processor=lambda tokenizer: hf.LlavaOnevisionProcessor(
            hf.LlavaOnevisionImageProcessor(size=SIDE, image_grid_pinpoints=GRIDS),
            tokenizer,
            hf.LlavaOnevisionVideoProcessor(size=SIDE),
            num_image_tokens=4,
            vision_feature_select_strategy="full",
        ),
        prompts={"image": "<image>", "video": "<video>"},
    ),
)
