"""A composite of one sense as the model class that transformers and other servers know.

What is merged needs no class of ours: a composite that looks at pictures through a CLIP tower and
an MLP is a LLaVA. Composites of senses from different families, or with streams, have no class in
transformers; `omnicompose merge` writes its models as their family's class anyway.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from omnicompose.errors import ExportError
from omnicompose.export import refuse_existing
from omnicompose.exporting import checked_manifest, finish

if TYPE_CHECKING:
    from transformers import LlavaConfig, PreTrainedModel

PARTS = {
    "model.image_encoder.tower.": "model.vision_tower.",
    "model.image_connector.": "model.multi_modal_projector.",
}
Json = Mapping[str, object]


def export_native(folder: Path, out: Path, *, overwrite: bool = False) -> str:
    """Write the composite as `LlavaForConditionalGeneration`; the name of the class.

    Args:
        folder: written by `omnicompose compose`.
        out: the folder to make.
        overwrite: replace `out` if it exists.

    Raises:
        ExportError: no class of transformers computes what the composite does.
    """
    refuse_existing(out, overwrite=overwrite)
    checked_manifest(folder)
    from transformers import AutoProcessor, LlavaForConditionalGeneration, LlavaProcessor

    from omnicompose.replier import load_stored

    composite = load_stored(folder)
    image = _only_image(composite, folder)
    llava = LlavaForConditionalGeneration(_config(composite, image)).to(composite.dtype)
    tensors = {_renamed(name): tensor for name, tensor in composite.state_dict().items()}
    llava.load_state_dict(tensors, strict=True)
    llava.generation_config = composite.generation_config
    ours = AutoProcessor.from_pretrained(folder)
    processor = LlavaProcessor(
        image_processor=ours.image_processor,
        tokenizer=ours.tokenizer,
        patch_size=llava.config.vision_config.patch_size,
        vision_feature_select_strategy=llava.config.vision_feature_select_strategy,
        num_additional_image_tokens=1,
        image_token=image["token"],
        chat_template=ours.chat_template,
    )

    def fill(part: Path) -> None:
        llava.save_pretrained(part)
        processor.save_pretrained(part)

    finish(out, fill, overwrite=overwrite)
    return type(llava).__name__


def _only_image(composite: "PreTrainedModel", folder: Path) -> Json:
    """The entry of the one modality, if it is all that LLaVA is.

    Raises:
        ExportError: it is not.
    """
    modalities: dict[str, dict[str, Json]] = composite.config.modalities
    why = [f"it has {name}" for name in modalities if name != "image"]
    for name, entry in modalities.items():
        types = (entry["encoder"]["type"], entry["connector"]["type"])
        if name == "image" and types != ("clip_vision", "mlp"):
            why.append(f"its pictures go through {types[0]} and {types[1]}")
        if entry["stream"] or entry["text_stream"]:
            why.append(f"{name} has weights of its own")
        if entry["num_prefix_tokens"] or entry["num_suffix_tokens"]:
            why.append(f"{name} has learned tokens at its edges")
    if not modalities:
        why = ["it has no modality"]
    if why:
        raise ExportError(
            f"{folder}: no class of transformers computes this composite: {', '.join(why)}. "
            "Expected pictures alone, through a CLIP tower and an MLP, with merged weights. "
            "Export it as a composite."
        )
    return modalities["image"]


def _config(composite: "PreTrainedModel", image: Json) -> "LlavaConfig":
    from transformers import CLIPVisionConfig, LlavaConfig

    encoder = cast(dict[str, object], cast(Json, image["encoder"])["config"])
    connector = cast(Json, cast(Json, image["connector"])["config"])
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**cast(dict[str, object], encoder["vision_config"])),
        text_config=composite.config.text_config,
        image_token_id=image["token_id"],
        projector_hidden_act=connector.get("activation", "gelu"),
        vision_feature_layer=encoder.get("feature_layer", -2),
        vision_feature_select_strategy=encoder.get("select", "default"),
        multimodal_projector_bias=connector.get("bias", True),
        tie_word_embeddings=composite.config.tie_word_embeddings,
    )
    config.dtype = composite.dtype
    return config


def _renamed(name: str) -> str:
    for ours, theirs in PARTS.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name
