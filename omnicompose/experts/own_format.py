"""Our own expert folder: an encoder, a connector and one or two LoRAs on a plain language model.

`expert.json` says what it is; `adapter/` (or `text/` and `modality/` for decoupled experts) are
plain PEFT folders, `backbone/` a whole language model, and an expert whose language model did not
learn has none of them; `connector.safetensors` holds the connector and, where the expert has them,
the `prefix` and `suffix` embeddings. The encoder is named by a source, or lies in `encoder/`.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from omnicompose.errors import SourceError
from omnicompose.experts.checkpoint import open_checkpoint
from omnicompose.experts.config import read_json
from omnicompose.experts.encoder_checkpoints import EncoderCheckpoint, open_encoder_checkpoint
from omnicompose.experts.expert import Backbone, Base, Expert, Module, Origin, Weights
from omnicompose.experts.kinds import EXPERT_FILE
from omnicompose.experts.lineage import compare_weights
from omnicompose.experts.low_rank import adapt, open_adapter
from omnicompose.experts.refusals import refuse_without_preprocessor
from omnicompose.experts.resolve import resolve_text
from omnicompose.tensors.adapter import LoraAdapter
from omnicompose.tensors.checkpoint import open_safetensors
from omnicompose.tensors.selected import SelectedSource

__all__ = ["EXPERT_FILE", "ExpertFile", "ModuleFile", "open_own", "read_expert_file"]

PREPROCESSOR_FILE = "preprocessor_config.json"
AFFIXES = ("prefix", "suffix")


class ModuleFile(BaseModel):
    """The entry of an encoder or connector in `expert.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    type: str
    config: dict[str, object] = Field(default_factory=dict)
    source: str | None = None
    """Encoders only: where it lies; null for the sub-folder `encoder/`."""


class ExpertFile(BaseModel):
    """`expert.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal["omnicompose-expert"]
    format_version: Literal[1]
    modality: Literal["image", "audio", "video", "point"]
    base: str
    strategy: Literal["single", "decoupled", "full", "frozen"]
    encoder: ModuleFile
    connector: ModuleFile
    num_prefix_tokens: int = Field(default=0, ge=0)
    num_suffix_tokens: int = Field(default=0, ge=0)


def open_own(
    modality: str,
    label: str,
    folder: Path,
    base: Base,
    *,
    allow_different_base: bool = False,
    allow_pickle: bool = False,
) -> Expert:
    """Open an expert folder of our own format; its LoRAs are laid over `base`.

    Args:
        modality: what the recipe lists it under.
        label: how the recipe names it.
        folder: where it lies.
        base: of the composite.
        allow_different_base: accept an expert that names another base.
        allow_pickle: read tensors from pickled adapters and encoders too.

    Raises:
        SourceError: expert.json is malformed, the modality is another one, a part is missing, or
            it was trained on another base.
    """
    file = read_expert_file(folder, label)
    if file.modality != modality:
        raise SourceError(
            f"{label}: this expert understands {file.modality}, the recipe lists it as {modality}. "
            f"Write it under `{file.modality}:`."
        )
    if not allow_different_base:
        _check_base(file.base, label, folder, base)
    text, own, adapters = _open_backbones(file, label, folder, base, allow_pickle=allow_pickle)
    name, place, encoder = _open_encoder(file, label, folder, allow_pickle=allow_pickle)
    connector, affixes, connector_inventory = _open_connector(file, label, folder)
    return Expert(
        modality=modality,
        label=label,
        folders={label: folder, name: place},
        text_config=base.config,
        text=text,
        own=own,
        encoder=encoder.module,
        connector=connector,
        affixes=affixes,
        preprocessor=_preprocessing(file, label, folder, encoder),
        inventory=adapters | encoder.inventory | connector_inventory,
    )


def _preprocessing(
    file: ExpertFile, label: str, folder: Path, encoder: EncoderCheckpoint
) -> Path | Mapping[str, object]:
    """What its media need: as its own folder says, else as its encoder's."""
    own_file = (folder / PREPROCESSOR_FILE).is_file()
    place = folder if own_file else encoder.preprocessor
    if isinstance(place, Path) and file.modality == "point":
        return _point_options(label, place)
    if isinstance(place, Path):
        refuse_without_preprocessor(label, file.modality, place)
    return place


def _point_options(label: str, folder: Path) -> dict[str, object]:
    """How clouds are prepared: as they are, or moved into the unit sphere where the file says so.

    Raises:
        SourceError: the file says something else.
    """
    path = folder / PREPROCESSOR_FILE
    found = read_json(path) if path.is_file() else {}
    if found.keys() - {"normalize"} or not isinstance(found.get("normalize", False), bool):
        raise SourceError(
            f'{label}: {path}: found {found!r}, expected nothing or {{"normalize": true}}, which '
            "moves a point cloud into the unit sphere. Correct the file."
        )
    return found


