"""A LoRA laid over a host's backbone: dense where it is read, factors where they are known."""

from collections.abc import Mapping
from pathlib import Path

from omnicompose.errors import SourceError
from omnicompose.experts.expert import Backbone, Factor, Origin, Weights
from omnicompose.tensors.adapter import LoraAdapter, open_lora
from omnicompose.tensors.patched import PatchedSource


def open_adapter(
    folder: Path, label: str, *, allow_pickle: bool = False
) -> tuple[LoraAdapter, frozenset[Origin]]:
    """A PEFT LoRA folder and the tensors in it.

    Raises:
        SourceError: no adapter, or one that is not a sum of products.
    """
    adapter = open_lora(folder, label=label, allow_pickle=allow_pickle)
    return adapter, frozenset(Origin(label=label, name=name) for name in adapter.weights.infos())


def adapt(host: Weights, adapter: LoraAdapter) -> Backbone:
    """The backbone that `host` becomes under an adapter whose names are the host's.

    Raises:
        SourceError: the adapter changes a tensor that the host lacks, or whose shape differs.
    """
    factors = {name: _factor(adapter, name) for name in adapter.deltas}
    return Backbone(
        weights=Weights(
            source=PatchedSource(host.source, adapter), origins=_origins(host, adapter)
        ),
        factors={name: factor for name, factor in factors.items() if factor is not None},
        host=host,
    )


def replaced(part: Weights, adapter: LoraAdapter) -> Weights:
    """A part whose tensors the adapter saved in full (`modules_to_save`)."""
    if adapter.deltas:
        name = next(iter(adapter.deltas))
        raise SourceError(
            f"{adapter.label}: a low-rank delta on {name!r}, outside the language model. Merge it "
            "into the checkpoint with peft's merge_and_unload first."
        )
    return Weights(source=PatchedSource(part.source, adapter), origins=_origins(part, adapter))


def _origins(host: Weights, adapter: LoraAdapter) -> Mapping[str, tuple[Origin, ...]]:
    origins = dict(host.origins)
    for name, own in adapter.replacements.items():
        origins[name] = (Origin(label=adapter.label, name=own),)
    for name, delta in adapter.deltas.items():
        pair = (
            Origin(label=adapter.label, name=delta.A),
            Origin(label=adapter.label, name=delta.B),
        )
        origins[name] = (*origins[name], *pair)
    return origins


def _factor(adapter: LoraAdapter, name: str) -> Factor | None:
    """The factors as they lie on disk; None where the weight is stored transposed."""
    delta = adapter.deltas[name]
    if delta.transposed:
        return None
    return Factor(
        source=adapter.weights, a_name=delta.A, b_name=delta.B, scale=delta.scale, rank=delta.rank
    )
