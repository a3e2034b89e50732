"""The code of a composite, put into its folder: it then loads where omnicompose is not installed.

The files are this package's own modules, collected from their imports and rewritten by rule, so
there is no second copy to keep. transformers takes one flat folder of modules that import one
another as `.name`; encoders and connectors that a composite does not use are left out.
"""

import ast
import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from omnicompose.errors import ExportError
from omnicompose.export_imports import STAND_IN, guarded

PACKAGE = Path(__file__).parent
ROOM = "modeling."
"""Modules of this room keep their short names, which `auto_map` shows."""
CONFIGURATION = "configuration_omnicompose.OmniComposeConfig"
MODEL = "modeling_omnicompose.OmniComposeForConditionalGeneration"
MODEL_MAP = {
    "AutoConfig": CONFIGURATION,
    "AutoModel": "modeling_omnicompose.OmniComposeModel",
    "AutoModelForCausalLM": MODEL,
    "AutoModelForImageTextToText": MODEL,
    "AutoModelForMultimodalLM": MODEL,
}
PROCESSOR_MAP = {"AutoProcessor": "processing_omnicompose.OmniComposeProcessor"}
PARTS = {
    "KaldiFbankFeatureExtractor": ("AutoFeatureExtractor", "feature_extraction_fbank"),
    "PaddedImageProcessor": ("AutoImageProcessor", "image_processing_padded"),
    "LanguageBindVideoProcessor": ("AutoVideoProcessor", "video_processing_languagebind"),
}
"""Preprocessors of ours: the Auto class that finds each, and its module."""
REGISTRIES = ("ENCODERS", "PICTURE_ENCODERS", "CONNECTORS")
OPTIONAL = ("media", "media_limits", "modeling.media_inputs")
"""Modules that read files with packages which a model that gets arrays does not need."""
HEADER = "# Written by omnicompose from its module {module}; do not edit.\n"
OWN_IMPORT = re.compile(r"^(\s*)from omnicompose\.(\S+) import", re.MULTILINE)


def add_code(folder: Path) -> tuple[str, ...]:
    """Write code files into a composite's folder and name its classes in `auto_map`.

    Args:
        folder: with `config.json` and `processor_config.json` of a composite.

    Returns:
        The names of the code files.

    Raises:
        ExportError: the folder holds no composite.
    """
    config = _read(folder / "config.json")
    processor = _read(folder / "processor_config.json")
    if config.get("model_type") != "omnicompose":
        raise ExportError(
            f"{folder}: found model_type {config.get('model_type')!r}, expected 'omnicompose'. "
            "Name a folder that `omnicompose compose` wrote."
        )
    config["auto_map"] = MODEL_MAP
    processor["auto_map"] = PROCESSOR_MAP
    modules = {reference.split(".")[0] for reference in (*MODEL_MAP.values(), MODEL)}
    modules.add("processing_omnicompose")
    modules |= _map_parts(processor)
    files = code_files(sorted(f"{ROOM}{name}" for name in modules), set(_words(config)))
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    for name, data in (("config.json", config), ("processor_config.json", processor)):
        text = json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        (folder / name).write_text(text, encoding="utf-8")
    return tuple(files)


def code_files(roots: Collection[str], used: Collection[str]) -> dict[str, str]:
    """Every module that `roots` import, directly or not, as flat files.

    Args:
        roots: modules of the package, without its name (`modeling.router`).
        used: names; entries of encoder and connector registries under others are left out.

    Returns:
        File name to content, sorted by name.
    """
    files: dict[str, str] = {}
    waiting, seen = list(roots), set(roots)
    while waiting:
        module = waiting.pop()
        text = _pruned(_source(module), used)
        needed = {name for _, name in OWN_IMPORT.findall(text)}
        waiting += sorted(needed - seen)
        seen |= needed
        files[f"{flat_name(module)}.py"] = HEADER.format(module=module) + _rewritten(text, module)
    return dict(sorted((files | STAND_IN).items()))


def flat_name(module: str) -> str:
    """The file's name for a module: `encoders.beats` is `encoders_beats`."""
    return module.removeprefix(ROOM).replace(".", "_")


def _rewritten(text: str, module: str) -> str:
    if module in OPTIONAL:
        text = guarded(text)
    return OWN_IMPORT.sub(lambda found: f"{found[1]}from .{flat_name(found[2])} import", text)


def _source(module: str) -> str:
    path = PACKAGE.joinpath(*module.split("."))
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(
        encoding="utf-8"
    )


def _pruned(text: str, used: Collection[str]) -> str:
    """The source without the registry entries that are not used, and without their imports."""
    tree = ast.parse(text)
    dropped: set[int] = set()
    names: set[str] = set()
    for key, value in _entries(tree):
        if key.value not in used:
            dropped |= set(range(key.lineno, (value.end_lineno or 0) + 1))
            names |= {node.id for node in ast.walk(value) if isinstance(node, ast.Name)}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and names >= {alias.name for alias in node.names}:
            dropped |= set(range(node.lineno, (node.end_lineno or 0) + 1))
    lines = text.splitlines(keepends=True)
    return "".join(line for place, line in enumerate(lines, 1) if place not in dropped)


def _entries(tree: ast.Module) -> Iterator[tuple[ast.Constant, ast.expr]]:
    """Names and values of the registries in a module."""
    for node in tree.body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.value, ast.Dict):
            continue
        if isinstance(node.target, ast.Name) and node.target.id in REGISTRIES:
            for key, value in zip(node.value.keys, node.value.values, strict=True):
                if isinstance(key, ast.Constant):
                    yield key, value


def _words(data: object) -> Iterator[str]:
    """Every text in JSON: the types of encoders and connectors are among them, however deep."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, Mapping | list):
        for value in data.values() if isinstance(data, Mapping) else data:
            yield from _words(value)


def _map_parts(processor: Mapping[str, object]) -> set[str]:
    """Name our own preprocessors in the `auto_map` of their part; the modules that hold them."""
    modules = set()
    for part in processor.values():
        if not isinstance(part, dict):
            continue
        for name in {value for value in part.values() if isinstance(value, str)} & set(PARTS):
            auto_class, module = PARTS[name]
            part["auto_map"] = {auto_class: f"{module}.{name}"}
            modules.add(module)
    return modules


def _read(path: Path) -> dict[str, object]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExportError(
            f"{path}: found no readable JSON ({error}), expected a composite's. "
            "Name a folder that `omnicompose compose` wrote."
        ) from error
    if not isinstance(data, dict):
        raise ExportError(
            f"{path}: found {type(data).__name__}, expected an object. Compose again."
        )
    return data
