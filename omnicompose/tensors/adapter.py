"""PEFT LoRA folders as what they mean: a delta per base tensor, and tensors replaced in full.

A LoRA layer adds `scale * B @ A` to its weight `[out, in]`, with scale `alpha / r`, or
`alpha / sqrt(r)` if rank-stabilised. Embeddings and `fan_in_fan_out` layers store the transpose.
"""

import re
import threading
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from pathlib import Path

from omnicompose.errors import SourceError
from omnicompose.tensors.adapter_config import CONFIG, LoraSettings, read_lora_settings
from omnicompose.tensors.checkpoint import open_safetensors
from omnicompose.tensors.low_rank import LowRank
from omnicompose.tensors.pickled import open_pickled
from omnicompose.tensors.source import TensorSource, read_tensor

WEIGHTS = "adapter_model.safetensors"
PICKLED_WEIGHTS = "adapter_model.bin"
PREFIX = "base_model.model."
FACTOR_KEY = re.compile(
    r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(\.[^.]+)??(?P<weight>\.weight)?"
)
REPLACED_KEY = re.compile(
    r"(?P<module>.+)\.(base_layer|modules_to_save(\.[^.]+)?)\.(?P<leaf>weight|bias)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraDelta:
    """Where the factors of one delta lie.

    Attributes:
        A: name of the first factor in the adapter's file.
        B: name of the second.
        scale: of the product.
        transposed: the base weight is stored `[in, out]` (embeddings, `fan_in_fan_out`).
        shape: of the delta, as the base stores the weight.
        rank: of the product.
    """

    A: str
    B: str
    scale: float
    transposed: bool
    shape: tuple[int, int]
    rank: int


class _Latest(threading.local):
    """The product that a thread read last."""

    name: str | None = None
    factors: LowRank | None = None


class LoraAdapter:
    """An opened PEFT LoRA folder; factors are read when asked for.

    Attributes:
        label: how messages call it.
        weights: the adapter's own tensors.
        deltas: by the name of the base's tensor.
        replacements: tensors saved in full (`modules_to_save`, biases): base name to own name.
    """

    def __init__(
        self, label: str, weights: TensorSource, settings: LoraSettings, config: Path | None = None
    ) -> None:
        """Account for every tensor of the adapter.

        Args:
            label: how messages call it.
            weights: the adapter's own tensors.
            settings: ranks and scales.
            config: the file that the settings are from, if they are from one.

        Raises:
            SourceError: a factor lacks its partner, has another rank than the configuration says,
                or a tensor is of an unknown kind.
        """
        self.label = label
        self.weights = weights
        self._config = config
        pairs: dict[tuple[str, bool], dict[str, str]] = {}
        self.replacements: dict[str, str] = {}
        for key in weights.infos():
            self._sort_in(key, pairs)
        self.deltas: Mapping[str, LoraDelta] = {
            f"{module}.weight": self._delta(module, embedding, sides, settings)
            for (module, embedding), sides in pairs.items()
        }
        # One product per thread: the next tile of a large tensor must not read its factors again.
        self._latest = _Latest()

    def _sort_in(self, key: str, pairs: dict[tuple[str, bool], dict[str, str]]) -> None:
        name = key.removeprefix(PREFIX)
        factor = FACTOR_KEY.fullmatch(name)
        if factor and bool(factor["embedding"]) != bool(factor["weight"]):
            place = (factor["module"], bool(factor["embedding"]))
            pairs.setdefault(place, {})[factor["side"]] = key
            return
        if ".lora_" in name or not key.startswith(PREFIX):
            raise SourceError(
                f"{self.label}: tensor '{key}': no LoRA factor and no saved module; expected "
                f"'{PREFIX}<module>.lora_A.weight' and the like. Save the adapter with peft again."
            )
        # Next to the factors of an embedding peft stores the embedding itself, as `base_layer`.
        replaced = REPLACED_KEY.fullmatch(name)
        own = f"{replaced['module']}.{replaced['leaf']}" if replaced else name
        self.replacements[own] = key

    def _delta(
        self, module: str, embedding: bool, sides: Mapping[str, str], settings: LoraSettings
    ) -> LoraDelta:
        if set(sides) != {"A", "B"}:
            missing = "B" if "A" in sides else "A"
            raise SourceError(
                f"{self.label}: module '{module}': lora_{missing} is missing; expected a pair. "
                "Save the adapter again."
            )
        shape_a, shape_b = (self.weights.infos()[sides[side]].shape for side in "AB")
        rank, scale = settings.rank(module), settings.scale(module)
        if len(shape_a) != 2 or len(shape_b) != 2 or (shape_a[0], shape_b[1]) != (rank, rank):
            raise SourceError(
                f"{self.label}: module '{module}': found lora_A {shape_a} and lora_B {shape_b}; "
                f"expected [{rank}, in] and [out, {rank}] by its configuration. "
                "Only linear layers and embeddings can be merged."
            )
        transposed = embedding or settings.fan_in_fan_out
        product = (shape_b[0], shape_a[1])
        return LoraDelta(
            A=sides["A"],
            B=sides["B"],
            scale=scale,
            transposed=transposed,
            shape=(product[1], product[0]) if transposed else product,
            rank=rank,
        )

    def renamed(self, names: Mapping[str, str]) -> "LoraAdapter":
        """The same adapter for a base of other names (old to new); those not given are left out."""
        other = copy(self)
        other.deltas = {names[old]: delta for old, delta in self.deltas.items() if old in names}
        other.replacements = {
            names[old]: own for old, own in self.replacements.items() if old in names
        }
        other._latest = _Latest()
        return other

    def factors(self, name: str) -> LowRank | None:
        """The delta of a base tensor as fp32 factors, in the orientation of the base's tensor."""
        if name not in self.deltas:
            return None
        if self._latest.name != name:
            self._latest.factors = self._read_factors(name)
            self._latest.name = name
        return self._latest.factors

    def _read_factors(self, name: str) -> LowRank:
        delta = self.deltas[name]
        first, second = (read_tensor(self.weights, key).float() for key in (delta.A, delta.B))
        if delta.transposed:
            first, second = second.T.contiguous(), first.T.contiguous()
        return LowRank(A=first, B=second, scale=delta.scale)

    def files(self) -> tuple[Path, ...]:
        """The adapter's weight files, and the one that says by how much they count."""
        return (
            self.weights.files() if self._config is None else (*self.weights.files(), self._config)
        )


def open_lora(folder: Path, *, allow_pickle: bool = False, label: str | None = None) -> LoraAdapter:
    """Open a PEFT LoRA folder: its configuration and its header, no weights.

    Args:
        folder: with `adapter_config.json` and `adapter_model.safetensors`.
        allow_pickle: accept `adapter_model.bin` (tensors only).
        label: how messages call it; the path by default.

    Raises:
        SourceError: it is no LoRA that can be merged as a product (DoRA, other PEFT types), or its
            tensors do not fit its configuration.
    """
    name = label or str(folder)
    settings = read_lora_settings(folder)
    weights: TensorSource
    if not (folder / WEIGHTS).is_file() and (folder / PICKLED_WEIGHTS).is_file():
        weights = open_pickled(folder / PICKLED_WEIGHTS, allow_pickle=allow_pickle, label=name)
    else:
        weights = open_safetensors(folder / WEIGHTS, label=name)
    return LoraAdapter(name, weights, settings, folder / CONFIG)
