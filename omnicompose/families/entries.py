"""The architectures that can be opened, one declarative entry each.

A new family is an entry here and a fixture in tests/families: no code. Sources:
specs/environment.md 2.5 and 3, and transformers' conversion_mapping.
"""

from collections.abc import Mapping

from omnicompose.families.family import Family, ModuleMap, NativeMedia, NativeModel, Rule
from omnicompose.families.layouts import (
    LLAVA_IN_MEMORY,
    LLAVA_ON_DISK,
    TEXT,
    beside,
    in_memory,
    wrapped,
)

TEXT_FAMILIES = (
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
    "GraniteForCausalLM",
)

IMAGE = NativeMedia(token="image_token", ids=("image_token_id",), input_name="pixel_values")
VIDEO = NativeMedia(token="video_token", ids=("video_token_id",), input_name="pixel_values_videos")
AUDIO = NativeMedia(token="audio_token", ids=("audio_token_id",), input_name="input_features")
VISION = {"image": IMAGE, "video": VIDEO}
PROJECTED = ("vision_tower.", "multi_modal_projector.")
HEARD = ("audio_tower.", "multi_modal_projector.")
VISION_EDGES = ("<|vision_start|>", "<|vision_end|>")


def _text(architecture: str) -> Family:
    return Family(architecture=architecture, layouts=(TEXT,))


def _native(
    name: str,
    layouts: tuple[tuple[Rule, ...], ...],
    media: Mapping[str, NativeMedia],
    structure: tuple[str, ...] = (),
    language_model: str = "language_model",
    packages: tuple[str, ...] = (),
) -> Family:
    """A family whose classes are `<name>ForConditionalGeneration` and `<name>Model`."""
    native = NativeModel(
        base_class=f"{name}Model",
        media=media,
        structure=structure,
        language_model=language_model,
        packages=packages,
    )
    text_config = f"{native.config}.text_config" if native.config else "text_config"
    return Family(
        architecture=f"{name}ForConditionalGeneration",
        layouts=layouts,
        text_config=text_config,
        native=native,
    )


LLAVA = Family(
    architecture="LlavaForConditionalGeneration",
    layouts=(LLAVA_ON_DISK, LLAVA_IN_MEMORY),
    text_config="text_config",
    encoders={
        "image": ModuleMap(
            type="clip_vision",
            options={
                "vision_config": "vision_config",
                "feature_layer": "vision_feature_layer",
                "select": "vision_feature_select_strategy",
            },
        )
    },
    connectors={
        "image": ModuleMap(
            type="mlp",
            options={
                "input_size": "vision_config.hidden_size",
                "output_size": "text_config.hidden_size",
                "activation": "projector_hidden_act",
                "bias": "multimodal_projector_bias",
            },
        )
    },
    placeholder_ids={"image": "image_token_id"},
)

NEWLINED = (*PROJECTED, "image_newline")
PAIRED = ("image_tower.", "video_tower.", "multi_modal_projector.")
VISION_FAMILIES = (
    _native("LlavaNext", (in_memory(*NEWLINED), wrapped(*NEWLINED)), {"image": IMAGE}),
    _native("LlavaNextVideo", (in_memory(*NEWLINED), wrapped(*NEWLINED)), VISION),
    _native("LlavaOnevision", (in_memory(*NEWLINED), wrapped(*NEWLINED)), VISION),
    _native("VipLlava", (in_memory(*PROJECTED), wrapped(*PROJECTED)), {"image": IMAGE}),
    _native(
        "VideoLlava",
        (in_memory(*PAIRED), wrapped(*PAIRED)),
        {
            "image": NativeMedia(
                token="image_token",
                ids=("image_token_id",),
                input_name="pixel_values_images",
                unused=("video_tower",),
            ),
            "video": NativeMedia(
                token="video_token",
                ids=("video_token_id",),
                input_name="pixel_values_videos",
                unused=("image_tower",),
            ),
        },
    ),
    _native(
        "InternVL",
        (in_memory(*PROJECTED), wrapped(*PROJECTED)),
        {
            "image": IMAGE,
            # Frames are written with the image's token, each between the image's edges.
            "video": NativeMedia(
                token="video_token", ids=("image_token_id",), input_name="pixel_values"
            ),
        },
        structure=("<img>", "</img>"),
    ),
    _native("VideoLlama3", (in_memory("vision_model.", "projector."),), VISION, VISION_EDGES),
    _native(
        "Ovis2",
        (in_memory("vision_tower.", "visual_embeddings_table."),),
        {
            "image": NativeMedia(
                token="image_token",
                ids=("image_token_id", "visual_indicator_token_ids"),
                input_name="pixel_values",
            )
        },
    ),
    _native(
        "Idefics3",
        (in_memory("vision_model.", "connector.", language_model="text_model"),),
        {"image": IMAGE},
        structure=("<fake_token_around_image>", "<global-img>", "<row_*_col_*>"),
        language_model="text_model",
    ),
    _native(
        "SmolVLM",
        (in_memory("vision_model.", "connector.", language_model="text_model"),),
        {
            "image": IMAGE,
            # Frames are written as pictures, each behind its time.
            "video": NativeMedia(
                token="video_token",
                ids=("image_token_id",),
                input_name="pixel_values",
                samples_frames=True,
            ),
        },
        structure=("<fake_token_around_image>", "<global-img>", "<row_*_col_*>"),
        language_model="text_model",
        packages=("num2words",),
    ),
    _native(
        "Mistral3",
        (in_memory(*PROJECTED), wrapped(*PROJECTED)),
        {"image": IMAGE},
        structure=("[IMG_BREAK]", "[IMG_END]"),
    ),
    _native("Qwen2VL", (in_memory("visual."), beside("visual.")), VISION, VISION_EDGES),
    _native("Qwen2_5_VL", (in_memory("visual."), beside("visual.")), VISION, VISION_EDGES),
)

