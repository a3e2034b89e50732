"""ModelCompose's expert folders (arXiv 2402.12750): LoRAs and a projector on a plain LLM.

`config.json` (`model_type: multimodal`) says what there is; `adapter_model` holds LoRA factors
named after their adapter (`default`: the language's, or a modality's own), the projector, prefix
and suffix; `mm_projector` or `non_lora_trainables` may hold the latter instead. Encoders lie
elsewhere.

A folder that ModelCompose has merged is opened modality by modality in the same way. Merged factors
(`default`) are every modality's; where it keeps the experts' apart (`default-vision`, ...), each
comes with the coefficient that the folder names, so give it `weight: 1` and `task_arithmetic`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from omnicompose.errors import SourceError
from omnicompose.experts.expert import Base, Expert
from omnicompose.experts.modelcompose_backbones import open_backbones
from omnicompose.experts.modelcompose_connectors import open_connector
from omnicompose.experts.modelcompose_encoders import Place, open_encoder
from omnicompose.experts.modelcompose_folder import ModelComposeFolder, open_folder
from omnicompose.experts.modelcompose_profile import CHAT_TEMPLATE
from omnicompose.experts.resolve import resolve
from omnicompose.recipe_values import Source

THEIR_NAMES = {"image": "vision", "audio": "audio", "video": "video", "point": "point"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a recipe asks of a folder.

    Attributes:
        modality: which of its modalities.
        label: how the recipe names it.
        encoder: where its encoder lies; None: where its configuration says.
        allow_pickle: whether pickled tensors may be read.
    """

    modality: str
    label: str
    encoder: Source | None
    allow_pickle: bool


def open_modelcompose(request: Request, folder: Path, base: Base) -> Expert:
    """Open one modality of an expert folder; its LoRAs are laid over `base`.

    Raises:
        SourceError: it lacks the modality, contradicts itself, or its encoder is not found.
    """
    opened = open_folder(request.label, folder, allow_pickle=request.allow_pickle)
    theirs = THEIR_NAMES[request.modality]
    place = _encoder_place(request, opened)
    encoder = open_encoder(request.modality, place, opened.config)
    projector = opened.named(f"model.modal_projectors.{theirs}.")
    text, own = open_backbones(opened, theirs, base)
    infix = "" if theirs == "vision" else f"{theirs}_"
    kind = str(opened.config.get(f"mm_{infix}projector_type") or "linear")
    return Expert(
        modality=request.modality,
        label=request.label,
        folders={request.label: folder, place.label: place.path},
        text_config=_text_config(opened.config),
        text=text,
        own=own,
        encoder=encoder.module,
        connector=open_connector(request.label, kind, projector, opened.config),
        affixes=opened.affixes(theirs),
        preprocessor=encoder.preprocessing,
        inventory=opened.inventory | encoder.inventory,
        chat_template=CHAT_TEMPLATE,
    )


def _encoder_place(request: Request, opened: ModelComposeFolder) -> Place:
    """The recipe's encoder, or what the configuration names, if that exists on this machine."""
    source = request.encoder
    if source is not None:
        path = Path(source.location)
        if source.kind != "path" or not path.is_file():
            path = resolve(source, allow_pickle=request.allow_pickle)
        return Place(label=source.text, path=path, allow_pickle=request.allow_pickle)
    key = f"mm_{THEIR_NAMES[request.modality]}_encoder"
    named = opened.config.get(key)
    if not isinstance(named, str) or not named:
        raise SourceError(
            f"{request.label}: config.json names no {key}, so this expert does not understand "
            f"{request.modality}. Put it under the modality that it understands."
        )
    path = opened.folder / named
    if not path.exists():
        raise SourceError(
            f"{request.label}: its encoder {named} is not on this machine. Name it in the recipe: "
            f"`{request.modality}: {{source: ..., encoder: path-or-hub-id}}`."
        )
    return Place(label=named, path=path, allow_pickle=request.allow_pickle)


def _text_config(config: Mapping[str, object]) -> dict[str, object]:
    """The backbone that the folder describes, as transformers writes it out."""
    from transformers import LlamaConfig

    text: dict[str, object] = LlamaConfig.from_dict(
        {key: value for key, value in config.items() if key != "model_type"}
    ).to_dict()
    return text
