"""What cannot be opened, refused by name before anything heavy is imported or read."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from omnicompose.errors import SourceError
from omnicompose.families import FAMILIES, ORIGINALS, REFUSED, Family

PREPROCESSOR_FILES = (
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
)
WHOLE_WEIGHTS = (
    "Merging needs weights in float32, bfloat16 or float16: take the checkpoint that it was "
    "quantised from, or load it with transformers, call dequantize() and save it"
)


def family_of(label: str, config: Mapping[str, object]) -> Family:
    """The name map of a configuration's architecture.

    Raises:
        SourceError: it names none, or one that we do not know or cannot compose.
    """
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or not architectures:
        raise SourceError(
            f"{label}: config.json names no architectures, so nobody knows what its tensors are. "
            'Expected such as {"architectures": ["Qwen2ForCausalLM"]}. Restore the file.'
        )
    name = str(architectures[0])
    if name in FAMILIES:
        return FAMILIES[name]
    if name in REFUSED:
        raise SourceError(
            f"{label}: {name} cannot be composed: {REFUSED[name]}. Take another expert; "
            "`omnicompose families` lists those that compose."
        )
    if name in ORIGINALS or "auto_map" in config:
        instead = ORIGINALS.get(name, "a class of transformers")
        raise SourceError(
            f"{label}: {name} is a model whose code comes with the checkpoint, which is never "
            f"run. Take the checkpoint's conversion to {instead} (on the hub often named with -hf)."
        )
    raise SourceError(
        f"{label}: architecture {name!r} is not one that can be composed yet. "
        "`omnicompose families` lists those that are. A new family is one entry in "
        "omnicompose/families/entries.py and a fixture in tests/families."
    )


def refuse_as_base(label: str, family: Family) -> None:
    """Refuse a base that is no plain language model.

    Raises:
        SourceError: it is none.
    """
    if family.text_config:
        raise SourceError(
            f"{label}: {family.architecture} is a multimodal model; the base must be the plain "
            "language model that the experts were trained from."
        )


def refuse_modality(label: str, family: Family, modality: str) -> None:
    """Refuse an expert under a modality that its family does not understand.

    Raises:
        SourceError: it does not.
    """
    if modality not in family.modalities:
        has = ", ".join(family.modalities) or "no modality at all"
        raise SourceError(
            f"{label}: {family.architecture} does not understand {modality}; it has {has}. Put it "
            "under the modality that it understands."
        )


def refuse_quantised(label: str, config: Mapping[str, object]) -> None:
    """Refuse a configuration that says its weights, or a part's, are quantised.

    Raises:
        SourceError: it does.
    """
    found = config.get("quantization_config")
    if isinstance(found, Mapping):
        method = found.get("quant_method") or "an unnamed method"
        raise SourceError(f"{label}: its weights are quantised ({method}). {WHOLE_WEIGHTS}.")
    for part in config.values():
        if isinstance(part, Mapping):
            refuse_quantised(label, part)


def refuse_gguf(label: str, place: Path) -> None:
    """Refuse a GGUF file, or a folder whose only weights are GGUF.

    Raises:
        SourceError: it is one.
    """
    files = [place] if place.suffix == ".gguf" else sorted(place.glob("*.gguf"))
    others = any(any(place.glob(pattern)) for pattern in ("*.safetensors", "*.bin"))
    if files and not others:
        raise SourceError(
            f"{label}: {files[0].name} holds quantised weights (GGUF). {WHOLE_WEIGHTS}."
        )


def refuse_missing_packages(label: str, family: Family) -> None:
    """Refuse an expert whose processor imports what is not installed.

    Raises:
        SourceError: there is such a package.
    """
    packages = family.native.packages if family.native else ()
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise SourceError(
            f"{label}: its processor needs {', '.join(missing)}, which is not installed. "
            f"Run `pip install {' '.join(missing)}`."
        )


def refuse_without_preprocessor(label: str, modality: str, folder: Path) -> None:
    """Refuse an expert that lacks what its media need, before any work and not after the merge.

    Raises:
        SourceError: the folder holds none of its files.
    """
    if not any((folder / name).is_file() for name in PREPROCESSOR_FILES):
        raise SourceError(
            f"{label}: no usable preprocessor configuration for {modality} in {folder}: found none "
            f"of {', '.join(PREPROCESSOR_FILES)}. Put its preprocessor_config.json there."
        )
