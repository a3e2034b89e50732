"""Tensor names of the published encoders and ModelCompose's connectors, as data.

Each table turns a name on disk into our module's name by its first pattern that matches whole; an
empty replacement leaves the tensor out (the reason stands beside it).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from omnicompose.errors import SourceError


@dataclass(frozen=True, slots=True)
class Renaming:
    """Names that match `pattern` become `name`; an empty name leaves the tensor out."""

    pattern: str
    name: str


CLIP = (
    Renaming(r".*\.position_ids", ""),  # counts 0, 1, 2, ...
    Renaming(r"(?:text_model|text_projection|visual_projection|logit_scale)\b.*", ""),  # unused
    Renaming(r"(?:vision_model\.)?(.+)", r"tower.\1"),
)
LANGUAGEBIND_VIDEO = (
    Renaming(r".*\.position_ids", ""),
    Renaming(r"(?:text_model|text_projection|visual_projection|logit_scale)\b.*", ""),
    Renaming(r"vision_model\.encoder\.layers\.(\d+)\.(temporal_.+)", r"temporal.\1.\2"),
    Renaming(r"vision_model\.(.+)", r"tower.\1"),
)
BEATS = (
    # Every layer stores the first one's table again.
    Renaming(r"encoder\.layers\.(?!0\.)\d+\.self_attn\.relative_attention_bias\.weight", ""),
    Renaming(r"predictor\..+", ""),  # of checkpoints fine-tuned to classify
    Renaming(r"(.+)", r"\1"),
)
POINT_BERT = (
    Renaming(r"(?:module\.)?point_encoder\.(.+)", r"\1"),
    Renaming(r"module\..+", ""),  # what it was trained beside
    Renaming(r"(.+)", r"\1"),
)
LINEAR = (Renaming(r"(weight|bias)", r"linear.\1"),)
QFORMER = (
    Renaming(r"audio_query_tokens", "query_tokens"),
    Renaming(r"audio_position_embedding\.weight", "position_embedding.weight"),
    Renaming(r"audio_llama_proj\.(.+)", r"projection.\1"),
    Renaming(r"audio_Qformer\.bert\.embeddings\.position_ids", ""),
    Renaming(r"audio_Qformer\.bert\.embeddings\.LayerNorm\.(.+)", r"qformer.layernorm.\1"),
    Renaming(
        r"audio_Qformer\.bert\.(encoder\.layer\.\d+\.(?:cross)?attention)\.self\.(.+)",
        r"qformer.\1.attention.\2",
    ),
    Renaming(r"audio_Qformer\.bert\.(encoder\.layer\..+)", r"qformer.\1"),
)


def mlp(num_layers: int) -> tuple[Renaming, ...]:
    """The linear maps of a sequence in which every other module is an activation."""
    return tuple(
        Renaming(rf"{2 * place}\.(weight|bias)", rf"linear_{place + 1}.\1")
        for place in range(num_layers)
    )


def rename(names: Iterable[str], table: tuple[Renaming, ...], where: str) -> dict[str, str]:
    """Our names of all tensors that are used, to their names on disk.

    Args:
        names: on disk.
        table: of the module.
        where: whose tensors, for the message.

    Raises:
        SourceError: a name that the table does not know.
    """
    renamed: dict[str, str] = {}
    for name in names:
        found = next((one for one in table if re.fullmatch(one.pattern, name)), None)
        if found is None:
            raise SourceError(
                f"{where}: tensor {name!r} is not one of this module's. Expected the names of the "
                "published checkpoint. Give the encoder or expert that belongs here."
            )
        if found.name:
            renamed[re.sub(found.pattern, found.name, name)] = name
    return renamed
