"""Experts that transformers and peft know: a whole multimodal checkpoint, or a LoRA on one."""

from collections.abc import Mapping
from pathlib import Path

from omnicompose.experts.checkpoint import Checkpoint, open_checkpoint
from omnicompose.experts.expert import Expert, Module, NativeProcessor, Weights
from omnicompose.experts.low_rank import adapt, open_adapter, replaced
from omnicompose.experts.native_module import PREFIX, media_ids
from omnicompose.experts.refusals import (
    refuse_missing_packages,
    refuse_modality,
    refuse_without_preprocessor,
)
from omnicompose.families import PartKind, PartName
from omnicompose.tensors.adapter import LoraAdapter
from omnicompose.tensors.selected import SelectedSource


def open_native(modality: str, label: str, folder: Path, *, allow_pickle: bool = False) -> Expert:
    """A whole multimodal checkpoint.

    Raises:
        SourceError: it cannot be opened, or lacks the modality.
    """
    checkpoint = open_checkpoint(label, folder, allow_pickle=allow_pickle)
    refuse_modality(label, checkpoint.family, modality)
    _check_processor(checkpoint, modality)
    backbone = checkpoint.backbone()
    native = checkpoint.family.native
    return Expert(
        modality=modality,
        label=label,
        folders={label: folder},
        text_config=checkpoint.text_config,
        text=backbone,
        own=backbone,
        encoder=checkpoint.encoder(modality),
        connector=checkpoint.connector(modality),
        affixes=no_weights(checkpoint),
        preprocessor=folder,
        inventory=checkpoint.inventory,
        tokenizer=folder,
        structure=native.structure if native else (),
        processor=_processor(checkpoint, modality),
    )


def open_adapted(
    modality: str, host: Checkpoint, label: str, folder: Path, *, allow_pickle: bool = False
) -> Expert:
    """A PEFT LoRA (with `modules_to_save`) on a multimodal checkpoint.

    Raises:
        SourceError: the adapter does not fit the checkpoint, or it lacks the modality.
    """
    refuse_modality(label, host.family, modality)
    _check_processor(host, modality)
    adapter, inventory = open_adapter(folder, label, allow_pickle=allow_pickle)
    names = host.family.locate([*adapter.deltas, *adapter.replacements])
    backbone = adapt(host.part("backbone"), _inside(adapter, names, "backbone"))
    # What runs as its family's own model is shared by all modalities of the family.
    owner = None if host.family.native else modality
    return Expert(
        modality=modality,
        label=label,
        folders={host.label: host.folder, label: folder},
        text_config=host.text_config,
        text=backbone,
        own=backbone,
        encoder=_patched(host.encoder(modality), _inside(adapter, names, "encoder", owner)),
        connector=_patched(host.connector(modality), _inside(adapter, names, "connector", owner)),
        affixes=no_weights(host),
        preprocessor=host.folder,
        inventory=host.inventory | inventory,
        tokenizer=host.folder,
        structure=host.family.native.structure if host.family.native else (),
        processor=_processor(host, modality),
    )


def _check_processor(checkpoint: Checkpoint, modality: str) -> None:
    refuse_missing_packages(checkpoint.label, checkpoint.family)
    refuse_without_preprocessor(checkpoint.label, modality, checkpoint.folder)


def _processor(checkpoint: Checkpoint, modality: str) -> NativeProcessor | None:
    native = checkpoint.family.native
    if native is None:
        return None
    return NativeProcessor(
        folder=checkpoint.folder,
        token=native.media[modality].token,
        ids=media_ids(native, modality, checkpoint.config),
        samples_frames=native.media[modality].samples_frames,
    )


def no_weights(checkpoint: Checkpoint) -> Weights:
    """An empty set of tensors, for experts without prefix and suffix embeddings."""
    return Weights(source=SelectedSource(checkpoint.source, {}), origins={})


def _inside(
    adapter: LoraAdapter,
    names: Mapping[str, PartName],
    kind: PartKind,
    modality: str | None = None,
) -> LoraAdapter:
    """What an adapter does to one part, under the names inside that part."""
    prefix = PREFIX if kind == "encoder" and modality is None else ""
    return adapter.renamed(
        {
            name: prefix + part.name
            for name, part in names.items()
            if part.part == kind and part.modality == modality
        }
    )


def _patched(module: Module, adapter: LoraAdapter) -> Module:
    return Module(type=module.type, config=module.config, weights=replaced(module.weights, adapter))
