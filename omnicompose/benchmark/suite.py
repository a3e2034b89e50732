"""What a benchmark compares: models, tasks, and the questions that coefficients are chosen on."""

from collections.abc import Iterable, Mapping
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
    models: Names = ()
    """Which of the suite's `models` it merges; empty: as many as it takes."""


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
    pair: Names = ()
    """Of `models`, the two that methods of no more get; a method of one gets the first."""
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
    calibration: Mapping[str, str] = Field(default_factory=dict)
    """Of `models`, by name: the task whose questions are shown to methods that look at data."""
    calibration_limit: int = Field(default=32, ge=1)
    """Questions of each of those tasks, the first ones."""
    budgets: Mapping[str, Parameters] = Field(default_factory=dict)
    """By method, settings that keep its search short; a row shows them as its parameters."""

    @property
    def kind(self) -> Literal["merge", "compose"]:
        """Whether fine-tunes are merged, or experts composed."""
        return "merge" if self.models else "compose"

    @property
    def num_models(self) -> int:
        """How many take part in a merge."""
        return len(self.models or self.experts)

    @property
    def own_content(self) -> dict[str, object]:
        """What every row depends on."""
        of_some = {"summary", "variants", "pair", "calibration", "calibration_limit", "budgets"}
        return self.model_dump(mode="json", exclude=of_some)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if bool(self.models) == bool(self.experts):
            raise ValueError("expected either `models:` or `experts:`, and not both.")
        self._check_names()
        self._check_scales()
        self._check_calibration()
        chosen = {"validation": self.validation, "calibration": self.calibration.values()}
        for key, names in chosen.items():
            if shared := sorted(_plain(names) & _plain((*self.tasks, *self.skills))):
                raise ValueError(
                    f"{key}: {', '.join(shared)} also counts for the ranking. Choose coefficients "
                    "on questions that nothing is ranked by."
                )
        return self

    def _check_names(self) -> None:
        if self.pair and len(set(self.pair)) != 2:
            raise ValueError(f"pair: found {list(self.pair)}, expected two different models.")
        picked = {"pair": self.pair} | {
            f"variants.{label}.models": variant.models for label, variant in self.variants.items()
        }
        for key, names in picked.items():
            if len(set(names)) < len(names):
                raise ValueError(f"{key}: found {list(names)}, expected each model once.")
            if unknown := [name for name in names if name not in self.models]:
                raise ValueError(
                    f"{key}: found {unknown[0]!r}, expected names under `models:` "
                    f"({', '.join(self.models) or 'there are none'})."
                )

    def _check_scales(self) -> None:
        if self.scales != (1.0,) and not self.validation:
            raise ValueError("scales: there is no `validation:` to choose them on. Name tasks.")
        if 1.0 not in self.scales:
            raise ValueError("scales: 1, which leaves a method as it is, must be among them.")
        if self.kind == "compose" and self.scales != (1.0,):
            raise ValueError("scales: only merges of `models:` are scaled. Leave it out.")

    def _check_calibration(self) -> None:
        if self.calibration and self.kind == "compose":
            raise ValueError(
                "calibration: only merges of `models:` are shown data here. Leave it out."
            )
        if self.calibration and self.calibration.keys() != self.models.keys():
            raise ValueError(
                f"calibration: found tasks of {', '.join(self.calibration)}, expected one task of "
                f"each of {', '.join(self.models)}."
            )


def _plain(names: Iterable[str]) -> set[str]:
    """Tasks, whatever is shown of their media: the answers are the same."""
    return {name.partition("@")[0] for name in names}


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
