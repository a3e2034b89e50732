"""Encoders, connectors and affixes: copied from the expert that owns them."""

from omnicompose.experts.expert import Expert, Weights
from omnicompose.merging.job import Copy, TensorRef
from omnicompose.plan.plan import Entry
from omnicompose.plan.setting import Setting
from omnicompose.tensors.source import TensorInfo


def module_entries(setting: Setting, expert: Expert) -> list[Entry]:
    """Every tensor of an expert's encoder and connector, and its prefix and suffix embeddings."""
    modality = expert.modality
    return [
        *_copies(setting, expert.encoder.weights, f"model.{modality}_encoder.", modality),
        *_copies(setting, expert.connector.weights, f"model.{modality}_connector.", modality),
        *_copies(setting, expert.affixes, f"model.{modality}_", modality),
    ]


def _copies(setting: Setting, weights: Weights, prefix: str, modality: str) -> list[Entry]:
    return [
        Entry(
            job=Copy(
                output=TensorInfo(
                    name=prefix + name, dtype=setting.dtype(info.dtype), shape=info.shape
                ),
                tensor=TensorRef(source=weights.source, name=name),
            ),
            inputs=weights.origins[name],
            reason=f"the {modality} expert's own",
        )
        for name, info in weights.source.infos().items()
    ]
