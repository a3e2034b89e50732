"""Read a checkpoint's configuration with transformers' own defaults filled in, as plain data."""

import json
from collections.abc import Mapping
from pathlib import Path

from omnicompose.errors import SourceError

ConfigData = Mapping[str, object]


def read_json(path: Path) -> dict[str, object]:
    """A JSON object from a file.

    Raises:
        SourceError: the file is missing, not JSON, or not an object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file. Is this the right folder?") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise SourceError(f"{path}: not JSON ({error}). Restore the file.") from error
    if not isinstance(data, dict):
        raise SourceError(f"{path}: expected a JSON object, found {type(data).__name__}.")
    return data


def read_model_config(folder: Path) -> dict[str, object]:
    """`config.json` of a transformers checkpoint with every default written out.

    Old checkpoints name only what differs from the defaults; comparing two backbones needs all.

    Raises:
        SourceError: no config.json, or one that transformers cannot read.
    """
    raw = read_json(folder / "config.json")
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (ValueError, KeyError, OSError) as error:
        raise SourceError(
            f"{folder / 'config.json'}: transformers cannot read it: {_first_line(error)}"
        ) from error
    data: dict[str, object] = config.to_dict()
    data["architectures"] = raw.get("architectures") or data.get("architectures")
    return data


def dig(config: ConfigData, dotted_path: str) -> object:
    """The value at `a.b.c` of nested mappings; the mapping itself for an empty path.

    Raises:
        KeyError: a step does not exist.
    """
    value: object = config
    for step in filter(None, dotted_path.split(".")):
        if not isinstance(value, Mapping) or step not in value:
            raise KeyError(dotted_path)
        value = value[step]
    return value


def dig_mapping(config: ConfigData, dotted_path: str) -> dict[str, object]:
    """Like `dig`, for a path that must lead to a mapping.

    Raises:
        KeyError: the path leads nowhere or to something else.
    """
    value = dig(config, dotted_path)
    if not isinstance(value, Mapping):
        raise KeyError(dotted_path)
    return dict(value)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
