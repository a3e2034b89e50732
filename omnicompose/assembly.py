"""From a plan to what is not weights in the folder: configuration, processor, template."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from omnicompose.assembly_native import native_descriptions
from omnicompose.errors import PlanError
from omnicompose.plan import CompositePlan

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase

    from omnicompose.modeling import OmniComposeConfig

THREE_POSITIONS_HOST = "qwen2_5_vl_text"
"""Qwen2's language model of transformers, weight by weight, with three rows of positions."""
PREPROCESSORS = {
    "image": ("image_processor", "AutoImageProcessor"),
    "video": ("video_processor", "AutoVideoProcessor"),
    "audio": ("feature_extractor", "AutoFeatureExtractor"),
}
"""Modality to the processor's argument and the transformers class that reads its configuration."""


def composite_config(plan: CompositePlan) -> "OmniComposeConfig":
    """The composite's configuration: the base's language model, grown by the placeholders."""
    from omnicompose.modeling import OmniComposeConfig

    text = {k: v for k, v in plan.setting.base.config.items() if k != "_name_or_path"}
    text |= _three_positions(plan)
    text["vocab_size"] = plan.setting.vocabulary.num_rows
    dtype = plan.setting.recipe.dtype or text.get("dtype")
    config = OmniComposeConfig(text_config=text | {"dtype": dtype}, modalities=plan.modalities())
    config.dtype = dtype
    config.single_modality_text = plan.setting.recipe.streams.single_modality_text
    config.architectures = ["OmniComposeForConditionalGeneration"]
    return config


def _three_positions(plan: CompositePlan) -> dict[str, object]:
    """What the language model needs to number media in three rows, if an expert does so.

    With equal rows, which all other tokens have, that is the ordinary numbering.
    """
    for expert in plan.setting.experts:
        rope = expert.text_config.get("rope_parameters")
        if isinstance(rope, dict) and "mrope_section" in rope:
            return {"model_type": THREE_POSITIONS_HOST, "rope_parameters": rope}
    return {}


def check_loads(config: "OmniComposeConfig", plan: CompositePlan) -> None:
    """Build the model without memory and compare its tensors with the plan's, name by name.

    Raises:
        PlanError: a tensor would be missing, unexpected or of another shape when loaded.
    """
    import torch

    from omnicompose.modeling import OmniComposeForConditionalGeneration

    with torch.device("meta"):
        model = OmniComposeForConditionalGeneration(config)
    tied = set(model.all_tied_weights_keys)
    expected = {
        name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if name not in tied
    }
    planned = {entry.output.name: entry.output.shape for entry in plan.plan.entries}
    problems = [
        *(f"{name} would be missing" for name in expected.keys() - planned.keys()),
        *(f"{name} has no place in the composite" for name in planned.keys() - expected.keys()),
        *(
            f"{name} has shape {list(planned[name])}, the composite expects {list(shape)}"
            for name, shape in expected.items()
            if name in planned and planned[name] != shape
        ),
    ]
    if problems:
        raise PlanError(
            f"the composite would not load: {'; '.join(sorted(problems)[:5])}"
            f"{f' and {len(problems) - 5} more' if len(problems) > 5 else ''}. "
            "An encoder's or connector's weights do not fit its configuration."
        )


def write_model_files(config: "OmniComposeConfig", plan: CompositePlan, folder: Path) -> None:
    """Write configuration, generation settings, tokenizer and processor into `folder`."""
    from omnicompose.modeling import OmniComposeProcessor

    config.save_pretrained(folder)
    _generation_config(config, plan).save_pretrained(folder)
    native = native_descriptions(plan.setting)
    processor = OmniComposeProcessor(
        tokenizer=_tokenizer(plan),
        chat_template=plan.setting.vocabulary.chat_template,
        modalities={
            name: entry | ({"native": native[name]} if name in native else {})
            for name, entry in plan.modalities().items()
        },
        **{
            argument: _preprocessor(plan, modality)
            for modality, (argument, _) in PREPROCESSORS.items()
            if modality in plan.streams and modality not in native
        },
    )
    processor.save_pretrained(folder)


def _preprocessor(plan: CompositePlan, modality: str) -> object:
    import transformers

    expert = next(one for one in plan.setting.experts if one.modality == modality)
    reader = getattr(transformers, PREPROCESSORS[modality][1])
    if not isinstance(expert.preprocessor, Path):
        with TemporaryDirectory() as folder:
            text = json.dumps(dict(expert.preprocessor))
            (Path(folder) / "preprocessor_config.json").write_text(text)
            return reader.from_pretrained(folder)
    try:
        return reader.from_pretrained(expert.preprocessor, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise PlanError(
            f"{expert.label}: no usable preprocessor configuration for {modality} in "
            f"{expert.preprocessor}: {reason} Put its preprocessor_config.json there."
        ) from error


def _tokenizer(plan: CompositePlan) -> "PreTrainedTokenizerBase":
    from transformers import AddedToken, AutoTokenizer

    vocabulary = plan.setting.vocabulary
    tokenizer = AutoTokenizer.from_pretrained(plan.setting.base.folder, local_files_only=True)
    for text, flags in vocabulary.added.items():
        tokenizer.add_tokens([AddedToken(text, **flags)], special_tokens=flags.get("special", True))
    for placeholder in vocabulary.placeholders.values():
        token = AddedToken(placeholder.token, special=True, normalized=False)
        tokenizer.add_tokens([token], special_tokens=True)
        found = tokenizer.convert_tokens_to_ids(placeholder.token)
        if found != placeholder.token_id:
            raise PlanError(
                f"the tokenizer gives {placeholder.token!r} the id {found}, the plan "
                f"{placeholder.token_id}. Please report this base model."
            )
    tokenizer.padding_side = "left"
    tokenizer.chat_template = vocabulary.chat_template
    return tokenizer


def _generation_config(config: "OmniComposeConfig", plan: CompositePlan) -> "GenerationConfig":
    from transformers import GenerationConfig

    from omnicompose.modeling import suppress_placeholders

    folder = plan.setting.base.folder
    if (folder / "generation_config.json").is_file():
        generation = GenerationConfig.from_pretrained(folder, local_files_only=True)
    else:
        generation = GenerationConfig.from_model_config(config.text_config)
    suppress_placeholders(config, generation)
    return generation
