"""Tiny experts that see, beyond LLaVA's kind."""

import transformers as hf
from families_tiny import MROPE, SIDE, VISION, VISION_TOKENS, WIDTH, Family


def qwen_vision(**changes: object) -> dict[str, object]:
    return {
        "depth": 2,
        "num_heads": 2,
        "patch_size": 4,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "in_channels": 3,
    } | changes


def qwen_pictures() -> hf.Qwen2VLImageProcessor:
    return hf.Qwen2VLImageProcessor(
        patch_size=4, merge_size=2, size={"shortest_edge": 64, "longest_edge": 1024}
    )


def qwen_clips() -> hf.Qwen2VLVideoProcessor:
    return hf.Qwen2VLVideoProcessor(
        patch_size=4, merge_size=2, size={"shortest_edge": 64, "longest_edge": 512}
    )


IDEFICS_TOKENS = (
    "<fake_token_around_image>",
    "<image>",
    "<end_of_utterance>",
    "<global-img>",
    *(f"<row_{row + 1}_col_{column + 1}>" for row in range(6) for column in range(6)),
)
OVIS_TOKENS = (
    "<image>",
    "<IMG_ATOM>",
    "<IMG_START>",
    "<IMG_GRID>",
    "<IMG_COL>",
    "<IMG_ROW>",
    "<IMG_END>",
)
INTERN_NAMES = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}

