"""The field types of recipes: how each value is checked, written back and described to editors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    InstanceOf,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
)

from omnicompose.modalities import MODALITIES
from omnicompose.recipe_problems import did_you_mean
from omnicompose.recipe_values import (
    Source,
    Weight,
    is_finite,
    parse_size,
    parse_source,
    parse_weight,
)

RolePolicy = Literal["method", "mean_delta", "base"]
ModalityPolicy = Literal["merged", "exact", "masked", "emr"]
Dtype = Literal["float32", "bfloat16", "float16"]
ParameterValue = bool | int | float | str | Mapping[str, float]


def _folder(info: ValidationInfo) -> Path:
    return info.context["folder"] if info.context else Path.cwd()


def _check_source(value: object, info: ValidationInfo) -> Source:
    if isinstance(value, Source):
        return value
    if not isinstance(value, str):
        raise ValueError(f"found {value!r}, expected a path, 'zoo:NAME' or a hub id as text.")
    return parse_source(value, _folder(info))


def _check_file(value: object, info: ValidationInfo) -> Source | None:
    if value is None or isinstance(value, Source):
        return value
    if not isinstance(value, str):
        raise ValueError(f"found {value!r}, expected the path of a file as text.")
    path = (_folder(info) / Path(value).expanduser()).resolve()
    if not path.is_file():
        raise ValueError(f"found {value!r}, but {path} is no file. Correct the path.")
    return Source(text=value, kind="path", location=str(path))


def _check_weight(value: object, info: ValidationInfo) -> Weight | None:
    return None if value is None else parse_weight(value, _folder(info))


def _check_parameter(value: object) -> ParameterValue:
    if isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict) and value and all(map(is_finite, value.values())):
        return {str(expert): float(number) for expert, number in value.items()}
    raise ValueError(
        f"found {value!r}, expected a number, true, false, a word, or a table {{expert: number}}."
    )


def _check_modality(name: str) -> str:
    if name in MODALITIES:
        return name
    near = did_you_mean(name, MODALITIES) or f"; expected one of {', '.join(MODALITIES)}."
    raise ValueError(f"unknown modality {name!r}{near}")


ModalityName = Annotated[
    str, AfterValidator(_check_modality), WithJsonSchema({"enum": list(MODALITIES)})
]
_NUMBER = {"type": "number"}
SourceField = Annotated[
    InstanceOf[Source],
    BeforeValidator(_check_source),
    PlainSerializer(str),
    WithJsonSchema({"type": "string"}),
]
FileField = Annotated[
    InstanceOf[Source] | None,
    BeforeValidator(_check_file),
    PlainSerializer(lambda source: None if source is None else str(source)),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "null"}]}),
]
WeightField = Annotated[
    Weight | None,
    PlainValidator(_check_weight),
    PlainSerializer(lambda weight: weight),
    WithJsonSchema(
        {
            "anyOf": [
                _NUMBER,
                {"type": "array", "items": _NUMBER, "minItems": 1},
                {"type": "object", "additionalProperties": _NUMBER},
                {"type": "string"},
                {"type": "null"},
            ]
        }
    ),
]
SizeField = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string"}]}),
]
Parameters = Mapping[
    str,
    Annotated[
        ParameterValue,
        PlainValidator(_check_parameter),
        PlainSerializer(lambda value: value),
        WithJsonSchema({"type": ["number", "boolean", "string", "object"]}),
    ],
]


class Strict(BaseModel):
    """Read-only, no unknown keys, no conversions; the text under a field describes it."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True
    )
