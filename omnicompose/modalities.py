"""The modalities of a composite and the names that belong to each, as data.

Type ids 0 to 3 are the ones transformers itself uses in `mm_token_type_ids`; `point` adds a fourth.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Modality:
    """What every room calls one kind of input.

    Attributes:
        name: the key in recipes, configurations and chat content items.
        token_type_id: its value in `mm_token_type_ids`; 0 is text.
        input_name: the model input that carries its preprocessed media.
        placeholder: the token that a composite uses for it, one per media embedding.
    """

    name: str
    token_type_id: int
    input_name: str
    placeholder: str


MODALITIES: dict[str, Modality] = {
    modality.name: modality
    for modality in (
        Modality(name="image", token_type_id=1, input_name="pixel_values", placeholder="<image>"),
        Modality(
            name="video", token_type_id=2, input_name="pixel_values_videos", placeholder="<video>"
        ),
        Modality(name="audio", token_type_id=3, input_name="input_features", placeholder="<audio>"),
        Modality(name="point", token_type_id=4, input_name="points", placeholder="<point>"),
    )
}
TEXT_TOKEN_TYPE_ID = 0