SEEING = (
    Family(
        name="InternVL",
        language="qwen2",
        tokens=("<img>", "</img>", "<IMG_CONTEXT>", "<video>"),
        named=INTERN_NAMES,
        config=lambda ids, text: hf.InternVLConfig(
            vision_config=hf.InternVLVisionConfig(**VISION, image_size=[16, 16], patch_size=[4, 4]),
            text_config=text,
            image_token_id=ids("<IMG_CONTEXT>"),
            image_seq_length=4,
            tie_word_embeddings=False,
        ),
        processor=lambda tokenizer: hf.InternVLProcessor(
            hf.GotOcr2ImageProcessor(size=SIDE, crop_to_patches=True, max_patches=4),
            tokenizer,
            hf.InternVLVideoProcessor(size=SIDE),
            image_seq_length=4,
        ),
        prompts={"image": "<IMG_CONTEXT>", "video": "<video>"},
    ),
    Family(
        name="VideoLlama3",
        language="qwen2",
        tokens=VISION_TOKENS,
        config=lambda ids, text: hf.VideoLlama3Config(
            vision_config=hf.VideoLlama3VisionConfig(**VISION, patch_size=4),
            text_config=text,
            image_token_id=ids("<|image_pad|>"),
            video_token_id=ids("<|video_pad|>"),
        ),
        processor=lambda tokenizer: hf.VideoLlama3Processor(
            hf.VideoLlama3ImageProcessor(
                patch_size=4, size={"shortest_edge": 64, "longest_edge": 1024}
            ),
            tokenizer,
            hf.VideoLlama3VideoProcessor(
                patch_size=4, size={"shortest_edge": 64, "longest_edge": 512}
            ),
        ),
        prompts={"image": "<|image_pad|>", "video": "<|video_pad|>"},
    ),
    Family(
        name="Ovis2",
        language="qwen2",
        tokens=OVIS_TOKENS,
        config=lambda ids, text: hf.Ovis2Config(
            vision_config=hf.Ovis2VisionConfig(
                **VISION, image_size=16, patch_size=4, hidden_stride=2, vocab_size=20
            ),
            text_config=text,
            image_token_id=ids("<IMG_ATOM>"),
            visual_indicator_token_ids=[ids(token) for token in OVIS_TOKENS[2:]],
            vocab_size=text.vocab_size,
            hidden_size=WIDTH,
            tie_word_embeddings=False,
        ),
        processor=lambda tokenizer: hf.Ovis2Processor(
            hf.Ovis2ImageProcessor(size=SIDE, crop_to_patches=True, max_patches=4),
            tokenizer,
            image_seq_length=4,
        ),
        prompts={"image": "<image>"},
    ),
    Family(
        name="Idefics3",
        language="llama",
        tokens=IDEFICS_TOKENS,
        config=lambda ids, text: hf.Idefics3Config(
            vision_config={**VISION, "image_size": 16, "patch_size": 4},
            text_config=text,
            image_token_id=ids("<image>"),
            scale_factor=2,
        ),
        processor=lambda tokenizer: hf.Idefics3Processor(
            hf.Idefics3ImageProcessor(
                size={"longest_edge": 32}, max_image_size={"longest_edge": 16}
            ),
            tokenizer,
            image_seq_len=4,
        ),
        prompts={"image": "<image>"},
    ),
    Family(
        name="SmolVLM",
        language="llama",
        tokens=IDEFICS_TOKENS,
        config=lambda ids, text: hf.SmolVLMConfig(
            vision_config={**VISION, "image_size": 16, "patch_size": 4},
            text_config=text,
            image_token_id=ids("<image>"),
            scale_factor=2,
        ),
        processor=lambda tokenizer: hf.SmolVLMProcessor(
            hf.SmolVLMImageProcessor(
                size={"longest_edge": 32}, max_image_size={"longest_edge": 16}
            ),
            tokenizer,
            hf.SmolVLMVideoProcessor(
                size={"longest_edge": 32}, max_image_size={"longest_edge": 16}, fps=1, num_frames=8
            ),
            image_seq_len=4,
        ),
        prompts={"image": "<image>", "video": "<video>"},
    ),
    Family(
        name="Mistral3",
        language="mistral",
        tokens=("[IMG]", "[IMG_BREAK]", "[IMG_END]"),
        config=lambda ids, text: hf.Mistral3Config(
            vision_config=hf.PixtralVisionConfig(**VISION, image_size=32, patch_size=4),
            text_config=text,
            image_token_index=ids("[IMG]"),
            spatial_merge_size=2,
            tie_word_embeddings=False,
        ),
        processor=lambda tokenizer: hf.PixtralProcessor(
            hf.PixtralImageProcessor(patch_size=4, size={"longest_edge": 32}),
            tokenizer,
            patch_size=4,
            spatial_merge_size=2,
        ),
        prompts={"image": "[IMG]"},
    ),
    Family(
        name="Qwen2VL",
        language="qwen2",
        tokens=VISION_TOKENS,
        config=lambda ids, text: hf.Qwen2VLConfig(
            text_config=text.to_dict() | {"model_type": "qwen2_vl_text", "rope_parameters": MROPE},
            vision_config=qwen_vision(embed_dim=16, hidden_size=WIDTH, mlp_ratio=2),
            image_token_id=ids("<|image_pad|>"),
            video_token_id=ids("<|video_pad|>"),
            vision_start_token_id=ids("<|vision_start|>"),
            vision_end_token_id=ids("<|vision_end|>"),
            tie_word_embeddings=False,
        ),
        processor=lambda tokenizer: hf.Qwen2VLProcessor(qwen_pictures(), tokenizer, qwen_clips()),
        prompts={
            "image": "<|vision_start|><|image_pad|><|vision_end|>",
            "video": "<|vision_start|><|video_pad|><|vision_end|>",
        },
    ),
    Family(
        name="Qwen2_5_VL",
        language="qwen2",
        tokens=VISION_TOKENS,
        config=lambda ids, text: hf.Qwen2_5_VLConfig(
            text_config=text.to_dict()
            | {"model_type": "qwen2_5_vl_text", "rope_parameters": MROPE},
            vision_config=qwen_vision(
                hidden_size=16,
                intermediate_size=32,
                out_hidden_size=WIDTH,
                window_size=16,
                fullatt_block_indexes=[1],
                tokens_per_second=2,
            ),
            image_token_id=ids("<|image_pad|>"),
            video_token_id=ids("<|video_pad|>"),
            vision_start_token_id=ids("<|vision_start|>"),
            vision_end_token_id=ids("<|vision_end|>"),
            tie_word_embeddings=False,
        ),
        processor=lambda tokenizer: hf.Qwen2_5_VLProcessor(
            qwen_pictures(), tokenizer, qwen_clips()
        ),
        prompts={
            "image": "<|vision_start|><|image_pad|><|vision_end|>",
            "video": "<|vision_start|><|video_pad|><|vision_end|>",
        },
    ),
)
