"""Open whatever a recipe names: the base, and experts of every kind, by headers alone."""

from pathlib import Path

from omnicompose.errors import SourceError
from omnicompose.experts.checkpoint import Checkpoint, open_checkpoint
from omnicompose.experts.expert import Base, Expert
from omnicompose.experts.kinds import (
    ADAPTER_FILE,
    CONFIG_FILE,
    EXPERT_FILE,
    is_modelcompose,
)
from omnicompose.experts.modelcompose import Request, open_modelcompose
from omnicompose.experts.native import open_adapted, open_native
from omnicompose.experts.own_format import open_own
from omnicompose.experts.refusals import refuse_as_base
from omnicompose.experts.resolve import resolve, resolve_text
from omnicompose.recipe_values import Source
from omnicompose.tensors.adapter_config import read_lora_settings


def open_base(source: Source, *, allow_pickle: bool = False) -> Base:
    """The plain language model that the experts descend from.

    Raises:
        SourceError: it cannot be opened, or it is not a plain language model.
    """
    folder = resolve(source, allow_pickle=allow_pickle)
    checkpoint = open_checkpoint(source.text, folder, allow_pickle=allow_pickle)
    refuse_as_base(source.text, checkpoint.family)
    return Base(
        label=source.text,
        folder=folder,
        config=checkpoint.config,
        weights=checkpoint.part("backbone"),
        inventory=checkpoint.inventory,
    )


def open_expert(
    modality: str,
    source: Source,
    base: Base,
    *,
    allow_different_base: bool = False,
    allow_pickle: bool = False,
    encoder: Source | None = None,
) -> Expert:
    """An expert: our own format, ModelCompose's, a whole checkpoint, or a PEFT LoRA on one.

    Args:
        modality: what it understands beside text.
        source: as the recipe names it.
        base: of the composite.
        allow_different_base: accept an expert that names another base.
        allow_pickle: read tensors from pickled weights too.
        encoder: where its encoder lies, for an expert that does not bring it.

    Raises:
        SourceError: it is none of these, or it does not fit.
    """
    folder = resolve(source, allow_pickle=allow_pickle)
    if is_modelcompose(folder):
        request = Request(
            modality=modality, label=source.text, encoder=encoder, allow_pickle=allow_pickle
        )
        return open_modelcompose(request, folder, base)
    if encoder is not None:
        raise SourceError(
            f"{source}: the recipe names an encoder for it, but this expert brings its own. "
            "Leave out `encoder:`."
        )
    if source.adapter is not None:
        name = source.text.split("+")[0].strip()
        host = open_checkpoint(name, folder, allow_pickle=allow_pickle)
        place = resolve(source.adapter, allow_pickle=allow_pickle)
        return open_adapted(modality, host, source.adapter.text, place, allow_pickle=allow_pickle)
    if (folder / EXPERT_FILE).is_file():
        return open_own(
            modality,
            source.text,
            folder,
            base,
            allow_different_base=allow_different_base,
            allow_pickle=allow_pickle,
        )
    if (folder / ADAPTER_FILE).is_file() and (folder / CONFIG_FILE).is_file():
        # A checkpoint that ships its LoRA beside its weights, as Granite's speech models do.
        host = open_checkpoint(source.text, folder, allow_pickle=allow_pickle)
        return open_adapted(modality, host, source.text, folder, allow_pickle=allow_pickle)
    if (folder / ADAPTER_FILE).is_file():
        host = host_of(source.text, folder, allow_pickle=allow_pickle)
        return open_adapted(modality, host, source.text, folder, allow_pickle=allow_pickle)
    if (folder / CONFIG_FILE).is_file():
        return open_native(modality, source.text, folder, allow_pickle=allow_pickle)
    raise SourceError(
        f"{source}: found none of {EXPERT_FILE}, {ADAPTER_FILE}, {CONFIG_FILE} in {folder}. "
        "Expected an expert folder, a PEFT adapter or a transformers checkpoint."
    )


def host_of(label: str, folder: Path, *, allow_pickle: bool = False) -> Checkpoint:
    """The checkpoint that an adapter folder names as its base.

    Raises:
        SourceError: it names none, or one that cannot be opened.
    """
    named = read_lora_settings(folder).base_model
    if not named:
        raise SourceError(
            f"{label}: adapter_config.json names no base model. Write the source as 'base+adapter'."
        )
    source, place = resolve_text(named, folder, allow_pickle=allow_pickle)
    return open_checkpoint(source.text, place, allow_pickle=allow_pickle)
