"""From a plan to what is not weights in the folder: configuration, processor, template."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, cast

from omnicompose.assembly_native import native_descriptions
from omnicompose.errors import PlanError
from omnicompose.experts.auto import UNREADABLE, first_line, load_auto
from omnicompose.plan import CompositePlan

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase

    from omnicompose.modeling import OmniComposeConfig, OmniComposeProcessor

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

    trusted = plan.setting.recipe.trust_remote_code
    left_out = ("_name_or_path", *(() if trusted else ("auto_map",)))
    text = {k: v for k, v in plan.setting.base.config.items() if k not in left_out}
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
    config.save_pretrained(folder)
    _generation_config(config, plan).save_pretrained(folder)
    make_processor(plan).save_pretrained(folder)


def make_processor(plan: CompositePlan) -> "OmniComposeProcessor":
    """The composite's processor from the base's tokenizer and the experts' preprocessors.

    Making it before the merge shows what is missing or malformed while nothing is lost.

    Raises:
        SourceError: a part needs code of its own, which nobody allowed.
        PlanError: a part cannot be read.
    """
    from omnicompose.modeling import OmniComposeProcessor

    native = native_descriptions(plan.setting)
    return OmniComposeProcessor(
        tokenizer=_tokenizer(plan),
        chat_template=plan.setting.vocabulary.chat_template,
        modalities={
            name: entry
            | ({"native": native[name]} if name in native else {})
            | _options_of_points(plan, name)
            for name, entry in plan.modalities().items()
        },
        **{
            argument: _preprocessor(plan, modality)
            for modality, (argument, _) in PREPROCESSORS.items()
            if modality in plan.streams and modality not in native
        },
    )


def _options_of_points(plan: CompositePlan, modality: str) -> dict[str, object]:
    """Clouds have no preprocessor of transformers; what is done to them stands in the entry."""
    expert = next(one for one in plan.setting.experts if one.modality == modality)
    if modality != "point" or isinstance(expert.preprocessor, Path):
        return {}
    return {"options": dict(expert.preprocessor)} if expert.preprocessor else {}


def _preprocessor(plan: CompositePlan, modality: str) -> object:
    expert = next(one for one in plan.setting.experts if one.modality == modality)
    auto_class, place = PREPROCESSORS[modality][1], expert.preprocessor
    trusted = plan.setting.recipe.trust_remote_code
    if not isinstance(place, Path):
        with TemporaryDirectory() as folder:
            (Path(folder) / "preprocessor_config.json").write_text(json.dumps(dict(place)))
            return load_auto(auto_class, expert.label, Path(folder), trust_remote_code=False)
    try:
        return load_auto(auto_class, expert.label, place, trust_remote_code=trusted)
    except UNREADABLE as error:
        raise PlanError(
            f"{expert.label}: no usable preprocessor configuration for {modality} in {place}: "
            f"{first_line(error)} Put its preprocessor_config.json there."
        ) from error


def _tokenizer(plan: CompositePlan) -> "PreTrainedTokenizerBase":
    from transformers import AddedToken

    vocabulary = plan.setting.vocabulary
    tokenizer = _read_tokenizer(plan)
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


def _read_tokenizer(plan: CompositePlan) -> "PreTrainedTokenizerBase":
    base, trusted = plan.setting.base, plan.setting.recipe.trust_remote_code
    try:
        found = load_auto("AutoTokenizer", base.label, base.folder, trust_remote_code=trusted)
    except UNREADABLE as error:
        raise PlanError(
            f"{base.label}: transformers cannot read the tokenizer in {base.folder}: "
            f"{first_line(error)} Save it again with save_pretrained."
        ) from error
    return cast("PreTrainedTokenizerBase", found)


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
