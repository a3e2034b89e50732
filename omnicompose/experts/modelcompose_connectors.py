"""ModelCompose's projectors as our connectors: what its configurations call them, and their sizes.

A type is `identity`, `linear`, `mlpNx_gelu` or `qformer_QN_LL` (Q queries, L layers). What a type
does not say is read off the shapes; the attention heads of a Q-Former are in neither, and in the
published code always 12: a folder that differs says so by `mm_audio_projector_num_heads`.
"""

import re
from collections.abc import Mapping

from omnicompose.errors import SourceError
from omnicompose.experts import modelcompose_names as names
from omnicompose.experts.expert import Module, Weights
from omnicompose.tensors.selected import SelectedSource

NUM_HEADS_KEY = "mm_audio_projector_num_heads"
PUBLISHED_HEADS = 12
Shapes = Mapping[str, tuple[int, ...]]


def open_connector(label: str, kind: str, own: Weights, config: Mapping[str, object]) -> Module:
    """The connector of an expert.

    Args:
        label: of the expert, for messages.
        kind: the type that its configuration names.
        own: the projector's tensors, by their names in it.
        config: the expert's whole configuration.

    Raises:
        SourceError: an unknown type, or tensors of another one.
    """
    where = f"{label}: projector {kind!r}"
    if kind == "identity":
        return _module("identity", {}, own, (), where)
    if kind == "linear":
        return _module("linear", _sizes(own, "weight", where), own, names.LINEAR, where)
    if match := re.fullmatch(r"mlp(\d+)x_gelu", kind):
        num_layers = int(match[1])
        sizes = _sizes(own, "0.weight", where) | {"num_layers": num_layers}
        return _module("mlp", sizes, own, names.mlp(num_layers), where)
    if match := re.fullmatch(r"qformer_(\d+)N_(\d+)L", kind):
        settings = _qformer(own, config, where)
        settings |= {"num_queries": int(match[1]), "num_layers": int(match[2])}
        return _module("qformer", settings, own, names.QFORMER, where)
    raise SourceError(
        f"{where}: this type is unknown, expected identity, linear, mlpNx_gelu or qformer_QN_LL. "
        "Correct the expert's config.json."
    )


def _module(
    kind: str,
    settings: Mapping[str, object],
    own: Weights,
    table: tuple[names.Renaming, ...],
    where: str,
) -> Module:
    renamed = names.rename(own.origins, table, where)
    weights = Weights(
        source=SelectedSource(own.source, renamed),
        origins={new: own.origins[old] for new, old in renamed.items()},
    )
    return Module(type=kind, config=settings, weights=weights)


def _sizes(own: Weights, name: str, where: str) -> dict[str, object]:
    output_size, input_size = _shape(own, name, where)
    return {"input_size": input_size, "output_size": output_size}


def _qformer(own: Weights, config: Mapping[str, object], where: str) -> dict[str, object]:
    layer = "audio_Qformer.bert.encoder.layer.0"
    positions, input_size = _shape(own, "audio_position_embedding.weight", where)
    output_size, hidden_size = _shape(own, "audio_llama_proj.weight", where)
    intermediate_size, _ = _shape(own, f"{layer}.intermediate_query.dense.weight", where)
    return {
        "input_size": input_size,
        "output_size": output_size,
        "hidden_size": hidden_size,
        "num_heads": config.get(NUM_HEADS_KEY, PUBLISHED_HEADS),
        "intermediate_size": intermediate_size,
        "max_positions": positions,
    }


def _shape(own: Weights, name: str, where: str) -> tuple[int, ...]:
    info = own.source.infos().get(name)
    if info is None or len(info.shape) != 2:
        raise SourceError(
            f"{where}: found no matrix {name!r} among its tensors. Expected those that its type "
            "names. Restore the expert's weights."
        )
    return info.shape
