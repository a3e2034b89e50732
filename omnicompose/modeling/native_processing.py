"""A family's own processor, asked about one medium at a time.

It preprocesses the medium and says how its family writes it: which tokens are embeddings and what
stands between them. Its tokenizer is not needed for that. In its place stands one that knows the
family's special tokens and spells everything else byte by byte, so the text that the family would
tokenize comes back exactly and the composite's own tokenizer reads it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import cast

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AddedToken, PreTrainedTokenizerFast, ProcessorMixin
from transformers.video_utils import VideoMetadata

from omnicompose.errors import ModelInputError
from omnicompose.modeling.media_inputs import Medium, Reading, read_medium
from omnicompose.modeling.preprocessors import SAMPLING_OPTIONS, Options
from omnicompose.modeling.voxtral_processing import VoxtralSoundProcessor
from omnicompose.settings import read_settings

DEFAULT_SAMPLE_RATE_HZ = 16000
OWN_PROCESSORS = {"VoxtralSoundProcessor": VoxtralSoundProcessor}
"""Processors of ours, in the place of those that do not take media in a prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeDescription:
    """A family's processor for one modality, as JSON.

    Attributes:
        processor_class: its class in transformers, or one of `OWN_PROCESSORS`.
        arguments: what it was made with, its parts left aside.
        parts: its image processor, video processor or feature extractor by attribute, each
            `{"class", "config"}`.
        tokens: the family's special tokens and their ids.
        named: special tokens by the names that the processor asks the tokenizer for.
        prompt: what the family writes for one medium.
        ids: tokens that stand for embeddings.
    """

    processor_class: str
    arguments: dict[str, object]
    parts: dict[str, object]
    tokens: dict[str, object]
    named: dict[str, object]
    prompt: str
    ids: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeItem:
    """One preprocessed medium.

    Attributes:
        tensors: the family's own model inputs for a prompt of this medium alone.
        text: how it is written, with the composite's placeholder for each embedding.
        num_tokens: embeddings.
    """

    tensors: Mapping[str, torch.Tensor]
    text: str
    num_tokens: int


class NativePreprocessor:
    """Asks a family's processor about media of one modality."""

    def __init__(self, modality: str, description: Mapping[str, object]) -> None:
        """Rebuild the processor from JSON.

        Args:
            modality: of all media.
            description: the fields of `NativeDescription`.

        Raises:
            ModelInputError: the family's processor needs a package that is not installed.
        """
        self.modality = modality
        self.description = read_settings(NativeDescription, description, f"{modality} processor")
        try:
            self.processor = _rebuild(self.description)
        except ImportError as error:
            raise ModelInputError(f"{modality}: {error}") from error

    def item(self, medium: Medium, placeholder: str, options: Options) -> NativeItem:
        """Preprocess one medium.

        Args:
            medium: a path, or a medium in memory.
            placeholder: the composite's token for this modality.
            options: what the family's processor takes for this modality.

        Raises:
            MediaError: a file is not what its modality says, or holds nothing.
            ModelInputError: the family's processor does not take the medium.
        """
        ask = {"image": _ask_image, "video": _ask_video, "audio": _ask_audio}[self.modality]
        try:
            inputs = ask(self.processor, self.description.prompt, medium, options)
        except (ValueError, TypeError) as error:
            raise ModelInputError(
                f"{self.modality}: {self.description.processor_class} does not take this medium: "
                f"{error}"
            ) from error
        tensors = {name: torch.as_tensor(value) for name, value in inputs.items() if _tensor(value)}
        ids = tensors["input_ids"][0].tolist()
        num_tokens = sum(token_id in self.description.ids for token_id in ids)
        return NativeItem(
            tensors=tensors, text=self._written(ids, placeholder), num_tokens=num_tokens
        )

    def _written(self, ids: list[int], placeholder: str) -> str:
        tokenizer = self.processor.tokenizer
        parts = []
        for is_media, group in groupby(ids, key=lambda one: one in self.description.ids):
            run = list(group)
            parts.append(placeholder * len(run) if is_media else tokenizer.decode(run))
        return "".join(parts)


