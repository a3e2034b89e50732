"""What was asked for: the two kinds of recipe, read strictly, with every mistake reported at once.

A `ComposeRecipe` joins experts of different modalities into one composite (`omnicompose compose`);
a `MergeRecipe` merges fine-tunes of one architecture, or any safetensors (`omnicompose merge`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError, field_validator

from omnicompose.errors import RecipeError
from omnicompose.recipe_fields import (
    Dtype,
    ModalityName,
    ModalityPolicy,
    Parameters,
    SizeField,
    SourceField,
    Strict,
)
from omnicompose.recipe_parts import (
    MERGE_ROLES,
    Expert,
    Model,
    Override,
    Roles,
    Stage,
    Stages,
    Streams,
    TextMerge,
)
from omnicompose.recipe_problems import describe_problems, did_you_mean
from omnicompose.recipe_yaml import YamlFile, read_yaml

__all__ = [
    "ComposeRecipe",
    "Expert",
    "MergeRecipe",
    "Model",
    "Override",
    "Roles",
    "Stage",
    "Streams",
    "TextMerge",
    "read_compose_recipe",
    "read_merge_recipe",
    "read_recipe",
    "recipe_from_manifest",
    "recipe_schema",
]


class _Common(Strict):
    """What both kinds of recipe say."""

    overrides: Annotated[tuple[Override, ...], Field(strict=False)] = ()
    """Other treatments by tensor name; the first match wins."""
    vocabulary: Literal["base", "union"] = "base"
    """`base` keeps the base's tokens; `union` adds the rows of tokens that only experts have."""
    dtype: Dtype | None = None
    """Of the result; null keeps each tensor's own."""
    shard_size: SizeField = 5 * 1000**3
    """Largest size of one weights file, such as `5GB`."""
    seed: int = Field(default=0, ge=0)
    """Of random methods."""
    allow_pickle: bool = False
    """Read `.bin` weights too, without running any code in them."""
    trust_remote_code: bool = False
    """Run the code that a checkpoint brings for its tokenizer or preprocessor; read it first."""
    allow_nonfinite: bool = False
    """Let NaN and infinite weights pass; otherwise they are an error."""


class ComposeRecipe(_Common):
    """Experts of different modalities become one composite (`omnicompose compose`)."""

    base: SourceField
    """The LLM that every expert's backbone descends from."""
    experts: Mapping[ModalityName, Expert]
    """The experts by modality, in the order of the composite."""
    text: TextMerge = TextMerge()
    """What text tokens use: the merge of the experts' backbones."""
    modality: ModalityPolicy = "merged"
    """What a modality's own tokens use: `merged` (the text weights), `exact` (their expert's own),
    `masked` (the merged delta through a one-bit mask) or `emr`."""
    streams: Streams = Streams()
    """How the modality's own weights are kept."""
    roles: Roles = Roles()
    """What happens to each kind of backbone tensor."""
    allow_different_base: bool = False
    """Accept experts whose backbones name another base but have its shape."""

    @field_validator("experts", mode="before")
    @classmethod
    def _check_experts(cls, experts: object) -> object:
        if not experts:
            raise ValueError(
                "no experts. Name at least one by its modality, such as "
                "`image: {source: zoo:image-standard}`."
            )
        return experts


