"""What a composite is made of, as its `config.json` says it."""

from typing import ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from omnicompose.errors import PlanError
from omnicompose.modalities import MODALITIES

DEFAULTS: dict[str, object] = {
    "num_prefix_tokens": 0,
    "num_suffix_tokens": 0,
    "stream": None,
    "text_stream": None,
}
"""What an entry of `modalities` need not say."""


@strict
class OmniComposeConfig(PreTrainedConfig):  # type: ignore[misc]  # transformers is untyped here
    """Configuration of an omni-modal composite.

    Attributes:
        text_config: the language model, any causal LM family of transformers.
        modalities: by modality name: `token` and `token_id` of its placeholder; `encoder` and
            `connector`, each `{"type", "config"}`; `num_prefix_tokens` and `num_suffix_tokens`;
            `stream`: None (its tokens use the text stream) or the fields of `StreamSpec`;
            `text_stream`: likewise, for the text of prompts that hold this modality alone.
        single_modality_text: the weights of text in such prompts: `merged` (the text stream), or
            `own`: those of its expert (the `text_stream`, or the `stream` if there is none).
        image_token_id: mirror of the modality's placeholder, where transformers looks for it.
        video_token_id: likewise.
        audio_token_id: likewise.
        point_token_id: likewise.
        tie_word_embeddings: whether the head is the embedding; `text_config` may say so too.
    """

    model_type = "omnicompose"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values"]
    sub_configs_defaults: ClassVar[dict[str, SubConfigSpec]] = {
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="llama")
    }

    text_config: dict | PreTrainedConfig | None = None  # type: ignore[type-arg]  # checked by strict
    modalities: dict | None = None  # type: ignore[type-arg]  # checked by strict
    single_modality_text: Literal["merged", "own"] = "merged"
    image_token_id: int | None = None
    video_token_id: int | None = None
    audio_token_id: int | None = None
    point_token_id: int | None = None
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: object) -> None:
        """Complete the modalities, mirror their placeholder ids, follow the text side's tying.

        Raises:
            PlanError: a modality that has no name here.
        """
        super().__post_init__(**kwargs)
        self.modalities = {
            name: {**DEFAULTS, **entry} for name, entry in (self.modalities or {}).items()
        }
        if unknown := sorted(set(self.modalities) - set(MODALITIES)):
            raise PlanError(
                f"config.modalities: found {', '.join(unknown)}, expected names among "
                f"{', '.join(MODALITIES)}. Rename the modality."
            )
        for name, entry in self.modalities.items():
            setattr(self, f"{name}_token_id", entry["token_id"])
        self.tie_word_embeddings |= bool(getattr(self.text_config, "tie_word_embeddings", False))

    @property
    def placeholder_ids(self) -> list[int]:
        """Token ids that stand for media and that a model must never say."""
        return sorted(entry["token_id"] for entry in (self.modalities or {}).values())