def read_expert_file(folder: Path, label: str) -> ExpertFile:
    """`expert.json` of a folder.

    Raises:
        SourceError: it is malformed.
    """
    try:
        return ExpertFile.model_validate(read_json(folder / EXPERT_FILE))
    except ValidationError as error:
        mistakes = "; ".join(
            f"{'.'.join(map(str, mistake['loc']))}: {mistake['msg']}" for mistake in error.errors()
        )
        raise SourceError(f"{label}: {folder / EXPERT_FILE}: {mistakes}.") from error


def _check_base(declared: str, label: str, folder: Path, base: Base) -> None:
    """The base that the expert names and the recipe's must be one, by place or by weights."""
    remedy = "Name that base in the recipe, or set `allow_different_base: true`."
    try:
        source, place = resolve_text(declared, folder)
    except SourceError as error:
        raise SourceError(
            f"{label}: trained on {declared}, which cannot be compared with {base.label}: {error} "
            f"{remedy}"
        ) from error
    if place.resolve() == base.folder.resolve():
        return
    theirs = open_checkpoint(source.text, place).part("backbone")
    shared = [name for name in base.weights.origins if name in theirs.origins]
    lineage = compare_weights(base.weights.source, theirs.source, shared)
    if not lineage.identical:
        raise SourceError(
            f"{label}: trained on {declared}, the recipe's base is {base.label}; "
            f"{lineage.num_tensors - lineage.num_identical} of {lineage.num_tensors} tensors "
            f"differ, with relative distance {lineage.relative_delta:.3g}. {remedy}"
        )


def _open_backbones(
    file: ExpertFile, label: str, folder: Path, base: Base, *, allow_pickle: bool
) -> tuple[Backbone, Backbone, frozenset[Origin]]:
    def opened(part: str) -> tuple[LoraAdapter, frozenset[Origin]]:
        return open_adapter(folder / part, f"{label}/{part}", allow_pickle=allow_pickle)

    if file.strategy == "frozen":  # only encoder and connector learned
        backbone = Backbone(weights=base.weights, factors={}, host=base.weights)
        return backbone, backbone, frozenset()
    if file.strategy == "full":
        whole = open_checkpoint(f"{label}/backbone", folder / "backbone", allow_pickle=allow_pickle)
        backbone = whole.backbone()
        return backbone, backbone, whole.inventory
    if file.strategy == "single":
        adapter, inventory = opened("adapter")
        backbone = adapt(base.weights, adapter)
        return backbone, backbone, inventory
    text, text_inventory = opened("text")
    own, own_inventory = opened("modality")
    return adapt(base.weights, text), adapt(base.weights, own), text_inventory | own_inventory


def _open_encoder(
    file: ExpertFile, label: str, folder: Path, *, allow_pickle: bool
) -> tuple[str, Path, EncoderCheckpoint]:
    """The encoder with what it is called and where it lies; its type must be the expert's."""
    if file.encoder.source is None:
        name, place = f"{label}/encoder", folder / "encoder"
    else:
        source, place = resolve_text(file.encoder.source, folder, allow_pickle=allow_pickle)
        name = source.text
    found = open_encoder_checkpoint(name, place, allow_pickle=allow_pickle)
    if found is None:
        # The encoder inside a multimodal checkpoint, such as LLaVA's vision tower.
        checkpoint = open_checkpoint(name, place, allow_pickle=allow_pickle)
        found = EncoderCheckpoint(
            module=checkpoint.encoder(file.modality),
            preprocessor=place,
            inventory=checkpoint.inventory,
        )
    if found.module.type != file.encoder.type:
        raise SourceError(
            f"{label}: expert.json names an encoder of type {file.encoder.type!r}, {name} holds "
            f"{found.module.type!r}. Mend one of them."
        )
    # What the expert says of the encoder beyond its own folder: the layer that is read.
    config = {**found.module.config, **file.encoder.config}
    return name, place, replace(found, module=replace(found.module, config=config))


def _open_connector(
    file: ExpertFile, label: str, folder: Path
) -> tuple[Module, Weights, frozenset[Origin]]:
    every = _all_weights(label, folder / "connector.safetensors")
    counts = dict(zip(AFFIXES, (file.num_prefix_tokens, file.num_suffix_tokens), strict=True))
    expected = [affix for affix, count in counts.items() if count]
    missing = [affix for affix in expected if affix not in every.origins]
    if missing:
        raise SourceError(
            f"{label}: expert.json promises {missing[0]} embeddings, connector.safetensors has no "
            f"tensor {missing[0]!r}. Save the expert again."
        )
    connector = _select(every, [name for name in every.origins if name not in expected])
    return (
        Module(type=file.connector.type, config=file.connector.config, weights=connector),
        _select(every, expected),
        frozenset(origin for origins in every.origins.values() for origin in origins),
    )


def _all_weights(label: str, path: Path) -> Weights:
    source = open_safetensors(path, label)
    return Weights(
        source=source,
        origins={name: (Origin(label=label, name=name),) for name in source.infos()},
    )


def _select(weights: Weights, names: list[str]) -> Weights:
    return Weights(
        source=SelectedSource(weights.source, {name: name for name in names}),
        origins={name: weights.origins[name] for name in names},
    )
