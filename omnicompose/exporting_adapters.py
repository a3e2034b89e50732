"""A composite's language model as PEFT adapters on its base: one for text, one per stream.

delta = W - W_base per linear layer, factored by its singular values; norms and biases that the
merge changed travel whole, as PEFT's `modules_to_save`. The report says what truncation cost.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from omnicompose.export import refuse_existing
from omnicompose.exporting import checked_manifest, finish

if TYPE_CHECKING:
    import torch
    from torch import nn

    from omnicompose.exporting_factors import AdapterReport

REPORT_FILE = "report.json"
TEXT = "text"


def export_adapters(
    folder: Path,
    out: Path,
    *,
    rank: int | None = None,
    inputs: Path | None = None,
    overwrite: bool = False,
) -> "tuple[AdapterReport, ...]":
    """Write one PEFT folder per stream of the language model, loadable on the recipe's base.

    Args:
        folder: written by `omnicompose compose`.
        out: the folder to make; holds `text/` and one folder per modality with weights of its own.
        rank: of the factors; None: the least at which no layer is off by more than 0.1 %.
        inputs: where relative paths of the recipe start; None: here.
        overwrite: replace `out` if it exists.

    Raises:
        ExportError: the folder is no composite, or the base does not fit it.
        SourceError: the base cannot be found.
    """
    refuse_existing(out, overwrite=overwrite)
    manifest = checked_manifest(folder)
    from omnicompose.experts.resolve import resolve_text
    from omnicompose.exporting_factors import write_adapter
    from omnicompose.replier import load_stored

    source, base_folder = resolve_text(str(manifest.recipe["base"]), inputs or Path())
    base = _base_tensors(base_folder)
    streams = _streams(load_stored(folder), base)
    label = str(base_folder) if source.kind != "hub" else source.location

    def fill(part: Path) -> None:
        reports.extend(
            write_adapter(part / name, label, tensors, base, rank)
            for name, tensors in streams.items()
        )
        text = json.dumps([report.to_json() for report in reports], indent=1) + "\n"
        (part / REPORT_FILE).write_text(text, encoding="utf-8")

    reports: list[AdapterReport] = []
    finish(out, fill, overwrite=overwrite)
    return tuple(reports)


Tensors = Mapping[str, "torch.Tensor"]


def _base_tensors(folder: Path) -> dict[str, "torch.Tensor"]:
    """The base's own tensors in fp32, without its head, by the names inside its base model."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    return {name: tensor.float() for name, tensor in model.base_model.state_dict().items()}


def _streams(composite: "nn.Module", base: Tensors) -> dict[str, dict[str, "torch.Tensor"]]:
    """By stream, the whole weights that its tokens use, where the base has them."""
    model: nn.Module = composite.get_submodule("model.language_model")
    own = {name: tensor.float() for name, tensor in model.state_dict().items()}
    streams = {TEXT: {name: own[name] for name in base if name in own}}
    for path, layer in model.named_modules():
        for name, stream in getattr(layer, "streams", {}).items():
            weights = streams.setdefault(name, dict(streams[TEXT]))
            weights[f"{path}.weight"] = _own_weight(layer, stream)
    return streams


def _own_weight(layer: "nn.Module", stream: "nn.Module") -> "torch.Tensor":
    """The matrix, or the vector of a norm, that a stream's tokens see, in fp32."""
    from omnicompose.streams import MaskedStream

    own: Tensors = {name: tensor.float() for name, tensor in layer.state_dict().items()}
    if isinstance(stream, MaskedStream):
        return stream.weight_from(own["weight"], own["base_weight"])
    added: Tensors = {name: tensor.float() for name, tensor in stream.state_dict().items()}
    if "weight" in added:
        return added["weight"]
    return own["weight"] + added["lora_B"] @ added["lora_A"]