AUDIO_FAMILIES = (
    _native(
        "Qwen2Audio",
        (in_memory(*HEARD), wrapped(*HEARD)),
        {"audio": AUDIO},
        structure=("<|audio_bos|>", "<|audio_eos|>"),
    ),
    _native("AudioFlamingo3", (in_memory(*HEARD), wrapped(*HEARD)), {"audio": AUDIO}),
    _native(
        "MusicFlamingo",
        (in_memory(*HEARD), wrapped(*HEARD)),
        {"audio": AUDIO},
        structure=("<|sound_bos|>", "<|sound_eos|>"),
    ),
    _native(
        "Voxtral",
        (in_memory(*HEARD), wrapped(*HEARD)),
        {"audio": AUDIO},
        structure=("[BEGIN_AUDIO]",),
    ),
    _native(
        "GraniteSpeech",
        (in_memory("encoder.", "projector."), wrapped("encoder.", "projector.")),
        {"audio": AUDIO},
    ),
)

THINKER_MEDIA = {
    "image": NativeMedia(
        token="image_token",
        ids=("image_token_id",),
        input_name="pixel_values",
        unused=("audio_tower",),
    ),
    "video": NativeMedia(
        token="video_token",
        ids=("video_token_id",),
        input_name="pixel_values_videos",
        unused=("audio_tower",),
    ),
    "audio": NativeMedia(
        token="audio_token",
        ids=("audio_token_id",),
        input_name="input_features",
        unused=("visual",),
    ),
}
THINKER_PARTS = ("visual.", "audio_tower.")
THINKER_EDGES = ("<|vision_bos|>", "<|vision_eos|>", "<|audio_bos|>", "<|audio_eos|>")
WHOLE_OMNI = ("Qwen2_5OmniForConditionalGeneration", "Qwen2_5OmniModel")
TALKING = ("talker.", "token2wav.")
OMNI_FAMILIES = (
    _native(
        "Qwen2_5OmniThinker",
        (
            in_memory(*THINKER_PARTS),
            beside(*THINKER_PARTS, prefix="thinker."),
            beside(*THINKER_PARTS),
        ),
        THINKER_MEDIA,
        THINKER_EDGES,
    ),
    *(
        Family(
            architecture=architecture,
            layouts=(beside(*THINKER_PARTS, prefix="thinker.", unused=TALKING),),
            text_config="thinker_config.text_config",
            native=NativeModel(
                base_class="Qwen2_5OmniThinkerModel",
                media=THINKER_MEDIA,
                config="thinker_config",
                structure=THINKER_EDGES,
            ),
            note="its thinker; the talker is left aside",
        )
        for architecture in WHOLE_OMNI
    ),
)

FAMILIES: dict[str, Family] = {
    family.architecture: family
    for family in (
        *map(_text, TEXT_FAMILIES),
        LLAVA,
        *VISION_FAMILIES,
        *AUDIO_FAMILIES,
        *OMNI_FAMILIES,
    )
}
"""Every architecture that can be opened, by its class name."""
