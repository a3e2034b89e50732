"""The other half of a composite: it alone knows preprocessing and placeholders."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar, cast

import numpy as np
from transformers import BatchFeature
from transformers.processing_utils import (
    MODALITY_TO_AUTOPROCESSOR_MAPPING,
    MultiModalData,
    ProcessorMixin,
)

from omnicompose.errors import ModelInputError
from omnicompose.modalities import MODALITIES, TEXT_TOKEN_TYPE_ID
from omnicompose.modeling.conversations import (
    ESCAPE,
    Conversation,
    expand_text,
    media_of,
    placeholders_in_text,
)
from omnicompose.modeling.media_inputs import Medium, flatten_media
from omnicompose.modeling.native_processing import NativePreprocessor
from omnicompose.modeling.prepared import Prepared, count_tokens, joined, prepare, prepare_native
from omnicompose.modeling.preprocessors import (
    BLANK_DTYPES,
    Options,
    Preprocessor,
    Preprocessors,
    sort_options,
)
from omnicompose.modeling.sub_processors import SUB_PROCESSORS, SubProcessors, able_to_pad


class OmniComposeProcessor(ProcessorMixin):  # type: ignore[misc]  # transformers is untyped here
    """Media and text to model inputs.

    Every medium is preprocessed by itself, so a batch holds exactly what its samples hold alone.
    Options given flat go to the tokenizer (text is padded on the left by default), except
    `sampling_rate` (of sounds given as arrays) and `num_frames`, `fps`, `do_sample_frames`;
    `images_kwargs` and the like reach each part (`points_kwargs`: `normalize`, to the unit sphere).
    """

    get_attributes = SubProcessors()
    return_mm_token_type_ids = True
    text_kwargs: ClassVar[dict[str, object]] = {"padding": True, "padding_side": "left"}

    def __init__(
        self,
        image_processor: object = None,
        feature_extractor: object = None,
        video_processor: object = None,
        tokenizer: object = None,
        chat_template: str | None = None,
        modalities: dict[str, dict[str, object]] | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            image_processor: transformers' preprocessor of pictures, if there are any.
            feature_extractor: likewise of sounds.
            video_processor: likewise of clips.
            tokenizer: of the language model; knows the placeholders as tokens.
            chat_template: Jinja; the tokenizer's if absent.
            modalities: as in the composite's configuration.
        """
        self.image_processor = image_processor
        self.feature_extractor = feature_extractor
        self.video_processor = video_processor
        self.tokenizer = able_to_pad(tokenizer)
        self.chat_template = chat_template or getattr(tokenizer, "chat_template", None)
        self.modalities = dict(modalities or {})
        for name, entry in self.modalities.items():
            setattr(self, f"{name}_token", entry["token"])
            setattr(self, f"{name}_token_id", entry["token_id"])
        self._native: dict[str, NativePreprocessor] = {}

    def __call__(
        self,
        images: object = None,
        text: str | Sequence[str] | None = None,
        videos: object = None,
        audio: object = None,
        points: object = None,
        **kwargs: object,
    ) -> BatchFeature:
        """Model inputs for one text or a batch of texts.

        Args:
            images: pictures in reading order: paths, PIL pictures, arrays, nested as you like.
            text: with one placeholder per medium.
            videos: clips: paths, frames `[F, H, W, 3]`, or lists of pictures.
            audio: sounds: paths or mono samples `[S]` at the preprocessor's rate.
            points: point clouds: `.npy` paths or arrays `[P, C]`.
            **kwargs: options of the tokenizer and the preprocessors; see the class.

        Returns:
            `input_ids`, `attention_mask` and `mm_token_type_ids` `[B, L]`; per modality given its
            input, `[N, ...]` or, where shapes differ, a list of N tensors.

        Raises:
            ModelInputError: placeholders and media do not match, a lacking modality, no text.
            MediaError: a file is not what its modality says, or holds nothing.
        """
        given = {"image": images, "video": videos, "audio": audio, "point": points}
        options = sort_options(kwargs)
        media = {
            name: self.prepare_media(name, flat, options[name])
            for name, inputs in given.items()
            if (flat := flatten_media(name, inputs))
        }
        texts = [text] if isinstance(text, str) else list(text or ())
        if not texts:
            raise ModelInputError("the processor got no text. Give a question beside the media.")
        expanded, offsets = self._expand(texts, media)
        data = self._tokenize(expanded, options["text"])
        if options["text"].get("return_text_replacement_offsets"):
            data["text_replacement_offsets"] = offsets
        data |= {MODALITIES[name].input_name: joined(prepared) for name, prepared in media.items()}
        return BatchFeature(data)

    def prepare_media(self, name: str, media: Sequence[Medium], options: Options) -> list[Prepared]:
        """Media of one modality, each by its family's own processor or by the modality's part.

        Raises:
            ModelInputError: a lacking modality, or a medium that is not taken.
            MediaError: a file is not what its modality says, or holds nothing.
        """
        entry, native = self._entry(name), self._native_preprocessor(name)
        if native is not None:
            return prepare_native(native, entry, media, options)
        options = {**cast(Options, entry.get("options", {})), **options}
        return prepare(entry, lambda: self._preprocessors().tensors(name, media, options), name)

    def _native_preprocessor(self, name: str) -> NativePreprocessor | None:
        description = self._entry(name).get("native")
        if description is None:
            return None
        if name not in self._native:
            self._native[name] = NativePreprocessor(name, cast(Options, description))
        return self._native[name]

    def count_tokens(self, modality: str, media_shape: tuple[int, ...]) -> int:
        """Positions that one preprocessed medium takes, its prefix and suffix included.

        Raises:
            ModelInputError: the modality's family decides that by more than a shape.
        """
        return count_tokens(modality, self._entry(modality), media_shape)

    def create_mm_token_type_ids(self, input_ids: Sequence[Sequence[int]]) -> list[list[int]]:
        """The type of every token: 0 for text, else its modality's."""
        types = {
            entry["token_id"]: MODALITIES[name].token_type_id
            for name, entry in self.modalities.items()
        }
        return [[types.get(int(i), TEXT_TOKEN_TYPE_ID) for i in row] for row in input_ids]

    @property
    def model_input_names(self) -> list[str]:
        """Names of everything that a call may return."""
        names = [MODALITIES[name].input_name for name in self.modalities]
        return ["input_ids", "attention_mask", "mm_token_type_ids", *names]

    def _entry(self, modality: str) -> dict[str, object]:
        if modality not in self.modalities:
            raise ModelInputError(
                f"the input holds {modality}, but this model has encoders for "
                f"{', '.join(self.modalities) or 'no modality'} only. Leave it out or load "
                "another composite."
            )
        return self.modalities[modality]

    def _preprocessors(self) -> Preprocessors:
        return Preprocessors(
            image=cast(Preprocessor | None, self.image_processor),
            audio=cast(Preprocessor | None, self.feature_extractor),
            video=cast(Preprocessor | None, self.video_processor),
        )

    def _expand(
        self, texts: Sequence[str], media: Mapping[str, Sequence[Prepared]]
    ) -> tuple[list[str], list[list[dict[str, object]]]]:
        """Each placeholder as often as its medium has embeddings; where that happened."""
        names = {str(entry["token"]): name for name, entry in self.modalities.items()}
        written = {name: [one.text for one in prepared] for name, prepared in media.items()}
        pattern = "|".join(f"(?<!{ESCAPE}){re.escape(token)}" for token in names) or r"(?!)"
        found = Counter(names[token] for text in texts for token in re.findall(pattern, text))
        for name in sorted({*found, *written}):
            self._check_number(name, found[name], len(written.get(name, ())))
        queues = {token: iter(written.get(name, ())) for token, name in names.items()}
        expanded = [expand_text(text, pattern, queues) for text in texts]
        return [text for text, _ in expanded], [offsets for _, offsets in expanded]

    def _check_number(self, name: str, num_placeholders: int, num_media: int) -> None:
        if num_placeholders != num_media:
            raise ModelInputError(
                f"{name}: found {num_placeholders} placeholders {self._entry(name)['token']} in "
                f"the text, but {num_media} media were given. Write one placeholder per medium."
            )

    def _tokenize(self, texts: Sequence[str], options: Options) -> dict[str, object]:
        """Token ids, mask and types; every placeholder must have become one token."""
        returned = options.get("return_tensors")
        options = {**self.text_kwargs, **options, "return_tensors": None}
        options.pop("return_text_replacement_offsets", None)
        data: dict[str, object] = dict(self.tokenizer(list(texts), **options))  # type: ignore[operator]
        rows = cast(list[list[int]], data["input_ids"])
        for name, entry in self.modalities.items():
            token = f"(?<!{ESCAPE}){re.escape(str(entry['token']))}"
            found = sum(row.count(cast(int, entry["token_id"])) for row in rows)
            expected = sum(len(re.findall(token, text)) for text in texts)
            if found != expected:
                raise ModelInputError(
                    f"{name}: found {found} tokens of id {entry['token_id']} after tokenization, "
                    f"expected {expected}. Do not truncate, and see that the tokenizer has "
                    f"{entry['token']} as one token."
                )
        data["mm_token_type_ids"] = self.create_mm_token_type_ids(rows)
        return dict(BatchFeature(data, tensor_type=returned))

    def apply_chat_template(
        self, conversation: Conversation | Sequence[Conversation], *args: object, **kwargs: object
    ) -> object:
        """Render a chat, and with `tokenize=True, return_dict=True` make model inputs of it.

        Media are read from `{"type": "image", "path": ...}` and the like. A placeholder that a
        user merely writes is escaped: it stays text and takes no medium's place.

        Raises:
            ModelInputError: see `media_of`, and a placeholder in a text where it cannot be escaped.
            MediaError: a file is not what its modality says, or holds nothing.
        """
        if kwargs.get("tokenize"):
            chats, _ = self._normalize_conversations(conversation)
            tokens = [str(entry["token"]) for entry in self.modalities.values()]
            written = sorted({t for chat in chats for t in placeholders_in_text(chat, tokens)})
            if written and kwargs.get("return_assistant_tokens_mask"):
                raise ModelInputError(
                    f"a text of the chat contains {', '.join(written)}, a medium's placeholder, "
                    "which cannot be escaped beside a mask of assistant tokens. Reword it."
                )
            kwargs.setdefault("sanitize_control_tokens", bool(written))
        return super().apply_chat_template(conversation, *args, **kwargs)

    def _multimodal_inputs_from_conversations(
        self, conversations: Sequence[Conversation], *_: object
    ) -> tuple[list[list[object]], list[list[object]], list[object], dict[str, object]]:
        """Media of all chats, unopened; transformers' own reading knows no clear errors."""
        media = [media_of(conversation, self.modalities) for conversation in conversations]
        images, videos = ([chat[name] for chat in media] for name in ("image", "video"))
        sounds = [sound for chat in media for sound in chat["audio"]]
        clouds = [cloud for chat in media for cloud in chat["point"]]
        return images, videos, sounds, {"points": clouds} if clouds else {}

    def _get_num_multimodal_tokens(
        self,
        image_sizes: Sequence[tuple[int, int]] | None = None,
        video_sizes: Sequence[tuple[int, int, int]] | None = None,
        audio_lengths: Sequence[int] | None = None,
        **kwargs: object,
    ) -> MultiModalData:
        """Positions of media of given sizes: (height, width), (frames, height, width), samples."""
        options = sort_options(kwargs)
        sizes: dict[str, list[tuple[int, ...]]] = {
            "image": [(*size, 3) for size in image_sizes or ()],
            "video": [(*size, 3) for size in video_sizes or ()],
            "audio": [(length,) for length in audio_lengths or ()],
        }
        data: dict[str, list[int]] = {}
        for name, shapes in sizes.items():
            if shapes:
                blank = [np.zeros(shape, BLANK_DTYPES[name]) for shape in shapes]
                prepared = self.prepare_media(name, blank, options[name])
                token = str(self._entry(name)["token"])
                data[f"num_{name}_tokens"] = [one.text.count(token) for one in prepared]
        if "num_image_tokens" in data:
            data["num_image_patches"] = [1] * len(data["num_image_tokens"])
        return MultiModalData(**data)

    @classmethod
    def _get_arguments_from_pretrained(
        cls,
        pretrained_model_name_or_path: str,
        processor_dict: Mapping[str, object] | None = None,
        **kwargs: object,
    ) -> list[object]:
        """Load the parts that were saved; None for the others."""
        saved = {name for name, part in (processor_dict or {}).items() if part is not None}
        return [
            MODALITY_TO_AUTOPROCESSOR_MAPPING[name].from_pretrained(
                pretrained_model_name_or_path, **kwargs
            )
            if name in saved or name == "tokenizer"
            else None
            for name in SUB_PROCESSORS
        ]
