"""Read a module's JSON configuration into its dataclass: every mistake named, none ignored."""

import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import TYPE_CHECKING, ClassVar, TypeVar

from omnicompose.errors import SourceError

if TYPE_CHECKING:

    class Settings(typing.Protocol):
        """Any dataclass."""

        __dataclass_fields__: ClassVar[dict[str, Field[object]]]


T = TypeVar("T", bound="Settings")


def read_settings(settings: type[T], config: Mapping[str, object], where: str) -> T:
    """The dataclass `settings` filled from `config`.

    Args:
        settings: a dataclass whose field types are plain (int, float, bool, str, dict, unions).
        config: JSON; a key that is absent takes the field's default.
        where: what is being configured, for the message (`encoder 'conv_video'`).

    Raises:
        SourceError: unknown keys, missing keys or values of another type, all in one message.
    """
    mistakes = [*_key_mistakes(settings, config), *_value_mistakes(settings, config)]
    if mistakes:
        known = ", ".join(field.name for field in fields(settings))
        raise SourceError(
            f"{where}: its config has {'; '.join(mistakes)}. Known keys: {known}. "
            "Mend the config of the expert or composite that names it."
        )
    return settings(**config)


def _key_mistakes(settings: type[T], config: Mapping[str, object]) -> list[str]:
    required = {
        field.name
        for field in fields(settings)
        if field.default is MISSING and field.default_factory is MISSING
    }
    unknown = sorted(set(config) - {field.name for field in fields(settings)})
    return [f"unknown key {key!r}" for key in unknown] + [
        f"no {key!r}" for key in sorted(required - set(config))
    ]


def _value_mistakes(settings: type[T], config: Mapping[str, object]) -> list[str]:
    return [
        f"{key!r} = {config[key]!r} where {_describe(hint)} is expected"
        for key, hint in typing.get_type_hints(settings).items()
        if key in config and not _fits(config[key], hint)
    ]


def _fits(value: object, hint: object) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, option) for option in arguments)
    if origin is typing.Literal:
        return value in arguments
    if origin is list:
        return isinstance(value, list) and all(_fits(item, arguments[0]) for item in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, origin or typing.cast(type, hint))


def _describe(hint: object) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