class MergeRecipe(_Common):
    """Fine-tunes of one architecture become one model (`omnicompose merge`)."""

    layout: Literal["model", "raw"] = "model"
    """`model`: whole models with a config; `raw`: any safetensors, by tensor name."""
    base: SourceField | None = None
    """The common ancestor; needed by methods that work on deltas."""
    models: Annotated[tuple[Model, ...], Field(strict=False)]
    """What is merged. Without a base the first one lends config and tokenizer."""
    method: str = "linear"
    """The merging method; `omnicompose methods` lists them."""
    parameters: Parameters = Field(default_factory=dict)
    """Settings of the method; `omnicompose methods NAME` lists them."""
    profile: str | None = None
    """A named set of a reference implementation's settings, such as `mergekit`."""
    then: Stages = ()
    """Methods on top of the merged delta, one after the other."""
    output: Literal["model", "bundle"] = "model"
    """`model`: one model; `bundle`: for `emr` and `tall`, one shared delta with a mask and a scale
    per expert, from which each comes back."""
    special_tokens_from: str | None = None
    """With `vocabulary: union`: the name of the model whose special tokens, chat template and
    generation settings the result takes; null: the base's, or the first model's without a base."""
    roles: Roles = MERGE_ROLES
    """What happens to each kind of tensor."""

    @field_validator("roles", mode="before")
    @classmethod
    def _fill_roles(cls, roles: object) -> object:
        """Roles that are not named stay with the method, as they do where none is named."""
        return MERGE_ROLES.model_dump() | roles if isinstance(roles, dict) else roles

    @field_validator("models")
    @classmethod
    def _check_models(cls, models: tuple[Model, ...]) -> tuple[Model, ...]:
        if not models:
            raise ValueError("no models. Name at least one: `- {source: path-or-id}`.")
        labels = [model.label for model in models]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise ValueError(f"two models are called {twice[0]!r}. Give each its own `name:`.")
        return models


def read_recipe(path: Path) -> ComposeRecipe | MergeRecipe:
    """Read a recipe file; relative paths in it start from its folder.

    Args:
        path: a YAML file; `experts:` makes it a compose recipe, `models:` a merge recipe.

    Raises:
        RecipeError: one error that lists every mistake as `path:line: message`.
    """
    file = read_yaml(path)
    kind = _kind(file)
    try:
        return kind.model_validate(file.content, context={"folder": path.parent.resolve()})
    except ValidationError as err:
        raise RecipeError("\n".join(describe_problems(err, kind, file))) from err


def read_compose_recipe(path: Path) -> ComposeRecipe:
    """Read a recipe for `omnicompose compose`.

    Raises:
        RecipeError: as `read_recipe`, or it is a merge recipe.
    """
    recipe = read_recipe(path)
    if isinstance(recipe, ComposeRecipe):
        return recipe
    raise RecipeError(f"{path}: found `models:`, a merge recipe. Use `omnicompose merge`.")


def read_merge_recipe(path: Path) -> MergeRecipe:
    """Read a recipe for `omnicompose merge`.

    Raises:
        RecipeError: as `read_recipe`, or it is a compose recipe.
    """
    recipe = read_recipe(path)
    if isinstance(recipe, MergeRecipe):
        return recipe
    raise RecipeError(f"{path}: found `experts:`, a compose recipe. Use `omnicompose compose`.")


def recipe_from_manifest(data: Mapping[str, object], folder: Path) -> ComposeRecipe | MergeRecipe:
    """The recipe that a manifest recorded.

    Args:
        data: as `model_dump(mode="json")` gave it.
        folder: what its relative paths start from.

    Raises:
        RecipeError: it is no recipe, or a path in it does not exist there.
    """
    kind = ComposeRecipe if "experts" in data else MergeRecipe
    try:
        return kind.model_validate(data, context={"folder": folder.resolve()})
    except ValidationError as err:
        mistakes = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in err.errors()]
        raise RecipeError("; ".join(mistakes)) from err


def _kind(file: YamlFile) -> type[ComposeRecipe] | type[MergeRecipe]:
    kinds = {"experts": ComposeRecipe, "models": MergeRecipe}
    named = [key for key in kinds if key in file.content]
    if len(named) == 2:
        line = max(file.line([key], of_key=True) for key in named)
        raise RecipeError(file.message(line, "`experts` and `models` in one recipe. Keep one."))
    # A misspelt key is reported as such, together with all other mistakes.
    named += [key for key in kinds for found in file.content if did_you_mean(found, [key])]
    if not named:
        raise RecipeError(
            file.message(
                1,
                "no experts. Name `experts:` by modality, such as "
                "`experts: {image: {source: zoo:image-standard}}`, or `models:` for a merge.",
            )
        )
    return ComposeRecipe if named[0] == "experts" else MergeRecipe


def recipe_schema() -> dict[str, object]:
    """The JSON schema of both kinds of recipe, for editors that complete and check YAML."""
    adapter: TypeAdapter[ComposeRecipe | MergeRecipe] = TypeAdapter(ComposeRecipe | MergeRecipe)
    schema = adapter.json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "recipe"} | schema
