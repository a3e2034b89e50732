"""From pydantic's findings to messages: line, key, what was found, what was expected."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from omnicompose.recipe_yaml import YamlFile

EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "mapping_type": "keys with values",
    "dict_type": "keys with values",
    "model_type": "keys with values",
    "tuple_type": "a list",
    "string_too_short": "some text",
}


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest known name, or nothing if none is near."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def describe_problems(error: ValidationError, model: type[BaseModel], file: YamlFile) -> list[str]:
    """One line per mistake, in the order of the file."""
    details = error.errors(include_url=False)
    typed = [str(item["loc"][-1]) for item in details if item["type"] == "extra_forbidden"]
    problems = [
        (_line(item, file), _describe(item, model))
        for item in details
        # A key that was merely misspelt is not missing as well.
        if not (item["type"] == "missing" and did_you_mean(str(item["loc"][-1]), typed))
    ]
    return [file.message(line, text) for line, text in sorted(problems)]


def _line(item: ErrorDetails, file: YamlFile) -> int:
    return file.line(
        _without_marks(item["loc"]), of_key=item["type"] in ("extra_forbidden", "value_error")
    )


def _without_marks(location: Sequence[int | str]) -> list[int | str]:
    """Drop the `[key]` that pydantic adds where a key itself is wrong."""
    return [part for part in location if part != "[key]"]


def _describe(item: ErrorDetails, model: type[BaseModel]) -> str:
    kind, location, found = item["type"], _without_marks(item["loc"]), item["input"]
    key = ".".join(map(str, location))
    if kind == "extra_forbidden":
        return _unknown_key(location, model)
    if kind == "missing":
        return f"key `{key}` is missing. Add it."
    if kind == "value_error":
        return f"{key}: {item['ctx']['error']}"
    if kind == "literal_error":
        choices = item["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
        near = did_you_mean(str(found), choices.split(", "))
        return f"{key}: found {found!r}, expected one of {choices}{near or '.'}"
    expected = EXPECTED.get(kind) or item["msg"].removeprefix("Input should be ")
    return f"{key}: found {found!r}, expected {expected}."


def _unknown_key(location: Sequence[int | str], model: type[BaseModel]) -> str:
    name, known = str(location[-1]), _keys_at(location, model)
    where = ".".join(map(str, location[:-1]))
    near = did_you_mean(name, known) or f"; known keys: {', '.join(known)}."
    return f"unknown key {name!r}{f' in {where}' if where else ''}{near}"


def _keys_at(location: Sequence[int | str], model: type[BaseModel]) -> list[str]:
    """The keys that the mapping around the last part of `location` may have."""
    for part in location[:-1]:
        if part in model.model_fields:
            model = _model_in(model.model_fields[str(part)].annotation) or model
    return list(model.model_fields)


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)
