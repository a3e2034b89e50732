"""The model that data are streamed through: built without weights, given them part by part."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
import transformers
from accelerate import init_empty_weights
from torch import nn
from transformers import AutoConfig, PreTrainedModel

from omnicompose.errors import CalibrationError
from omnicompose.experts.config import read_json
from omnicompose.export import MANIFEST_FILE
from omnicompose.families import FAMILIES
from omnicompose.merging.fingerprint import InputFiles
from omnicompose.merging.job import TensorRef
from omnicompose.plan.participant import Key, Participant, open_participant
from omnicompose.recipe_values import Source
from omnicompose.tensors.checkpoint import open_safetensors
from omnicompose.tensors.source import TensorSource, read_tensor

COMPOSITE = "omnicompose"
COMPOSITE_BACKBONE = "model.language_model."


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model of transformers whose weights are on disk until they are asked for.

    Attributes:
        label: as the user named it.
        folder: configuration, tokenizer and processor.
        model: its parameters are without storage, its buffers are there.
        weights: where each parameter lies, by its name in the model.
        names: what a parameter is called in the backbone, where it belongs to it.
    """

    label: str
    folder: Path
    model: PreTrainedModel
    weights: Mapping[str, TensorRef]
    names: Mapping[str, str]

    @property
    def blocks(self) -> nn.ModuleList:
        """The decoder's blocks, in order."""
        return cast(nn.ModuleList, self.decoder.layers)

    @property
    def decoder(self) -> nn.Module:
        """The backbone without its head."""
        return cast(nn.Module, self.model.get_decoder())

    def path_of(self, module: nn.Module) -> str:
        """The name of a part of the model, with a dot behind it."""
        names = (str(name) for name, one in self.model.named_modules() if one is module)
        return next(names) + "."

    def state(self) -> str:
        """A hash that changes with the weights: of a composite's manifest, else of file facts."""
        manifest = self.folder / MANIFEST_FILE
        if self.model.config.model_type == COMPOSITE and manifest.is_file():
            return hashlib.sha256(manifest.read_bytes()).hexdigest()
        files, sources = InputFiles(), {id(ref.source): ref.source for ref in self.weights.values()}
        states = sorted(files.state(source) for source in sources.values())
        return hashlib.sha256(" ".join(states).encode()).hexdigest()

    @contextmanager
    def holding(self, prefixes: Sequence[str], but: Sequence[str] = ()) -> Iterator[None]:
        """Give the parameters under some prefixes their weights, fp32, and take them back.

        Args:
            prefixes: of parameters' names.
            but: parameters under these stay without.
        """
        held = [
            name
            for name in self.weights
            if name.startswith(tuple(prefixes)) and not name.startswith(tuple(but))
        ]
        for name in held:
            ref = self.weights[name]
            self._set(name, read_tensor(ref.source, ref.name))
        try:
            yield
        finally:
            for name in held:
                self._set(name, None)

    def _set(self, name: str, tensor: torch.Tensor | None) -> None:
        path, _, leaf = name.rpartition(".")
        module = self.model.get_submodule(path)
        empty = getattr(module, leaf)
        if tensor is None:
            found = torch.empty_like(empty, device="meta")
        else:
            found = tensor.float() if tensor.is_floating_point() else tensor
        if leaf in module._buffers:
            module._buffers[leaf] = found
        else:
            module._parameters[leaf] = nn.Parameter(found, requires_grad=False)


def open_subject(source: Source, *, attention: str = "sdpa", allow_pickle: bool = False) -> Subject:
    """Open a model of transformers, an adapter on one, or a composite; headers only.

    Args:
        source: as a recipe names it.
        attention: the implementation to run with; `eager` shows its weights.
        allow_pickle: read pickled weights too.

    Raises:
        SourceError: it cannot be opened.
        CalibrationError: its architecture cannot be run, or weights of it are missing.
    """
    if source.kind == "path" and _is_composite(Path(source.location)):
        return _open_composite(source, attention)
    found = open_participant(source, raw=False, allow_pickle=allow_pickle)
    architecture = str((found.config.get("architectures") or [None])[0])  # type: ignore[index]
    if architecture not in FAMILIES or not hasattr(transformers, architecture):
        raise CalibrationError(
            f"{source}: found the architecture {architecture}, which cannot be run here; expected "
            "one that `omnicompose families` lists. Collect on another model."
        )
    config = AutoConfig.from_pretrained(found.folder, local_files_only=True)
    model = _empty(getattr(transformers, architecture), config, attention)
    weights, names = _located(found, architecture, model)
    return Subject(
        label=source.text, folder=found.folder, model=model, weights=weights, names=names
    )


def _is_composite(folder: Path) -> bool:
    if not (folder / "config.json").is_file():
        return False
    return read_json(folder / "config.json").get("model_type") == COMPOSITE


def _open_composite(source: Source, attention: str) -> Subject:
    from omnicompose.modeling import OmniComposeConfig, OmniComposeForConditionalGeneration

    folder = Path(source.location)
    config = OmniComposeConfig.from_pretrained(folder)
    model = _empty(OmniComposeForConditionalGeneration, config, attention)
    stored = open_safetensors(folder, source.text)
    refs = {name: TensorRef(source=stored, name=name) for name in stored.infos()}
    names = {
        name: "model." + name.removeprefix(COMPOSITE_BACKBONE)
        if name.startswith(COMPOSITE_BACKBONE)
        else name
        for name in refs
        if name.startswith((COMPOSITE_BACKBONE, "lm_head.")) and ".streams." not in name
    }
    weights = _complete(source.text, model, refs)
    return Subject(label=source.text, folder=folder, model=model, weights=weights, names=names)


def _empty(kind: type[PreTrainedModel], config: object, attention: str) -> PreTrainedModel:
    """The model in fp32 with empty parameters and real buffers."""
    with init_empty_weights(include_buffers=False):
        model = kind._from_config(config, dtype=torch.float32, attn_implementation=attention)
    return cast(PreTrainedModel, model.eval())


def _located(
    found: Participant, architecture: str, model: PreTrainedModel
) -> tuple[dict[str, TensorRef], dict[str, str]]:
    parts = FAMILIES[architecture].locate(list(model.state_dict()))
    keys = {
        name: Key(part=part.part, modality=part.modality, name=part.name)
        for name, part in parts.items()
    }
    on_disk = found.names()
    source: TensorSource = found.weights.source
    refs = {
        name: TensorRef(source=source, name=on_disk[key])
        for name, key in keys.items()
        if key in on_disk
    }
    names = {name: key.name for name, key in keys.items() if key.part == "backbone"}
    return _complete(found.label, model, refs), {n: k for n, k in names.items() if n in refs}


def _complete(
    label: str, model: PreTrainedModel, refs: Mapping[str, TensorRef]
) -> dict[str, TensorRef]:
    """Every parameter's place; a tied one has its partner's.

    Raises:
        CalibrationError: a parameter has no weights.
    """
    tied = cast(Mapping[str, str], model.all_tied_weights_keys)
    complete: dict[str, TensorRef] = {}
    for name in model.state_dict():
        place = name if name in refs else tied.get(name, name)
        if place not in refs:
            raise CalibrationError(
                f"{label}: no weights for {name}, which {type(model).__name__} has. Check the "
                "checkpoint with `omnicompose inspect`."
            )
        complete[name] = refs[place]
    return complete