def _tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor) or type(value).__module__ == "numpy"


def _rebuild(description: NativeDescription) -> ProcessorMixin:
    name = description.processor_class
    processor_class = OWN_PROCESSORS.get(name) or getattr(transformers, name)
    parts: dict[str, object] = {
        attribute: _part(cast(dict[str, object], part))
        for attribute, part in description.parts.items()
    }
    parts["tokenizer"] = spelling_tokenizer(description)
    arguments = [parts[attribute] for attribute in processor_class.get_attributes()]
    made = processor_class.from_args_and_dict(arguments, dict(description.arguments))
    return made[0] if isinstance(made, tuple) else made


def _part(part: Mapping[str, object]) -> object:
    part_class = getattr(transformers, str(part["class"]))
    return part_class.from_dict(cast(dict[str, object], part["config"]))


def spelling_tokenizer(description: NativeDescription) -> PreTrainedTokenizerFast:
    """A tokenizer of the family's special tokens, with their ids, that spells all other text."""
    tokens = {token: cast(int, token_id) for token, token_id in description.tokens.items()}
    first = max(tokens.values(), default=-1) + 1
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = tokens | {letter: first + place for place, letter in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        extra_special_tokens=dict(description.named),
        clean_up_tokenization_spaces=False,
        # One prompt is never padded, but some processors ask for it all the same.
        pad_token=next(iter(tokens), None),
    )
    added = [AddedToken(token, special=True, normalized=False) for token in tokens]
    fast.add_tokens(added, special_tokens=True)
    return fast


Answer = Mapping[str, object]


def _ask_image(part: ProcessorMixin, prompt: str, medium: Medium, options: Options) -> Answer:
    picture = read_medium("image", medium, Reading(sample_rate_hz=0))
    return cast(
        Answer,
        part(text=[prompt], images=[picture], images_kwargs=dict(options), return_tensors="pt"),
    )


def _ask_audio(part: ProcessorMixin, prompt: str, medium: Medium, options: Options) -> Answer:
    extractor = getattr(part, "feature_extractor", None) or part.audio_processor
    rate = int(getattr(extractor, "sampling_rate", DEFAULT_SAMPLE_RATE_HZ))
    sound = read_medium("audio", medium, Reading(sample_rate_hz=rate))
    named = rate if isinstance(medium, str | Path) else options.get("sampling_rate", rate)
    if named != rate:
        raise ValueError(f"found {named} samples a second, expected {rate}; resample it first.")
    others = {name: value for name, value in options.items() if name != "sampling_rate"}
    return cast(
        Answer, part(text=[prompt], audio=[sound], audio_kwargs=others, return_tensors="pt")
    )


def _ask_video(part: ProcessorMixin, prompt: str, medium: Medium, options: Options) -> Answer:
    found: list[VideoMetadata] = []
    choose = partial(_choose_frames, part.video_processor, options, found)
    clip = read_medium("video", medium, Reading(sample_rate_hz=0, choose_frames=choose))
    kept = dict(options)
    if found:  # The frames were chosen while the file was read.
        kept = {name: value for name, value in options.items() if name not in SAMPLING_OPTIONS}
        kept["video_metadata"] = [found[-1]]
        kept["do_sample_frames"] = False
    elif not {"num_frames", "fps"} & set(options):
        kept.setdefault("do_sample_frames", False)
    return cast(Answer, part(text=[prompt], videos=[clip], videos_kwargs=kept, return_tensors="pt"))


def _choose_frames(
    part: object, options: Options, found: list[VideoMetadata], metadata: VideoMetadata
) -> list[int]:
    """The frames that the family's video processor would take, noted for its timestamps."""
    asked = {name: options[name] for name in ("num_frames", "fps") if name in options}
    sampling = options.get("do_sample_frames", getattr(part, "do_sample_frames", False)) or asked
    count = cast(int, metadata.total_num_frames)
    chosen = (
        [int(place) for place in part.sample_frames(metadata, **asked)]  # type: ignore[attr-defined]
        if sampling
        else list(range(count))
    )
    metadata.frames_indices = chosen
    found.append(metadata)
    return chosen
