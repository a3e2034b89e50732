"""What a benchmark compares: models, tasks, and the questions that coefficients are chosen on."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from omnicompose.errors import RecipeError
from omnicompose.recipe_fields import (
    ModalityName,
    ModalityPolicy,
    Parameters,
    SourceField,
    Strict,
)
from omnicompose.recipe_problems import describe_problems
from omnicompose.recipe_yaml import read_yaml

FOLDER = Path(__file__).parent / "suites"
SUITES: tuple[str, ...] = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))
"""The suites that ship, by name."""
Names = Annotated[tuple[str, ...], Field(strict=False)]


class Variant(Strict):
    """A method with settings that are not its defaults."""

    method: str
    """The merging method; `omnicompose methods` lists them."""
    profile: str | None = None
    """A named set of a reference implementation's settings."""
    parameters: Parameters = Field(default_factory=dict)
    """Settings of the method."""


class Suite(Strict):
    """A benchmark: fine-tunes of one model (`models`), or experts of several modalities.

    A task may be followed by what is shown: `zoo/mcub@captions` shows captions for media.
    """

    name: str = ""
    """Of the suite; its file's name if not given."""
    summary: str
    """One line: what is compared."""
    base: SourceField
    """Of `models`: the model they were fine-tuned from. Of `experts`: their language model."""
    models: Mapping[str, SourceField] = Field(default_factory=dict)
    """The fine-tunes by name."""
    weight: float | None = None
    """Coefficient of every one of `models`; null: 1/N for each of N."""
    joint: SourceField | None = None
    """One model trained on all data together: the upper bound."""
    understands: ModalityName = "image"
    """What the models of `models` understand beside text."""
    backbone: SourceField | None = None
    """The base's language model as a model of its own; null: taken out of the base."""
    experts: Mapping[ModalityName, SourceField] = Field(default_factory=dict)
    """The experts by modality."""
    modality: Annotated[tuple[ModalityPolicy, ...], Field(strict=False, min_length=1)] = ("merged",)
    """Of `experts`: the choices for a modality's own tokens, each crossed with every method."""
    tasks: Names
    """What a merge is ranked by, each task counting alike."""
    skills: Names = ()
    """What the base can do and may be forgotten."""
    validation: Names = ()
    """Tasks that scales are chosen on; none of them may be among the others."""
    scales: Annotated[tuple[float, ...], Field(strict=False, min_length=1)] = (1.0,)
    """Multiples of a merged delta to choose from; 1 leaves the method as it is."""
    seeds: int = Field(default=3, ge=1)
    """Runs of methods that draw random numbers."""
    limit: int | None = Field(default=None, ge=1)
    """Questions per task and set of modalities; null: all."""
    variants: Mapping[str, Variant] = Field(default_factory=dict)
    """Methods with other settings, compared beside those at their defaults."""

    @property
    def kind(self) -> Literal["merge", "compose"]:
        """Whether fine-tunes are merged, or experts composed."""
        return "merge" if self.models else "compose"

    @property
    def num_models(self) -> int:
        """How many take part in a merge."""
        return len(self.models or self.experts)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if bool(self.models) == bool(self.experts):
            raise ValueError("expected either `models:` or `experts:`, and not both.")
        if shared := sorted({*self.validation} & {*self.tasks, *self.skills}):
            raise ValueError(
                f"validation: {', '.join(shared)} also counts for the ranking. Choose scales on "
                "questions that nothing is ranked by."
            )
        if self.scales != (1.0,) and not self.validation:
            raise ValueError("scales: there is no `validation:` to choose them on. Name tasks.")
        if 1.0 not in self.scales:
            raise ValueError("scales: 1, which leaves a method as it is, must be among them.")
        if self.kind == "compose" and self.scales != (1.0,):
            raise ValueError("scales: only merges of `models:` are scaled. Leave it out.")
        return self


def read_suite(name: str) -> Suite:
    """A shipped suite by name, or one from a YAML file.

    Raises:
        RecipeError: no such suite or file, or one error that lists every mistake in it.
    """
    path = FOLDER / f"{name}.yaml" if name in SUITES else Path(name)
    if not path.is_file():
        near = get_close_matches(name, SUITES, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise RecipeError(
            f"SUITE: found {name!r}, expected a YAML file or one of {', '.join(SUITES)}. {hint}"
        )
    file = read_yaml(path)
    try:
        content = {"name": path.stem} | file.content
        return Suite.model_validate(content, context={"folder": path.parent.resolve()})
    except ValidationError as err:
        raise RecipeError("\n".join(describe_problems(err, Suite, file))) from err
