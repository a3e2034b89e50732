"""The processors of experts whose families run as they are, as JSON in the composite's own."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from omnicompose.errors import PlanError
from omnicompose.experts.auto import UNREADABLE, first_line, load_auto
from omnicompose.experts.expert import Expert, NativeProcessor
from omnicompose.plan.setting import Setting

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, ProcessorMixin

USUAL_TOKENS = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)


def native_descriptions(setting: Setting) -> dict[str, dict[str, object]]:
    """Modality to the description that `omnicompose.modeling.native_processing` reads.

    Raises:
        PlanError: an expert's processor cannot be loaded.
    """
    return {
        expert.modality: _describe(setting, expert, expert.processor)
        for expert in setting.experts
        if expert.processor is not None
    }


def _describe(setting: Setting, expert: Expert, native: NativeProcessor) -> dict[str, object]:
    processor = _load(setting, expert, native)
    if native.samples_frames:
        clips = processor.video_processor
        clips.do_sample_frames = clips.fps is not None
    described: dict[str, object] = processor.to_dict()
    # The class that was loaded, not the one that was saved: backends resize differently.
    parts = {
        name: {"class": type(getattr(processor, name)).__name__, "config": described.pop(name)}
        for name in processor.get_attributes()
        if isinstance(described.get(name), dict)
    }
    _check_classes(expert, [processor, *(getattr(processor, name) for name in parts)])
    placeholder = str(getattr(processor, native.token))
    prompt = setting.vocabulary.prompts.get(expert.modality)
    said = prompt is not None and placeholder in prompt.text
    return {
        "processor_class": str(described.pop("processor_class")),
        "arguments": described,
        "parts": parts,
        "tokens": dict(processor.tokenizer.get_added_vocab()),
        "named": _named(processor.tokenizer),
        "prompt": prompt.text if said and prompt is not None else placeholder,
        "ids": list(native.ids),
    }


def _check_classes(expert: Expert, parts: list[object]) -> None:
    """A family's processor is kept as JSON, which rebuilds classes of transformers and ours."""
    for part in parts:
        kind = type(part)
        if kind.__module__.split(".")[0] not in ("transformers", "omnicompose"):
            raise PlanError(
                f"{expert.label}: {kind.__name__} is code that comes with the checkpoint; a "
                "composite cannot carry it in a family's processor. Take the preprocessor files "
                "of the checkpoint's conversion to transformers (on the hub often named with -hf)."
            )


def _load(setting: Setting, expert: Expert, native: NativeProcessor) -> "ProcessorMixin":
    from omnicompose.modeling.voxtral_processing import taking_sounds

    try:
        processor = load_auto(
            "AutoProcessor",
            expert.label,
            native.folder,
            trust_remote_code=setting.recipe.trust_remote_code,
        )
    except UNREADABLE as error:
        raise PlanError(
            f"{expert.label}: no usable processor for {expert.modality} in {native.folder}: "
            f"{first_line(error)} Put its processor, preprocessor and tokenizer files there."
        ) from error
    if not hasattr(processor, native.token):
        raise PlanError(
            f"{expert.label}: {native.folder} loads as {type(processor).__name__}, which knows no "
            f"{native.token}. Expected the family's whole processor; add its "
            "preprocessor_config.json and processor_config.json."
        )
    return taking_sounds(cast("ProcessorMixin", processor))


def _named(tokenizer: "PreTrainedTokenizerBase") -> Mapping[str, str]:
    """Special tokens beyond the usual ones, by the names that processors ask for."""
    return {
        name: str(token)
        for name, token in tokenizer.special_tokens_map.items()
        if name not in USUAL_TOKENS and isinstance(token, str)
    }
