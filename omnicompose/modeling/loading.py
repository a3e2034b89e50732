"""Open a written composite: quietly, and whole or not at all."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoModelForMultimodalLM, AutoProcessor, PreTrainedModel, ProcessorMixin
from transformers.utils import CONFIG_NAME, logging

import omnicompose.modeling  # noqa: F401  registers the composite with the Auto classes
from omnicompose.errors import SourceError

BROKEN = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RuntimeError,
    SafetensorError,
)
"""What transformers raises over files that are not what they were written as."""


def open_composite(
    folder: Path, dtype: torch.dtype | str
) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Open a folder that `omnicompose compose` wrote: its model in evaluation mode, its processor.

    Args:
        folder: the composite.
        dtype: of the computation; `auto` is the folder's own.

    Raises:
        SourceError: a file of it cannot be read, or a tensor is missing: transformers would put
            random numbers in its place and warn.
    """
    return open_model(folder, dtype), open_processor(folder)


def open_model(folder: Path, dtype: torch.dtype | str) -> PreTrainedModel:
    """The model alone.

    Raises:
        SourceError: as for `open_composite`.
    """
    with _readable(folder):
        model, info = AutoModelForMultimodalLM.from_pretrained(
            folder, dtype=dtype, output_loading_info=True
        )
        _refuse_gaps(info)
    return model.eval()


def open_processor(folder: Path) -> ProcessorMixin:
    """The processor alone.

    Raises:
        SourceError: as for `open_composite`.
    """
    with _readable(folder):
        processor = AutoProcessor.from_pretrained(folder)
        _refuse_other_senses(folder, processor)
    return processor


def _refuse_gaps(info: Mapping[str, list[object]]) -> None:
    """Refuse weights that are not those of the configuration.

    Raises:
        ValueError: the first three of each kind.
    """
    wrong = {kind: sorted(map(str, info[f"{kind}_keys"])) for kind in ("missing", "unexpected")}
    told = [f"{kind} {', '.join(names[:3])}" for kind, names in wrong.items() if names]
    if told:
        raise ValueError(f"its tensors are not those of its config.json: {'; '.join(told)}")


def _refuse_other_senses(folder: Path, processor: ProcessorMixin) -> None:
    """Refuse a processor that does not know the model's modalities: it would leave media out.

    Raises:
        ValueError: transformers found no processor_config.json, or an empty one, and made one up.
    """
    config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    expected, found = dict(config.get("modalities") or {}), dict(processor.modalities)
    if expected.keys() != found.keys():
        raise ValueError(
            f"processor_config.json: found the modalities {sorted(found)}, config.json has "
            f"{sorted(expected)}"
        )


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    try:
        with _without_bars():
            yield
    except BROKEN as error:
        said = " ".join(str(error).split())[:500]
        raise SourceError(
            f"{folder}: the composite cannot be loaded: {said}. `omnicompose verify {folder}` says "
            "which file is not as it was written; compose it again."
        ) from error


@contextmanager
def _without_bars() -> Iterator[None]:
    """Silence transformers' bars: they draw on stderr even where nobody watches."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
