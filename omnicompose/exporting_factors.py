"""One PEFT adapter from the weights it must give on a base: factors by singular values."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from peft import LoraConfig
from safetensors.torch import save_file

from omnicompose.errors import ExportError

WANTED_ERROR = 1e-3
"""Relative error per layer that the rank is chosen for where none is asked."""
ADAPTER_FILE = "adapter_model.safetensors"
PREFIX = "base_model.model.model"
Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterReport:
    """One adapter that was written.

    Attributes:
        name: its folder: `text`, or the modality whose tokens use it.
        rank: of its factors.
        largest_error: relative Frobenius error of the worst layer.
        layers: linear layers that it changes.
        saved: modules that travel whole.
    """

    name: str
    rank: int
    largest_error: float
    layers: int
    saved: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """The fields as plain data."""
        return asdict(self)


def write_adapter(
    folder: Path, base_label: str, tensors: Tensors, base: Tensors, rank: int | None
) -> AdapterReport:
    """Write a PEFT LoRA that turns the base's weights into the given ones.

    Args:
        folder: to make; its name is the adapter's.
        base_label: where PEFT finds the base.
        tensors: fp32 weights by their names inside the base model.
        base: the base's, likewise.
        rank: of the factors; None: the least at which no layer is off by more than 0.1 %.

    Raises:
        ExportError: the embeddings were merged too, which an adapter on the base cannot hold.
    """
    changed = {n: t for n, t in tensors.items() if not torch.equal(t[: len(base[n])], base[n])}
    matrices = {n: t for n, t in changed.items() if t.ndim == 2 and "embed" not in n}
    whole = {n: t for n, t in changed.items() if n not in matrices}
    if embeddings := [name for name in whole if whole[name].ndim > 1]:
        raise ExportError(
            f"{folder.name}: {', '.join(embeddings)} differs from the base's, which an adapter "
            "cannot hold. Compose with `roles: {embedding: base}`, or export the composite."
        )
    spectra = {n: torch.linalg.svd(t - base[n], full_matrices=False) for n, t in matrices.items()}
    chosen = rank or max((_least_rank(one[1]) for one in spectra.values()), default=1)
    factors = [_factors(name, one, chosen) for name, one in spectra.items()]
    saved = {f"{PREFIX}.{name}": tensor.contiguous() for name, tensor in whole.items()}
    folder.mkdir()
    save_file(dict(pair for two in factors for pair in two) | saved, folder / ADAPTER_FILE)
    modules = _modules(whole)
    LoraConfig(
        base_model_name_or_path=base_label,
        task_type="CAUSAL_LM",
        r=chosen,
        lora_alpha=chosen,
        target_modules=list(_modules(matrices)),
        modules_to_save=list(modules) or None,
        inference_mode=True,
    ).save_pretrained(folder)
    return AdapterReport(
        name=folder.name,
        rank=chosen,
        largest_error=max((_error(one[1], chosen) for one in spectra.values()), default=0.0),
        layers=len(matrices),
        saved=modules,
    )


Spectrum = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def _factors(name: str, spectrum: Spectrum, rank: int) -> list[tuple[str, torch.Tensor]]:
    """`lora_A` [rank, in] and `lora_B` [out, rank]; zeros where a layer has fewer values."""
    left, values, right = spectrum
    root = values[:rank].sqrt()
    missing = rank - len(root)
    a, b = root[:, None] * right[:rank], left[:, :rank] * root
    path = f"{PREFIX}.{name.removesuffix('.weight')}"
    pad = torch.nn.functional.pad
    return [
        (f"{path}.lora_A.weight", pad(a, (0, 0, 0, missing)).contiguous()),
        (f"{path}.lora_B.weight", pad(b, (0, missing)).contiguous()),
    ]


def _modules(tensors: Tensors) -> tuple[str, ...]:
    """The roles of tensors: `q_proj` of `layers.0.self_attn.q_proj.weight`."""
    return tuple(sorted({name.split(".")[-2] for name in tensors}))


def _error(values: torch.Tensor, rank: int) -> float:
    total = float(values.square().sum())
    return float((values[rank:].square().sum() / total).sqrt()) if total else 0.0


def _least_rank(values: torch.Tensor) -> int:
    ranks = range(1, len(values) + 1)
    return next(rank for rank in ranks if _error(values, rank) <= WANTED_ERROR)
