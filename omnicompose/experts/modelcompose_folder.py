"""What lies in a folder of ModelCompose: its configuration, and its tensors sorted."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from omnicompose.errors import SourceError
from omnicompose.experts.config import read_json
from omnicompose.experts.expert import Origin, Weights
from omnicompose.tensors.joined import JoinedSource
from omnicompose.tensors.opening import open_weights
from omnicompose.tensors.pickled import SUFFIXES
from omnicompose.tensors.selected import SelectedSource
from omnicompose.tensors.source import TensorSource

FILES = ("adapter_model", "mm_projector", "non_lora_trainables")
FACTOR = re.compile(r".+\.lora_[AB]\.(?P<adapter>[^.]+)\.weight")
PEFT_PREFIX = re.compile(r"(base_model\.model\.)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelComposeFolder:
    """A folder of ModelCompose, opened.

    Attributes:
        label: how the recipe names it.
        folder: where it lies.
        config: its `config.json`.
        weights: all tensors.
        factors: adapter to the names of its factors.
        scales: adapter to what its products are multiplied with beyond alpha / r.
    """

    label: str
    folder: Path
    config: Mapping[str, object]
    weights: TensorSource
    factors: Mapping[str, tuple[str, ...]]
    scales: Mapping[str, float]

    @property
    def inventory(self) -> frozenset[Origin]:
        """Every tensor on disk."""
        return frozenset(Origin(label=self.label, name=name) for name in self.weights.infos())

    def named(self, prefix: str) -> Weights:
        """The tensors under a prefix, which peft may have lengthened, by what follows it."""
        found = {
            PEFT_PREFIX.sub("", name, count=1).removeprefix(prefix): name
            for name in self.weights.infos()
            if PEFT_PREFIX.sub("", name, count=1).startswith(prefix)
        }
        return Weights(
            source=SelectedSource(self.weights, found),
            origins={new: (Origin(label=self.label, name=old),) for new, old in found.items()},
        )

    def affixes(self, theirs: str) -> Weights:
        """Prefix and suffix `[1, P, D]` as `[P, D]`."""
        found = {
            end: name
            for end in ("prefix", "suffix")
            if (name := f"{end}_tokens.{theirs}") in self.weights.infos()
        }
        shapes = {end: self.weights.infos()[name].shape[1:] for end, name in found.items()}
        return Weights(
            source=SelectedSource(self.weights, found, shapes),
            origins={end: (Origin(label=self.label, name=name),) for end, name in found.items()},
        )


def open_folder(label: str, folder: Path, *, allow_pickle: bool) -> ModelComposeFolder:
    """Open a folder of ModelCompose.

    Raises:
        SourceError: it holds no weights, or was merged in a way that has no effect.
    """
    config = read_json(folder / "config.json")
    sources = [
        open_weights(path, label, allow_pickle=allow_pickle)
        for name in FILES
        if (path := _weights_file(folder, name)) is not None
    ]
    if not sources:
        raise SourceError(
            f"{label}: found none of {', '.join(FILES)} (.safetensors or .bin) in "
            f"{folder}. Give the folder of a ModelCompose expert."
        )
    weights = JoinedSource(label, sources)
    factors: dict[str, tuple[str, ...]] = {}
    for name in weights.infos():
        if match := FACTOR.fullmatch(name):
            factors[match["adapter"]] = (*factors.get(match["adapter"], ()), name)
    return ModelComposeFolder(
        label=label,
        folder=folder,
        config=config,
        weights=weights,
        factors=factors,
        scales=_scales(label, config),
    )


def _weights_file(folder: Path, name: str) -> Path | None:
    paths = (folder / f"{name}{suffix}" for suffix in (".safetensors", *SUFFIXES))
    return next((path for path in paths if path.is_file()), None)


def _scales(label: str, config: Mapping[str, object]) -> dict[str, float]:
    """What a merged folder says of its adapters: `default-vision=0.5,default-audio=0.5`."""
    if config.get("merge_default_weights"):
        raise SourceError(
            f"{label}: merged by a strategy whose coefficients the published code never reads, so "
            "that its text adapters have no effect. Compose the experts that it was merged from "
            "(merge_info.txt names them)."
        )
    text = config.get("reset_scaling_weights") or ""
    try:
        pairs = [pair.split("=") for pair in str(text).split(",") if pair]
        return {name.strip(): float(number) for name, number in pairs}
    except ValueError as error:
        raise SourceError(
            f"{label}: found reset_scaling_weights {text!r} in config.json, expected "
            "`adapter=number,...`. Restore the file."
        ) from error
