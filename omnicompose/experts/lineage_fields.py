"""Do two configurations describe one backbone? Field by field, without reading a weight."""

from collections.abc import Mapping
from dataclasses import dataclass

from omnicompose.experts.config import ConfigData

COMPARED_FIELDS = (
    "model_type",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "hidden_act",
    "rms_norm_eps",
    "rope_parameters",
    "attention_bias",
    "mlp_bias",
    "sliding_window",
    "tie_word_embeddings",
)
"""What must agree for the weights of two backbones to mean the same (specs/environment.md 3)."""

UNRELATED_COSINE = 0.5
"""Below this, two backbones are not one base's: with delta d across base b the cosine is
1 / sqrt(1 + |d|^2 / |b|^2), so 0.5 is a fine-tune that moved 1.7 times as far as its base is long.
Models trained apart have a cosine of 0, give or take 1 / sqrt(sampled elements)."""

SAME_WEIGHTS = {
    "qwen2_vl_text": "qwen2",
    "qwen2_5_vl_text": "qwen2",
    "qwen2_5_omni_text": "qwen2",
    "mistral": "llama",
}
"""Text models that are another's, weight by weight: Qwen's differ in how media are numbered,
Mistral's in a sliding window, which is compared beside."""
MEDIA_POSITIONS = ("mrope_section", "type")
"""Entries of `rope_parameters` that say nothing about text: with equal rows M-RoPE is RoPE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldDifference:
    """One field in which two configurations disagree."""

    field: str
    expected: object
    found: object

    def __str__(self) -> str:
        """Both values in one phrase."""
        return f"{self.field} is {self.found!r}, the base has {self.expected!r}"


def compare_configs(base: ConfigData, other: ConfigData) -> list[FieldDifference]:
    """The fields of `COMPARED_FIELDS` in which two backbone configurations disagree."""
    return [
        FieldDifference(field=field, expected=base.get(field), found=other.get(field))
        for field in COMPARED_FIELDS
        if _comparable(field, base.get(field)) != _comparable(field, other.get(field))
    ]


def _comparable(field: str, value: object) -> object:
    """What has to agree; None, a missing key and False are one and the same here."""
    if field == "model_type":
        return SAME_WEIGHTS.get(str(value), value)
    if field == "rope_parameters" and isinstance(value, Mapping):
        kept = {key: one for key, one in value.items() if key not in MEDIA_POSITIONS}
        named = str(kept.get("rope_type", "default"))
        return kept | {"rope_type": named.replace("mrope", "default")}
    return value or None


def unrelated(expert: str, base: str, cosine: float, distance: float) -> str | None:
    """What to say of a backbone whose weights have nothing in common with the base's."""
    if cosine >= UNRELATED_COSINE:
        return None
    return (
        f"{expert}: its backbone is not related to {base}: sampled weights have cosine "
        f"{cosine:.3f} (expected close to 1) and relative distance {distance:.3f}."
    )
